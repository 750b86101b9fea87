"""Laws of storage that hold on every kind of path; the tests of each kind call them."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from dlts_beam import storage
from dlts_beam.errors import DltsError

# Holds the lock that its argument names, and says so. Two more arguments make it a run of another container
# with the same host name: how that names its processes, and the seconds between two signs of life.
HOLD = """
import sys, time
from dlts_beam import storage
if len(sys.argv) > 2:
    from dlts_beam.storage import holder, lease
    here = holder._place()
    holder._place = lambda: {**here, "namespace": sys.argv[2]}
    lease.RENEW = float(sys.argv[3])
with storage.exclusive(sys.argv[1], "the map"):
    print("held", flush=True)
    time.sleep(600)
"""


def check_a_failed_write_leaves_the_old_bytes(folder: str) -> None:
    path = storage.join(folder, "map.tif")
    storage.write_bytes(path, b"old")

    def write_half() -> None:
        with storage.open_atomic(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert storage.listdir(folder) == ["map.tif"]
    assert storage.read_bytes(path) == b"old"


def check_no_two_are_ever_inside(lock: str, log: Path, crowd: int, times: int, start: str) -> None:
    """``crowd`` processes, started by method ``start``, each try the lock so many times."""
    context = multiprocessing.get_context(start)
    processes = [context.Process(target=_enter, args=(lock, str(log), times)) for _ in range(crowd)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    trace = log.read_text()
    assert trace == "<>" * (len(trace) // 2)
    assert len(trace) > 10


def _enter(lock: str, log: str, times: int) -> None:
    """Leave a trace of being inside."""
    for _ in range(times):
        try:
            with storage.exclusive(lock, "x"):
                with open(log, "a", encoding="ascii") as file:
                    file.write("<")
                time.sleep(0.001)
                with open(log, "a", encoding="ascii") as file:
                    file.write(">")
        except DltsError:
            time.sleep(0.001)
