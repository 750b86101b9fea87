"""Processor time of a process."""

from __future__ import annotations

import resource


def processor_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
