"""How every command ends: with its status, or with one sentence on stderr."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn

from dlts_beam.errors import DltsError

INTERRUPTED, NOBODY_READS = 130, 141  # 128 and the signal's number, as shells tell them


def guarded(work: Callable[[], int | None]) -> int:
    """Do the work of a command.

    Returns:
        Its status, 0 for None; 1 after a `DltsError`, told on stderr; 130 after Ctrl-C; 141 where nobody
        reads the output any more, as after ``| head``.
    """
    try:
        return work() or 0
    except DltsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        return NOBODY_READS


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
