"""Inference by tfx-bsl's own model handler in Beam's RunInference: strips in, PredictionLogs out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from dlts_beam.beam.handler import (
    NAMESPACE,
    Answers,
    Cube,
    Probabilities,
    Read,
    Result,
    Skipped,
    Unread,
    keep_freed_memory,
    labelled_pixels,
    lay_out,
    nothing_wanted,
)
from dlts_beam.engines.tfx_bsl import answer_of, create_handler, load_planned, request_of
from dlts_beam.grid import Window
from dlts_beam.spec import PreparationSpec, ServingSpec


class StripKey(NamedTuple):
    """What the answers of one strip are to be matched with.

    Attributes:
        key: of the window.
        window: its pixels.
        labelled: bool (h, w): pixels of the window that are computed.
        outputs, pixels: int64 (n,), see `Strip`.
        ready: the window's result, where nothing of it is computed.
    """

    key: Any
    window: Window
    labelled: np.ndarray
    outputs: np.ndarray
    pixels: np.ndarray
    ready: Result | None = None


class InferStrips(beam.PTransform):
    """(key, Read) -> (key, Result).

    One element of RunInference is one strip: its PredictionLog carries the whole request, so the next step
    of the same fused stage takes the answers out at once. A window of which nothing is computed sends one
    empty strip along, since all windows of a tile must come out of the same stage.
    """

    def __init__(
        self,
        folder: str,
        serving: ServingSpec,
        preparation: PreparationSpec,
        days: np.ndarray,
        digest: str | None = None,
    ) -> None:
        """Look at the SavedModel in the serving folder; workers load only that of the digest, if given.

        Raises:
            DltsError: tfx-bsl is not there, or the model is not what its spec says.
        """
        super().__init__()
        self._serving, self._preparation, self._days = serving, preparation, days
        self._handler = _Handler(create_handler(folder, serving), folder, serving, digest)

    def expand(self, windows: beam.PCollection[tuple[Any, Read]]) -> beam.PCollection[tuple[Any, Result]]:
        return (
            windows
            | "CutStrips" >> beam.ParDo(_CutStrips(self._serving, self._preparation, self._days))
            | "RunInference" >> RunInference(self._handler)
            | "CollectAnswers" >> beam.ParDo(_CollectAnswers(self._serving))
        )


class _Handler(KeyedModelHandler):
    """tfx-bsl's handler for keyed strips, which says in one sentence what it cannot load."""

    def __init__(self, handler: Any, folder: str, serving: ServingSpec, digest: str | None) -> None:
        super().__init__(handler)
        self._folder, self._serving, self._digest = folder, serving, digest

    def load_model(self) -> Any:
        return load_planned(super().load_model, self._folder, self._serving, self._digest)


class _CutStrips(beam.DoFn):
    """(key, Read) -> (StripKey, request)."""

    def __init__(self, serving: ServingSpec, preparation: PreparationSpec, days: np.ndarray) -> None:
        self._serving, self._preparation, self._days = serving, preparation, days
        self._prepare_micros = Metrics.counter(NAMESPACE, "prepare_micros")
        self._computed = Metrics.counter(NAMESPACE, "pixels_computed")

    def setup(self) -> None:
        keep_freed_memory()

    def process(self, element: tuple[Any, Read]) -> Iterator[tuple[StripKey, bytes]]:
        key, read = element
        if not isinstance(read, Cube):
            yield self._empty(key, read if isinstance(read, Unread) else self._skipped(read))
            return
        started = time.perf_counter_ns()
        labelled = labelled_pixels(read, self._days, self._preparation)
        for strip in lay_out(read, labelled, self._days, self._preparation, self._serving):
            request = request_of(strip.cube, self._serving)
            self._prepare_micros.inc((time.perf_counter_ns() - started) // 1000)
            yield StripKey(key, read.window, labelled, strip.outputs, strip.pixels), request
            started = time.perf_counter_ns()
        self._computed.inc(int(labelled.sum()))
        if not labelled.any():
            yield self._empty(key, self._skipped(Skipped(read.window)))

    def _skipped(self, skipped: Skipped) -> Probabilities:
        return nothing_wanted(skipped, self._serving.classes)

    def _empty(self, key: Any, ready: Result) -> tuple[StripKey, bytes]:
        none = np.empty(0, np.int64)
        request = request_of(np.zeros(self._serving.strip_shape, np.float32), self._serving)
        return StripKey(key, Window(0, 0, 0, 0), np.empty((0, 0), bool), none, none, ready), request


class _CollectAnswers(beam.DoFn):
    """(StripKey, PredictionLog) -> (key, Result), when all strips of a window are there."""

    def __init__(self, serving: ServingSpec) -> None:
        self._serving = serving
        self._open: dict[Any, Answers] = {}

    def start_bundle(self) -> None:
        self._open = {}

    def process(self, element: tuple[StripKey, Any]) -> Iterator[tuple[Any, Result]]:
        strip, log = element
        if strip.ready is not None:
            yield strip.key, strip.ready
            return
        answers = self._open.get(strip.key)
        if answers is None:
            answers = self._open[strip.key] = Answers(strip.window, strip.labelled, self._serving.classes)
        answers.add(strip.outputs, strip.pixels, answer_of(log))
        if not answers.missing:
            del self._open[strip.key]
            yield strip.key, answers.result()

    def finish_bundle(self) -> None:
        if self._open:
            raise RuntimeError(f"the bundle ended before all strips came of {list(self._open)}")
