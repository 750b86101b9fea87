"""Try again what may pass: reads and writes that fail on a busy disk or network."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from dlts_beam.errors import DltsError, causes

ATTEMPTS = 3
PAUSE = 0.2  # seconds before the second attempt; each further pause is four times as long
# Not here: a full disk, refused access, a missing file. They stay as they are.
TRANSIENT = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    }
)

_Result = TypeVar("_Result")


def is_transient(error: BaseException) -> bool:
    """True where an operating system error that may pass is among the causes."""
    return any(isinstance(seen, OSError) and seen.errno in TRANSIENT for seen in causes(error))


def retried(
    work: Callable[[], _Result],
    worth_it: Callable[[DltsError], bool] = is_transient,
    pause: float = PAUSE,
) -> _Result:
    """Do the work, and again after a pause where it fails in a way that may pass.

    Raises:
        DltsError: of the last attempt, or the first that is not worth another.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return work()
        except DltsError as error:
            if not worth_it(error):
                raise
        time.sleep(pause * 4 ** (attempt - 1))
    return work()
