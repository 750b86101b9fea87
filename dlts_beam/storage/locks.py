"""One run per output: a lock that two processes cannot both hold, local or gs://.

Locally the kernel holds the lock and drops it with the process, however that ends, so a file that a
killed run left behind locks nobody out; on a shared folder, its server does the same. On gs:// the lock is an
object that a living holder renews: see `dlts_beam.storage.lease`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dlts_beam.errors import DltsError
from dlts_beam.storage import holder
from dlts_beam.storage import local as _local
from dlts_beam.storage.names import is_remote, parent


@contextmanager
def exclusive(path: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lock ``path`` while the body runs; gives a function that raises where it is held no more.

    On gs:// another run takes the lock of one that gave no sign of life for a minute. The command that held
    it is stopped as soon as that is known; whoever else held it is told when the body ends, at the latest. A
    body calls the function before it does what cannot be undone.

    Args:
        path: the lock file; it goes when the body ends.
        what: what is locked, for the message.

    Raises:
        DltsError: another process holds it, or took it meanwhile; the sentence names it and says what to do.
    """
    if not is_remote(path):
        with _flocked(path, what):
            yield lambda: None
        return
    from dlts_beam.storage.lease import leased

    with leased(path, what) as check:
        yield check


@contextmanager
def _flocked(path: str, what: str) -> Iterator[None]:
    _local.make_dirs(parent(path))
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _local.explain(error, path, "write") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = holder.tell(holder.parse(os.pread(descriptor, 4096, 0)))
            os.close(descriptor)
            raise DltsError(
                f"{what} is being written by another run ({who}): wait until it ends, or stop it"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise _local.explain(error, path, "lock") from error
        # The holder before us may have removed the file between our opening and our locking it.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    try:
        # The kernel's lock holds whatever the file says: on a full disk others are told less, that is all.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.describe_me(), 0)
        yield
    finally:
        try:
            _local.remove(path)
        finally:
            os.close(descriptor)
