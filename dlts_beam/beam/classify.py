"""Classify tiles: read, infer and write in one fused stage; only specs and small records cross a shuffle."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam import coders
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from dlts_beam.beam.handler import (
    NAMESPACE,
    Cube,
    Probabilities,
    Read,
    Result,
    Skipped,
    Unread,
    WindowModelHandler,
)
from dlts_beam.certificate import TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.grid import Tile, Window, split_window
from dlts_beam.io.area import Area
from dlts_beam.io.raster.parts import Part, checksum, write_part
from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.postprocess import label_pixels, map_values
from dlts_beam.retry import retried
from dlts_beam.spec import ModelSpec, SeriesSpec


class TileTask(NamedTuple):
    """One tile to compute: where it is, and the key of its content."""

    tile: Tile
    key: str


class WindowKey(NamedTuple):
    """Which window of which tile an array belongs to: number ``number`` of ``of``."""

    task: TileTask
    window: Window
    number: int
    of: int


@dataclass(frozen=True)
class ClassifySettings:
    """All that the stage needs; travels to the workers.

    Attributes:
        series: the interval of the series that is classified.
        model: ``model.json``.
        serving: folder of the serving model.
        engine: name of the engine.
        window_height, window_width: largest window.
        parts: folder of the tiles' files.
        probabilities: also write them.
        quarantine: go on where a window cannot be read; its tile gets no part.
        area: pixels that are wanted; None for all.
        gpu: refuse workers without a GPU.
        hints: Beam's resource hints for the stage.
    """

    series: SeriesSpec
    model: ModelSpec
    serving: str
    engine: str
    window_height: int
    window_width: int
    parts: str
    probabilities: bool = False
    quarantine: bool = False
    area: Area | None = None
    gpu: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)


class ClassifyTiles(beam.PTransform):
    """TileTask -> TileRecord; the tile's files are written on the way.

    The reshuffle spreads the tiles over the workers. Behind it everything is one fused stage: pixels
    never leave the worker.
    """

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, tasks: beam.PCollection[TileTask]) -> beam.PCollection[TileRecord]:
        # Steps with different hints are never fused, so all three have the same ones.
        hints = self._settings.hints
        return (
            tasks
            | "SpreadTiles" >> beam.Reshuffle()
            | "ReadWindows" >> ReadWindows(self._settings).with_resource_hints(**hints)
            | "InferWindows" >> InferWindows(self._settings).with_resource_hints(**hints)
            | "WriteTiles" >> WriteTiles(self._settings).with_resource_hints(**hints)
        )


class WindowData:
    """Type hint of what travels for one window: a Cube, Unread or Skipped."""


class WindowCoder(coders.Coder):
    """Pickles a window's data where a runner must, and tells its size without doing so.

    Beam samples the sizes of what passes between two steps; its general coder would pickle whole cubes
    just to count their bytes.
    """

    def encode(self, value: Read) -> bytes:
        """The bytes of a pickle."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Read:
        """What `encode` was given."""
        data: Read = pickle.loads(encoded)
        return data

    def estimate_size(self, value: Read) -> int:
        """Bytes of the arrays."""
        return value.nbytes if isinstance(value, Cube) else 64

    def is_deterministic(self) -> bool:
        """False: nobody groups by it."""
        return False


coders.registry.register_coder(WindowData, WindowCoder)


class ReadWindows(beam.PTransform):
    """TileTask -> (WindowKey, Read), the windows of a tile one after the other."""

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, tasks: beam.PCollection[TileTask]) -> beam.PCollection[tuple[WindowKey, Read]]:
        hint = tuple[Any, WindowData]
        return tasks | "Read" >> beam.ParDo(_ReadWindows(self._settings)).with_output_types(hint)


class InferWindows(beam.PTransform):
    """(WindowKey, Read) -> (WindowKey, Result), by Beam's RunInference."""

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._inference = _inference(settings)

    def expand(
        self, cubes: beam.PCollection[tuple[WindowKey, Read]]
    ) -> beam.PCollection[tuple[WindowKey, Result]]:
        return cubes | "RunInference" >> self._inference


def _inference(settings: ClassifySettings) -> beam.PTransform:
    """How the engine takes part in RunInference: with our model handler or with tfx-bsl's own."""
    if settings.engine != "tfx-bsl":
        return RunInference(KeyedModelHandler(make_handler(settings)))
    from dlts_beam.beam.tfx_inference import InferStrips

    model = settings.model
    return InferStrips(settings.serving, model.serving, model.preparation, settings.series.days)


def make_handler(settings: ClassifySettings) -> WindowModelHandler:
    """The model handler of a run."""
    model = settings.model
    return WindowModelHandler(
        settings.serving,
        model.serving,
        model.preparation,
        settings.series.days,
        settings.engine,
        settings.gpu,
    )


class WriteTiles(beam.PTransform):
    """(WindowKey, Result) -> TileRecord: label, collect the windows, write the files."""

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, windows: beam.PCollection[tuple[WindowKey, Result]]) -> beam.PCollection[TileRecord]:
        return windows | "Write" >> beam.ParDo(_WriteTiles(self._settings))


class _ReadWindows(beam.DoFn):
    """Reads one window ahead, over the ends of tiles too, in a thread of its own.

    So the last window of a tile is given out when the first one of the next tile is being read, and
    that of the last tile when the bundle ends.
    """

    def __init__(self, settings: ClassifySettings) -> None:
        self._settings = settings
        self._halo = settings.model.serving.halo
        self._read_micros = Metrics.counter(NAMESPACE, "read_micros")
        self._wait_micros = Metrics.counter(NAMESPACE, "wait_micros")
        self._read_bytes = Metrics.counter(NAMESPACE, "bytes_read")

    def setup(self) -> None:
        self._reader = SeriesReader(self._settings.series, self._settings.model.preparation.bands)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead: tuple[WindowKey, Future[tuple[Read, int]]] | None = None

    def start_bundle(self) -> None:
        # A bundle that failed may have left a window behind.
        self._ahead = None

    def process(self, task: TileTask) -> Iterator[tuple[WindowKey, Read]]:
        height, width = self._settings.window_height, self._settings.window_width
        windows = list(split_window(task.tile.window, height, width))
        for number, window in enumerate(windows):
            behind = self._ahead
            key = WindowKey(task, window, number, len(windows))
            self._ahead = key, self._thread.submit(self._read, window)
            if behind is not None:
                yield self._wait(*behind)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        behind, self._ahead = self._ahead, None
        if behind is not None:
            window = GlobalWindow()
            yield WindowedValue(self._wait(*behind), window.max_timestamp(), [window])

    def teardown(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._reader.close()
        if self._settings.area is not None:
            self._settings.area.close()

    def _wait(self, key: WindowKey, reading: Future[tuple[Read, int]]) -> tuple[WindowKey, Read]:
        started = time.perf_counter_ns()
        cube, micros = reading.result()
        self._wait_micros.inc((time.perf_counter_ns() - started) // 1000)
        # Metrics belong to the bundle's thread, so the reading thread only tells its time.
        self._read_micros.inc(micros)
        if isinstance(cube, Cube):
            self._read_bytes.inc(cube.nbytes)
        return key, cube

    def _read(self, window: Window) -> tuple[Read, int]:
        """Read one window, in the reading thread; the second value is the time it took, in microseconds."""
        started = time.perf_counter_ns()
        read = window.grow(self._halo).intersect(self._settings.series.grid.window)
        assert read is not None
        cube: Read
        try:
            wanted = None if self._settings.area is None else self._settings.area.inside(window)
            if wanted is not None and not wanted.any():
                cube = Skipped(window)
            else:
                values, valid = retried(
                    lambda: self._reader.read(read), lambda error: isinstance(error, UnreadableSourceError)
                )
                cube = Cube(window, read, values, valid, wanted)
        except DltsError as error:
            if not self._settings.quarantine:
                raise
            cube = Unread(str(error))
        return cube, (time.perf_counter_ns() - started) // 1000


@dataclass
class _OpenTile:
    """A tile whose windows are still coming."""

    values: np.ndarray
    probabilities: np.ndarray | None
    counts: np.ndarray
    seen: set[int] = field(default_factory=set)
    broken: str | None = None


class _WriteTiles(beam.DoFn):
    """Collects the windows of one tile after the other; a bundle always holds whole tiles."""

    def __init__(self, settings: ClassifySettings) -> None:
        self._settings = settings
        self._write_micros = Metrics.counter(NAMESPACE, "write_micros")
        self._tiles = Metrics.counter(NAMESPACE, "tiles")
        self._pixels = Metrics.counter(NAMESPACE, "pixels")
        self._open: dict[TileTask, _OpenTile] = {}

    def start_bundle(self) -> None:
        self._open = {}

    def process(self, element: tuple[WindowKey, Result]) -> Iterator[TileRecord]:
        started = time.perf_counter_ns()
        key, result = element
        opened = self._open.get(key.task)
        if opened is None:
            opened = self._open[key.task] = self._new(key.task.tile.window)
        if isinstance(result, Unread):
            opened.broken = opened.broken or result.reason
        else:
            self._fill(opened, key, result)
        opened.seen.add(key.number)
        if len(opened.seen) == key.of:
            del self._open[key.task]
            yield self._finish(key.task, opened)
        self._write_micros.inc((time.perf_counter_ns() - started) // 1000)

    def finish_bundle(self) -> None:
        if self._open:
            names = ", ".join(task.tile.key for task in self._open)
            raise RuntimeError(f"the bundle ended before all windows of these tiles came: {names}")

    def _new(self, window: Window) -> _OpenTile:
        classes = self._settings.model.classes
        shape = window.height, window.width
        return _OpenTile(
            values=np.full(shape, classes.nodata, classes.map_dtype),
            probabilities=self._empty_probabilities(shape),
            counts=np.zeros(len(classes), np.int64),
        )

    def _empty_probabilities(self, shape: tuple[int, int]) -> np.ndarray | None:
        if not self._settings.probabilities:
            return None
        return np.full((*shape, len(self._settings.model.classes)), NO_PROBABILITY, np.uint16)

    def _fill(self, opened: _OpenTile, key: WindowKey, result: Probabilities) -> None:
        classes = self._settings.model.classes
        place = key.window.within(key.task.tile.window).slices
        ids = label_pixels(result.quantised)
        computed = np.ones(len(ids), bool)
        opened.values[place][result.labelled] = map_values(ids, computed, classes)
        if opened.probabilities is not None:
            opened.probabilities[place][result.labelled] = result.quantised
        opened.counts += np.bincount(ids, minlength=len(classes))

    def _finish(self, task: TileTask, opened: _OpenTile) -> TileRecord:
        pixels = task.tile.window.pixels
        self._tiles.inc()
        self._pixels.inc(pixels)
        if opened.broken is not None:
            none = (0,) * len(opened.counts)
            return TileRecord(
                task.tile.key, task.tile.window, task.key, "", none, pixels, quarantined=opened.broken
            )
        chances = opened.probabilities
        record = TileRecord(
            name=task.tile.key,
            window=task.tile.window,
            key=task.key,
            checksum=checksum(opened.values),
            counts=tuple(int(count) for count in opened.counts),
            nodata=pixels - int(opened.counts.sum()),
            probabilities=None if chances is None else checksum(chances),
        )
        grid, nodata = self._settings.series.grid, self._settings.model.classes.nodata
        part = Part(opened.values, chances)
        retried(lambda: write_part(self._settings.parts, record, part, grid, nodata))
        return record


NO_PROBABILITY = np.iinfo(np.uint16).max
