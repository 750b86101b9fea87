"""The first step of the classifying stage: windows of tiles, each read while the one before is computed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from dlts_beam.beam.handler import NAMESPACE, Cube, Read, Skipped, Unread
from dlts_beam.beam.stage import ClassifySettings, TileTask, WindowData, WindowKey
from dlts_beam.errors import DltsError, causes
from dlts_beam.grid import Window, split_window
from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.io.tile_area import AreaChangedError, planned_area
from dlts_beam.retry import retried

PATIENCE = 300.0  # seconds for which nobody waits again for an image that was waited for in vain


class ReadWindows(beam.PTransform):
    """TileTask -> (WindowKey, Read), the windows of a tile one after the other."""

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, tasks: beam.PCollection[TileTask]) -> beam.PCollection[tuple[WindowKey, Read]]:
        hint = tuple[Any, WindowData]
        return tasks | "Read" >> beam.ParDo(_ReadWindows(self._settings)).with_output_types(hint)


class _ReadWindows(beam.DoFn):
    """Reads one window ahead, over the ends of tiles too, in a thread of its own.

    So the last window of a tile is given out when the first one of the next tile is being read, and
    that of the last tile when the bundle ends.

    An image that was waited for in vain is still tried for every tile that needs it, but not waited for: it
    may come back, and there may be thousands of windows.
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
        # The wanted pixels of the tile that is being read; the reading thread's own.
        self._wanted: tuple[TileTask, np.ndarray] | None = None
        # Also its own: when waiting for what ended in vain, and the tile that is lost already.
        self._in_vain: dict[str, float] = {}
        self._lost: tuple[TileTask, Unread] | None = None

    def start_bundle(self) -> None:
        # A bundle that failed may have left a window behind.
        self._ahead = None

    def process(self, task: TileTask) -> Iterator[tuple[WindowKey, Read]]:
        height, width = self._settings.window_height, self._settings.window_width
        windows = list(split_window(task.tile.window, height, width))
        for number, window in enumerate(windows):
            behind = self._ahead
            key = WindowKey(task, window, number, len(windows))
            self._ahead = key, self._thread.submit(self._read, task, window)
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

    def _read(self, task: TileTask, window: Window) -> tuple[Read, int]:
        """Read one window of a tile, in the reading thread; also gives the time it took, in microseconds."""
        started = time.perf_counter_ns()
        read = window.grow(self._halo).intersect(self._settings.series.grid.window)
        assert read is not None
        cube: Read
        try:
            wanted = self._wanted_in(task, window)
            if wanted is not None and not wanted.any():
                cube = Skipped(window)
            elif (lost := self._lost_with(task, window)) is not None:
                cube = lost
            else:
                cube = Cube(window, read, *self._patiently(read), wanted)
        except DltsError as error:
            # Another area is another map: that is no single image to pass over.
            if not self._settings.quarantine or isinstance(error, AreaChangedError):
                raise
            cube = Unread(str(error))
            self._lost = task, cube
        return cube, (time.perf_counter_ns() - started) // 1000

    def _lost_with(self, task: TileTask, window: Window) -> Unread | None:
        """Why the tile is lost whatever this window holds; None where it is not, or where it begins anew."""
        first = (window.row, window.col) == (task.tile.window.row, task.tile.window.col)
        if self._lost is None or self._lost[0] != task or first:
            self._lost = None
            return None
        return self._lost[1]

    def _patiently(self, read: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read, and again after a pause where that may help."""

        def worth_it(error: DltsError) -> bool:
            if not isinstance(error, UnreadableSourceError) or _is_missing(error):
                return False
            ended = self._in_vain.get(error.image)
            return ended is None or time.monotonic() > ended + PATIENCE

        try:
            return retried(lambda: self._reader.read(read), worth_it)
        except UnreadableSourceError as error:
            # A run that ends here waits again when the tile comes back.
            if self._settings.quarantine and worth_it(error):
                self._in_vain[error.image] = time.monotonic()
            raise

    def _wanted_in(self, task: TileTask, window: Window) -> np.ndarray | None:
        """Bool (h, w): the wanted pixels of a window; None where no area is given."""
        if self._settings.area is None:
            return None
        if self._wanted is None or self._wanted[0] != task:
            self._wanted = None  # two tiles' pixels need not be held at once
            self._wanted = task, planned_area(self._settings.area, task.tile, task.area)
        rows, cols = window.within(task.tile.window).slices
        return self._wanted[1][rows, cols].copy()


def _is_missing(error: BaseException) -> bool:
    """True where a file that is not there is among the causes: it comes back later, if at all."""
    return any(isinstance(seen, FileNotFoundError) for seen in causes(error))
