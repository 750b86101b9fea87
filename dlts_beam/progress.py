"""How far a run is: a bar on a terminal, one line a minute elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

BAR = 30
ON_TERMINAL = 0.5  # seconds between two looks
ELSEWHERE = 60.0


class Progress:
    """Looks from time to time how many tiles are done, in a thread of its own, while the body runs."""

    def __init__(
        self,
        total: int,
        count: Callable[[], int],
        tile_pixels: float,
        stream: TextIO | None = None,
        interval: float | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            total: tiles to do.
            count: how many are done; asked from another thread.
            tile_pixels: mean number of pixels of a tile, for the speed.
            stream: where to tell; standard error by default.
            interval: seconds between two looks; by the kind of stream when None.
        """
        self._total = total
        self._count = count
        self._tile_pixels = tile_pixels
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = interval or (ON_TERMINAL if self._terminal else ELSEWHERE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal:
            if kind is None:
                self._tell(self._count())
            self._stream.write("\n")
            self._stream.flush()

    def _run(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            began = time.monotonic()
            self._tell(self._count())
            # Looking at many files takes time: at most a hundredth of it all.
            pause = max(self._interval, 100 * (time.monotonic() - began))

    def _tell(self, done: int) -> None:
        text = progress_text(done, self._total, time.monotonic() - self._started, self._tile_pixels)
        if self._terminal:
            filled = BAR * done // max(1, self._total)
            self._stream.write(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {text}\x1b[K")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def progress_text(done: int, total: int, seconds: float, tile_pixels: float) -> str:
    """``12 of 40 tiles, 1.20 Mpx/s, 0:35 left``."""
    text = f"{done} of {total} tiles"
    if done and seconds > 0:
        text += f", {done * tile_pixels / seconds / 1e6:.2f} Mpx/s"
        text += f", {duration((total - done) * seconds / done)} left"
    return text


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
