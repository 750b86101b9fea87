"""Our model handler for Beam's RunInference: one element is one window, predicted in fixed batches."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler

from dlts_beam.engines import Engine, load_engine, require_gpu
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.postprocess import quantise
from dlts_beam.spec import PreparationSpec, ServingSpec
from dlts_beam.tensors.inputs import prepare_window
from dlts_beam.tensors.patches import Strip, iter_strips, replicate_edges
from dlts_beam.tensors.preparation import count_observations, prepare

NAMESPACE = "dlts"
# glibc's mallopt: keep freed memory, so that temporaries are not given back to the kernel and zeroed
# again for every strip. The parameters are M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD.
_TRIM, _PAD, _MAP = (-1, 1 << 30), (-2, 64 << 20), -3
# Larger blocks do go back. Those of a window should; those that an engine asks for again and again should
# not, and TensorFlow has such of more than ten MiB, while ONNX Runtime keeps its own.
_LARGEST_KEPT = {"onnx": 8 << 20}
_LARGEST_KEPT_ELSE = 32 << 20


@dataclass
class Cube:
    """What was read for one window.

    Attributes:
        window: the pixels to classify.
        read: the pixels that were read: the window and its halo, cut at the grid's edges.
        values: float32 (T, H, W, B) of ``read``.
        valid: bool, same shape.
        wanted: bool (h, w) of ``window``: pixels of the area of interest; None for all.
    """

    window: Window
    read: Window
    values: np.ndarray
    valid: np.ndarray
    wanted: np.ndarray | None = None
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.nbytes = self.values.nbytes + self.valid.nbytes

    def release(self) -> None:
        """Let the pixels go: Beam keeps the element itself longer than anyone needs it."""
        self.values, self.valid = np.empty(0, np.float32), np.empty(0, bool)


class Unread(NamedTuple):
    """A window that could not be read, where the user asked to go on: why."""

    reason: str


class Skipped(NamedTuple):
    """A window without any wanted pixel: it was not read."""

    window: Window


class Probabilities(NamedTuple):
    """What the model says of one window.

    Attributes:
        labelled: bool (h, w): pixels that were computed.
        quantised: uint16 (n, K) of the labelled pixels, row by row.
    """

    labelled: np.ndarray
    quantised: np.ndarray


Read = Cube | Unread | Skipped
Result = Probabilities | Unread


class WindowModelHandler(ModelHandler[Read, Result, Engine]):
    """Loads a serving model and predicts windows with it; no reading, no writing, no argmax.

    Windows go through one at a time; within a window pixels go through in strips of the serving
    model's fixed batch, so that results depend neither on timing nor on how the grid was cut.
    """

    def __init__(
        self,
        folder: str,
        serving: ServingSpec,
        preparation: PreparationSpec,
        days: np.ndarray,
        engine: str,
        gpu: bool = False,
        digest: str | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            folder: the serving folder.
            days: float64 (T,): days of the series' time steps.
            gpu: refuse to compute where there is no GPU.
            digest: load only the model that had it when the run was planned; None loads any.
        """
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._folder = folder
        self._serving = serving
        self._preparation = preparation
        self._days = days
        self._engine = engine
        self._gpu = gpu
        self._digest = digest
        self._prepare_micros = Metrics.counter(NAMESPACE, "prepare_micros")
        self._infer_micros = Metrics.counter(NAMESPACE, "infer_micros")
        self._computed = Metrics.counter(NAMESPACE, "pixels_computed")

    def load_model(self) -> Engine:
        """Load the engine; once per process."""
        keep_freed_memory(_LARGEST_KEPT.get(self._engine, _LARGEST_KEPT_ELSE))
        if self._gpu:
            require_gpu()
        return load_engine(self._folder, self._serving, self._engine, gpu=self._gpu, digest=self._digest)

    def run_inference(
        self,
        batch: Sequence[Read],
        model: Engine,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[Result]:
        """Yield one result per window, in order; the cubes are released."""
        for element in batch:
            if isinstance(element, Unread):
                yield element
            elif isinstance(element, Skipped):
                yield nothing_wanted(element, self._serving.classes)
            else:
                yield self._predict(element, model)

    def get_num_bytes(self, batch: Sequence[Read]) -> int:
        """Bytes of the pixels in a batch."""
        return sum(cube.nbytes for cube in batch if isinstance(cube, Cube))

    def get_metrics_namespace(self) -> str:
        """Namespace of RunInference's own metrics."""
        return NAMESPACE

    def _predict(self, cube: Cube, engine: Engine) -> Probabilities:
        started = time.perf_counter_ns()
        labelled = labelled_pixels(cube, self._days, self._preparation)
        answers = Answers(cube.window, labelled, self._serving.classes)
        predicting = 0
        for strip in lay_out(cube, labelled, self._days, self._preparation, engine.spec):
            before = time.perf_counter_ns()
            probabilities = engine.predict(strip.cube)
            predicting += time.perf_counter_ns() - before
            answers.add(strip.outputs, strip.pixels, probabilities)
        self._computed.inc(len(answers.quantised))
        self._infer_micros.inc(predicting // 1000)
        self._prepare_micros.inc((time.perf_counter_ns() - started - predicting) // 1000)
        return answers.result()


class Answers:
    """What the model says of one window, strip by strip.

    Attributes:
        quantised: uint16 (n, K) of the labelled pixels, row by row.
        missing: labelled pixels that have no answer yet.
    """

    def __init__(self, window: Window, labelled: np.ndarray, classes: int) -> None:
        """Begin with none; ``labelled`` is bool (h, w)."""
        self._window = window
        self._labelled = labelled
        self._place = np.cumsum(labelled.ravel()) - 1
        self.missing = int(labelled.sum())
        self.quantised = np.empty((self.missing, classes), np.uint16)

    def add(self, outputs: np.ndarray, pixels: np.ndarray, probabilities: np.ndarray) -> None:
        """Take the answers of one strip: of these ``outputs`` for these ``pixels`` (see `Strip`).

        Raises:
            DltsError: they are no probabilities.
        """
        try:
            self.quantised[self._place[pixels]] = quantise(probabilities[outputs])
        except ValueError as error:
            raise DltsError(
                f"the model gives no probabilities for the window at row {self._window.row}"
                f" col {self._window.col}: {error}; train it again"
            ) from error
        self.missing -= len(pixels)

    def result(self) -> Probabilities:
        """The window's result; raises RuntimeError while pixels are missing."""
        if self.missing:
            raise RuntimeError(f"{self.missing} pixels of {self._window} got no answer")
        return Probabilities(self._labelled, self.quantised)


def lay_out(
    cube: Cube, labelled: np.ndarray, days: np.ndarray, preparation: PreparationSpec, serving: ServingSpec
) -> Iterator[Strip]:
    """Prepare a window, let its cube go, and give it out in strips of the serving model's batch."""
    if not labelled.any():
        return
    prepared = prepare_cube(cube, labelled, days, preparation, serving.halo)
    cube.release()
    prepared = replicate_edges(prepared, cube.read, cube.window.grow(serving.halo))
    yield from iter_strips(prepared, serving.halo, serving.batch, labelled)


def nothing_wanted(skipped: Skipped, classes: int) -> Probabilities:
    """The result of a window without any wanted pixel."""
    shape = skipped.window.height, skipped.window.width
    return Probabilities(np.zeros(shape, bool), np.empty((0, classes), np.uint16))


def labelled_pixels(cube: Cube, days: np.ndarray, spec: PreparationSpec) -> np.ndarray:
    """Bool (h, w): pixels whose own observations on the model's timeline suffice, in the area of interest.

    Args:
        days: float64 (T,) of the cube's time steps.
    """
    rows, cols = cube.window.within(cube.read).slices
    labelled = count_observations(cube.valid[:, rows, cols], days, spec.timeline) >= spec.min_valid
    return labelled if cube.wanted is None else labelled & cube.wanted


def prepare_cube(
    cube: Cube, labelled: np.ndarray, days: np.ndarray, spec: PreparationSpec, halo: int
) -> np.ndarray:
    """The model's input for the pixels that were read: float32 (T', H, W, B').

    The grid's edges are still to be repeated, which takes a copy: the cube itself can go before that.
    """
    if halo > 0 or 2 * int(labelled.sum()) >= labelled.size:
        return prepare_window(cube.values, cube.valid, days, spec, cube.read, cube.read)
    # Preparation works pixel by pixel, so the pixels that nobody wants may stay unprepared.
    some = prepare(cube.values[:, labelled], cube.valid[:, labelled], days, spec)
    prepared = np.zeros((len(some), *labelled.shape, some.shape[2]), np.float32)
    prepared[:, labelled] = some
    return prepared


def keep_freed_memory(largest: int = _LARGEST_KEPT_ELSE) -> None:
    """Tell glibc to keep freed blocks up to a size for the next strip; other C libraries are left alone."""
    mallopt = _libc("mallopt")
    if mallopt is not None:
        for parameter, value in (_TRIM, _PAD, (_MAP, largest)):
            mallopt(parameter, value)


def give_freed_memory_back() -> None:
    """Undo what was kept, when no more strips come."""
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)


def _libc(name: str) -> Any:
    """A function of glibc, or None where there is none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
