"""TensorFlow loads without a word, and tells all where loading fails."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dlts_beam.command import CRASHED
from trainer import __main__ as entry
from trainer import start


def test_loading_says_nothing() -> None:
    code = "from trainer.start import load_tensorflow; load_tensorflow(); import tensorflow; print('loaded')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("loaded\n", "")


def test_what_was_held_back_is_told_where_the_body_fails(capfd: pytest.CaptureFixture[str]) -> None:
    @start._stderr_held_back()
    def load() -> None:
        os.write(2, b"libcuda is of another version\n")
        raise ImportError("no TensorFlow")

    with pytest.raises(ImportError):
        load()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "libcuda is of another version\nafter\n"


def test_what_was_held_back_is_dropped_where_it_succeeds(capfd: pytest.CaptureFixture[str]) -> None:
    with start._stderr_held_back():
        os.write(2, b"looking for a GPU\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("status", [0, 1, 130])
def test_the_process_ends_with_the_commands_status(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "main", lambda: status)
    with pytest.raises(SystemExit) as left:
        entry.run()
    assert left.value.code == status


def test_a_crash_has_a_status_that_no_refusal_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise MemoryError("no room on the GPU")

    monkeypatch.setattr(entry, "load_tensorflow", fail)
    monkeypatch.setattr(sys, "argv", ["trainer", "-i", "samples", "-o", "model"])
    with pytest.raises(SystemExit) as left:
        entry.run()
    assert left.value.code == CRASHED == 70
    assert capsys.readouterr().err.endswith("MemoryError: no room on the GPU\n")
