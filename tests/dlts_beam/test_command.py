from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dlts_beam.command import guarded, stop
from dlts_beam.errors import DltsError, UnreachableError

STUBBORN = """
import sys, time
from dlts_beam.command import guarded

def work():
    try:
        print("begun", flush=True)
        time.sleep(600)
    finally:
        print("cleared away", flush=True)
        time.sleep(float(sys.argv[1]))

sys.exit(guarded(work))
"""

NATIVE = """
import hashlib, sys
from dlts_beam import command

command.GRACE = float(sys.argv[1])

def work():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # many minutes, and Python does not run in between

sys.exit(command.guarded(work))
"""

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

    def ask() -> None:
        raise UnreachableError("Google Cloud does not answer; check the network")

    def interrupt() -> None:
        raise KeyboardInterrupt

    assert guarded(lambda: None) == 0
    assert guarded(lambda: 3) == 3
    assert guarded(fail) == 1
    assert guarded(ask) == 75
    assert guarded(interrupt) == 130
    assert capsys.readouterr().err.splitlines() == [
        "error: the disk is full: free some space",
        "error: Google Cloud does not answer; check the network",
        "interrupted",
    ]


@pytest.mark.parametrize(("clearing", "times", "status"), [("0", 1, 143), ("600", 2, -signal.SIGTERM)])
def test_a_terminated_command_clears_away_unless_it_is_told_twice(
    clearing: str, times: int, status: int
) -> None:
    command = [sys.executable, "-c", STUBBORN, clearing]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in ("begun\n", "cleared away\n")[:times]:
            assert process.stdout.readline() == line
            process.terminate()
        assert process.wait(60) == status
        assert process.stdout.read() == ("cleared away\n" if times == 1 else "")
        assert process.stderr.read() == ("terminated\n" if times == 1 else "")


def test_a_command_is_stopped_from_any_thread_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    cleared: list[str] = []

    def stop_twice() -> None:  # as where two locks of a run are lost at once
        time.sleep(0.1)
        stop("another run took over the map")
        stop("another run took over the probabilities")

    def work() -> None:
        threading.Thread(target=stop_twice).start()
        try:
            threading.Event().wait(60)
        finally:
            time.sleep(0.2)
            cleared.append("away")

    assert guarded(work) == 1
    assert capsys.readouterr().err == "error: another run took over the map\n"
    assert cleared == ["away"]
    stop("nothing runs here any more")
    assert guarded(lambda: None) == 0


def test_native_code_does_not_keep_a_stopped_command_alive() -> None:
    timer = "    threading.Timer(0.5, command.stop, ['it is lost']).start()\n"
    code = NATIVE.replace("    hashlib", f"{timer}    hashlib")
    command = [sys.executable, "-c", f"import threading{code}", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "error: it is lost\n")


def test_nobody_is_stopped_where_sigterm_is_somebody_else_s() -> None:
    def work() -> None:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop("no")
        time.sleep(0.1)
        signal.signal(signal.SIGTERM, before)

    assert guarded(work) == 0


@pytest.mark.parametrize(("grace", "times"), [("0.2", 1), ("600", 2)])
def test_native_code_does_not_keep_a_terminated_command_alive(grace: str, times: int) -> None:
    command = [sys.executable, "-c", NATIVE, grace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        for _ in range(times):
            time.sleep(0.5)
            process.terminate()
        assert process.wait(60) == 143
        assert process.stderr.read() == "terminated\n"


def test_what_sigterm_does_is_as_before_when_the_command_ends() -> None:
    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert guarded(terminate) == 143
    assert guarded(lambda: None) == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    assert "sigterm" not in [thread.name for thread in threading.enumerate()]


def test_a_command_in_another_thread_or_of_one_who_ignores_sigterm_leaves_it_alone() -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=guarded, args=(look,))
    thread.start()
    thread.join()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        guarded(look)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [signal.SIG_DFL, signal.SIG_IGN]


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


LEAVER = """
import atexit, sys, threading
from dlts_beam.command import leave

class Last:
    def __del__(self):
        print("taken down")

last = Last()
atexit.register(print, "registered")
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("said")
leave(int(sys.argv[1]))
"""


@pytest.mark.parametrize(("status", "last"), [(1, "registered"), (130, "registered"), (0, "taken down")])
def test_a_failed_command_leaves_with_its_status_before_python_is_taken_down(status: int, last: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVER, str(status)], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert done.stdout.split("\n")[:2] == ["said", "registered"]
    assert done.stdout.strip().split("\n")[-1] == last
