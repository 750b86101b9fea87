from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlts_beam import storage
from dlts_beam.errors import DltsError

HOLD = """
import sys, time
from dlts_beam import storage
with storage.exclusive(sys.argv[1], "the map"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_told_who_holds_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(DltsError, match=f"the map is being written by another run .process {holder.pid} on"),
        storage.exclusive(tmp_path / "lock", "the map"),
    ):
        pytest.fail("two runs at once")


def test_a_killed_run_locks_nobody_out(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with storage.exclusive(tmp_path / "lock", "the map"):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()
    assert not (tmp_path / "lock").exists()


def enter(path: str, log: str) -> None:
    """Enter the lock often; leave a trace of being inside."""
    for _ in range(20):
        try:
            with storage.exclusive(path, "x"):
                with open(log, "a", encoding="ascii") as file:
                    file.write("<")
                time.sleep(0.001)
                with open(log, "a", encoding="ascii") as file:
                    file.write(">")
        except DltsError:
            time.sleep(0.001)


def test_no_two_are_ever_inside(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    crowd = [
        context.Process(target=enter, args=(str(tmp_path / "lock"), str(tmp_path / "log"))) for _ in range(4)
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
        assert process.exitcode == 0
    trace = (tmp_path / "log").read_text()
    assert trace == "<>" * (len(trace) // 2)
    assert len(trace) > 10


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DltsError, match="a file stands where a folder is expected"),
        storage.exclusive(tmp_path / "file" / "lock", "x"),
    ):
        pytest.fail("locked nothing")
