from __future__ import annotations

import subprocess
import sys

import pytest

from dlts_beam.command import guarded
from dlts_beam.errors import DltsError

CHATTER = """
import sys
from dlts_beam.command import guarded

def work():
    while True:
        print("one more line", flush=True)

sys.exit(guarded(work))
"""


def test_failures_are_one_sentence_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise DltsError("the disk is full: free some space")

    def interrupt() -> None:
        raise KeyboardInterrupt

    assert guarded(lambda: None) == 0
    assert guarded(lambda: 3) == 3
    assert guarded(fail) == 1
    assert guarded(interrupt) == 130
    assert capsys.readouterr().err == "error: the disk is full: free some space\ninterrupted\n"


def test_a_reader_that_went_away_ends_the_command_quietly() -> None:
    command = [sys.executable, "-c", CHATTER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "one more line\n"
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""


def test_other_broken_pipes_are_defects() -> None:
    def work() -> None:
        raise BrokenPipeError("a worker's")

    with pytest.raises(BrokenPipeError, match="a worker's"):
        guarded(work)
