from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlts_beam import storage
from dlts_beam.errors import DltsError
from tests.storage_laws import HOLD, check_no_two_are_ever_inside


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


def test_no_two_are_ever_inside(tmp_path: Path) -> None:
    check_no_two_are_ever_inside(str(tmp_path / "lock"), tmp_path / "log", crowd=4, times=20, start="fork")


def test_a_lock_that_cannot_say_who_holds_it_is_held_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with (
        storage.exclusive(tmp_path / "lock", "the map"),
        pytest.raises(DltsError, match=r"the map is being written by another run .it does not say which.:"),
        storage.exclusive(tmp_path / "lock", "the map"),
    ):
        pytest.fail("two runs at once")
    assert not (tmp_path / "lock").exists()


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DltsError, match="a file stands where a folder is expected"),
        storage.exclusive(tmp_path / "file" / "lock", "x"),
    ):
        pytest.fail("locked nothing")
