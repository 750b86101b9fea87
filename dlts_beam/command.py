"""How every command ends: with its status, or with one sentence on stderr."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from dlts_beam.errors import DltsError, UnreachableError

UNREACHABLE = 75  # EX_TEMPFAIL of sysexits.h
# The exit status of a failure that nobody foresaw, such as a GPU without memory: EX_SOFTWARE of sysexits.h.
# Python's own would be 1, that of a refusal, and whatever starts containers could not tell the two apart.
CRASHED = 70
INTERRUPTED, NOBODY_READS, TERMINATED = 130, 141, 143  # 128 and the signal's number, as shells tell them
GRACE = 10.0  # seconds that native code may go on after SIGTERM


class _Ending:
    """How the work of a command is ended from outside.

    Attributes:
        heard: set once Python comes to handle SIGTERM.
        reason: the sentence that `stop` was given.
        thread: the one that works.
    """

    def __init__(self) -> None:
        self.heard = threading.Event()
        self.reason: str | None = None
        self.thread = threading.get_ident()

    def interrupt(self, *_: object) -> None:
        """What SIGTERM does while the work is done."""
        self.heard.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    def last_words(self, terminated: bool) -> tuple[int, str]:
        """The status, and what is told on stderr."""
        if self.reason is not None:
            return 1, f"error: {self.reason}"
        return (TERMINATED, "terminated") if terminated else (INTERRUPTED, "interrupted")


_under_way: _Ending | None = None  # of the command that has settled what SIGTERM does
_stopping = threading.Lock()


def guarded(work: Callable[[], int | None]) -> int:
    """Do the work of a command.

    Returns:
        Its status, 0 for None; 1 after a `DltsError`, told on stderr, or 75 where it is that a service does
        not answer; 130 after Ctrl-C; 141 where nobody reads the output any more, as after ``| head``; 143
        after SIGTERM, which ends it as Ctrl-C does.
    """
    ending = _Ending()
    try:
        with _interrupted_by_sigterm(ending):
            return work() or 0
    except DltsError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNREACHABLE if isinstance(error, UnreachableError) else 1
    except KeyboardInterrupt:
        status, words = ending.last_words(ending.heard.is_set())
        print(words, file=sys.stderr)
        return status
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        return NOBODY_READS


def crash_told(main: Callable[[], int]) -> int:
    """The status of a command that is a process of its own: `CRASHED`, after a traceback, where it fails."""
    try:
        return main()
    except Exception:  # noqa: BLE001 (whatever it is: it is told, and the process ends)
        traceback.print_exc()
        return CRASHED


def stop(reason: str) -> None:
    """End the command of this process, from any thread: as SIGTERM does, but with a sentence and status 1.

    Does nothing where the process runs no command, as a worker of a cluster does not, where somebody else has
    settled what SIGTERM does, or where the command is being ended already.
    """
    with _stopping:
        ending = _under_way
        if ending is None or ending.reason is not None:
            return
        if signal.getsignal(signal.SIGTERM) != ending.interrupt:
            return  # there it would end the process at once
        ending.reason = reason
        signal.pthread_kill(ending.thread, signal.SIGTERM)


@contextlib.contextmanager
def _interrupted_by_sigterm(ending: _Ending) -> Iterator[None]:
    """A context in which SIGTERM interrupts the work, so that locks, scratch and jobs on clusters go.

    By default it would end the process at once, or, where that is a container's first, not at all. A second
    one does that again, and so does a first one that finds the work in native code for `GRACE` seconds. Where
    somebody else has settled what SIGTERM does, that stays.
    """

    global _under_way
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    with _watched(ending):
        signal.signal(signal.SIGTERM, ending.interrupt)
        _under_way = ending
        try:
            yield
        finally:
            with _stopping:
                _under_way = None
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _watched(ending: _Ending) -> Iterator[None]:
    """A context in which a thread ends the process where Python does not come to handle SIGTERM.

    A handler in Python waits until native code returns, and GDAL writes a large raster in one call. The
    number of the signal comes through a pipe at once.
    """
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(ear, ending), name="sigterm", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)
        thread.join()
        os.close(ear)


def _watch(ear: int, ending: _Ending) -> None:
    while heard := os.read(ear, 1):
        if heard[0] != signal.SIGTERM:
            continue
        # Silence, or another signal, before Python came to the first one; the end of the pipe is neither.
        again, _, _ = select.select([ear], [], [], GRACE)
        if not ending.heard.is_set() and (not again or os.read(ear, 1)):
            status, words = ending.last_words(terminated=True)
            os.write(2, f"{words}\n".encode())
            os._exit(status)


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
