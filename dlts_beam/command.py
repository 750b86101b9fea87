"""How every command ends: with its status, or with one sentence on stderr."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from dlts_beam.errors import DltsError

INTERRUPTED, NOBODY_READS, TERMINATED = 130, 141, 143  # 128 and the signal's number, as shells tell them
GRACE = 10.0  # seconds that native code may go on after SIGTERM


def guarded(work: Callable[[], int | None]) -> int:
    """Do the work of a command.

    Returns:
        Its status, 0 for None; 1 after a `DltsError`, told on stderr; 130 after Ctrl-C; 141 where nobody
        reads the output any more, as after ``| head``; 143 after SIGTERM, which ends it as Ctrl-C does.
    """
    terminated = threading.Event()
    try:
        with _interrupted_by_sigterm(terminated):
            return work() or 0
    except DltsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("terminated" if terminated.is_set() else "interrupted", file=sys.stderr)
        return TERMINATED if terminated.is_set() else INTERRUPTED
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        return NOBODY_READS


@contextlib.contextmanager
def _interrupted_by_sigterm(terminated: threading.Event) -> Iterator[None]:
    """A context in which SIGTERM interrupts the work, so that locks, scratch and jobs on clusters go.

    By default it would end the process at once, or, where that is a container's first, not at all. A second
    one does that again, and so does a first one that finds the work in native code for `GRACE` seconds. Where
    somebody else has settled what SIGTERM does, that stays.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        terminated.set()
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    with _watched(terminated):
        signal.signal(signal.SIGTERM, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _watched(terminated: threading.Event) -> Iterator[None]:
    """A context in which a thread ends the process where Python does not come to handle SIGTERM.

    A handler in Python waits until native code returns, and GDAL writes a large raster in one call. The
    number of the signal comes through a pipe at once.
    """
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(ear, terminated), name="sigterm", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)
        thread.join()
        os.close(ear)


def _watch(ear: int, terminated: threading.Event) -> None:
    while heard := os.read(ear, 1):
        if heard[0] != signal.SIGTERM:
            continue
        # Silence, or another signal, before Python came to the first one; the end of the pipe is neither.
        again, _, _ = select.select([ear], [], [], GRACE)
        if not terminated.is_set() and (not again or os.read(ear, 1)):
            os.write(2, b"terminated\n")
            os._exit(TERMINATED)


def _forget_wakeup() -> None:
    """A forked process has signals of its own, which are not to be heard by the one it came from."""
    with contextlib.suppress(ValueError):  # not from Python's main thread: then it hears none
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_wakeup)


def leave(status: int) -> NoReturn:
    """End the process of a command with its status.

    Threads of a run that failed may still be inside native code, such as the loading of a model. If they come
    back while Python takes itself down, they abort the process, whatever its status was. So after a failure
    what is registered for the end is done, and the taking down is left out.
    """
    if status == 0:
        sys.exit(0)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):  # nobody reads: `guarded` has told
                stream.flush()
    os._exit(status)


def _stdout_is_closed() -> bool:
    """True where stdout is a pipe that nobody reads; what comes now, at Python's end too, goes nowhere."""
    try:
        stdout = sys.stdout.fileno()
    except (AttributeError, OSError):  # not a file: none at all, or one in memory
        return False
    poll = select.poll()
    poll.register(stdout, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True
