"""The last step of the classifying stage: label windows, collect those of a tile, write its files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from dlts_beam.beam.handler import NAMESPACE, Probabilities, Result, Unread
from dlts_beam.beam.stage import ClassifySettings, TileTask, WindowKey
from dlts_beam.certificate import TileRecord
from dlts_beam.grid import Window
from dlts_beam.io.raster.parts import Part, checksum, write_part
from dlts_beam.postprocess import label_pixels, map_values
from dlts_beam.retry import retried

NO_PROBABILITY = np.iinfo(np.uint16).max


class WriteTiles(beam.PTransform):
    """(WindowKey, Result) -> TileRecord: label, collect the windows, write the files."""

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, windows: beam.PCollection[tuple[WindowKey, Result]]) -> beam.PCollection[TileRecord]:
        return windows | "Write" >> beam.ParDo(_WriteTiles(self._settings))


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
