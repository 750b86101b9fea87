"""Tells when the first tile of a run is begun. A plugin of Beam, so that worker processes load it too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._processor import processor_seconds
from dlts_beam.beam.read_windows import _ReadWindows
from dlts_beam.beam.stage import TileTask

FIRST_TILE = "DLTS_BENCH_FIRST_TILE"  # names the file that keeps the time


def first_tile(path: Path) -> tuple[float, float]:
    """When the first of all workers began: by the machine's monotonic clock, by its process' processor time.

    Of a worker process, the second value is 0 for the launcher that asks: it spent the time to get there
    too, so its processor seconds hold the start.
    """
    stamps = [line.split() for line in path.read_text().splitlines()]
    began, cpu, process = min(stamps, key=lambda stamp: float(stamp[0]))
    return float(began), float(cpu) if int(process) == os.getpid() else 0.0


def watch() -> None:
    """From now on the first tile of each worker in this process is noted, if the environment says where."""
    path = os.environ.get(FIRST_TILE)
    if path is None:
        return
    kind = _ReadWindows
    process = kind.process

    def timed(self: _ReadWindows, task: TileTask) -> Iterator[object]:
        if not getattr(self, "_clocked", False):
            self._clocked = True  # type: ignore[attr-defined]
            with open(path, "a", encoding="ascii") as file:
                file.write(f"{time.monotonic()} {processor_seconds()} {os.getpid()}\n")
        yield from process(self, task)

    kind.process = timed  # type: ignore[assignment, method-assign]


watch()
