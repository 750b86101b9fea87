from __future__ import annotations

import io
import os
import threading

from dlts_beam.progress import Progress, duration, progress_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, counts: list[int]) -> str:
    """Let a run go through these counts, one look each."""
    done = threading.Event()

    def count() -> int:
        if len(counts) == 1:
            done.set()
            return counts[0]
        return counts.pop(0)

    with Progress(10, count, 1e6, stream, interval=0.01):
        assert done.wait(10)
    return stream.getvalue()


def test_a_terminal_gets_a_bar_that_ends_full() -> None:
    told = run(Terminal(), [0, 5, 10])
    assert "\r[" + "." * 30 + "] 0 of 10 tiles" in told
    assert "#" * 15 + "." * 15 + "] 5 of 10 tiles" in told
    assert told.rstrip().endswith("0:00 left\x1b[K")
    assert told.endswith("\n")


def test_a_real_terminal_is_told_from_a_pipe() -> None:
    ours, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        told = Progress(10, lambda: 10, 1e6, stream)
        assert told._interval == 0.5
        with told:
            pass
    assert os.read(ours, 4096).decode().startswith("\r[" + "#" * 30 + "] 10 of 10 tiles, ")
    os.close(ours)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        assert Progress(10, lambda: 10, 1e6, stream)._interval == 60
    os.close(reading)


def test_elsewhere_there_are_lines() -> None:
    told = run(io.StringIO(), [3, 7])
    assert "\r" not in told
    assert told.splitlines()[0].startswith("3 of 10 tiles, ")


def test_the_text_has_speed_and_time_left() -> None:
    assert progress_text(0, 40, 1.0, 1e6) == "0 of 40 tiles"
    assert progress_text(10, 40, 20.0, 262144) == "10 of 40 tiles, 0.13 Mpx/s, 1:00 left"


def test_durations_are_read_like_a_clock() -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 61, 3600, 3725)] == [
        "0:00", "1:00", "1:01", "1:00:00", "1:02:05",
    ]  # fmt: skip
