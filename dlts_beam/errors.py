"""The one exception that speaks to users."""

from __future__ import annotations


class DltsError(Exception):
    """A failure that the user can act on.

    Its text is one sentence for people: what is wrong, where, and what to do about it. Commands print it
    as ``error: …`` without a traceback and exit with status 1. Anything else that escapes is a defect of
    ours and keeps its traceback.
    """
