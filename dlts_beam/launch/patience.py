"""A training takes hours: a service that does not answer for a while must not end the watching."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from dlts_beam.errors import UnreachableError

PATIENCE = 300.0  # seconds without any answer
PAUSE = 5.0

_Result = TypeVar("_Result")


def patiently(work: Callable[[], _Result]) -> _Result:
    """Ask again and again where there is no answer.

    Raises:
        DltsError: there was none for a long time, or the answer is a refusal.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except UnreachableError:
            if time.monotonic() > until:
                raise
        time.sleep(PAUSE)
