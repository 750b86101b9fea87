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
    one does that again. Where somebody else has settled what SIGTERM does, that stays.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        terminated.set()
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
