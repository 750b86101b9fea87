"""The one exception that speaks to users, and what lies behind an exception."""

from __future__ import annotations

from collections.abc import Iterator


class DltsError(Exception):
    """A failure that the user can act on.

    Its text is one sentence for people: what is wrong, where, and what to do about it. Commands print it
    as ``error: …`` without a traceback and exit with status 1. Anything else that escapes is a defect of
    ours and keeps its traceback.
    """


class UnreachableError(DltsError):
    """A service did not answer; it may later. Commands exit with status 75, and may be started again."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it or was being handled when it came, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
