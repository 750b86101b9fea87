"""Who holds a lock, as the lock itself says, and whether that process is known to live or to be dead.

A process is known by its number only where that number means the same: on the same machine since it was
started, and among the same processes, since containers count their own. Host names tell neither: containers
share them, and one that is started anew gets another. Where the system tells nothing of the two (no /proc, as
on macOS), the host name has to do.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import Any

_BOOT = "/proc/sys/kernel/random/boot_id"
_NAMESPACE = "/proc/self/ns/pid"


def describe_me(token: str = "") -> bytes:
    """What this process writes into its lock.

    Args:
        token: tells this lock from others of the process.
    """
    process = os.getpid()
    return json.dumps({**_place(), "process": process, "born": _born(process), "token": token}).encode()


def parse(content: bytes) -> dict[str, Any]:
    """What a lock says of its holder; nothing where it is not written yet."""
    try:
        holder = json.loads(content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def tell(holder: dict[str, Any]) -> str:
    """The holder in words."""
    if "process" not in holder:
        return "it does not say which"
    return f"process {holder['process']} on {holder.get('host', 'an unknown host')}"


def lives(holder: dict[str, Any]) -> bool | None:
    """Whether the holder lives; None where this process cannot know, as for another machine's."""
    process = holder.get("process")
    if not isinstance(process, int) or any(holder.get(key) != value for key, value in _place().items()):
        return None
    return _born(process) == holder.get("born")


def _place() -> dict[str, str | None]:
    """What must be the same for process numbers to mean the same."""
    boot = namespace = None
    with suppress(OSError), open(_BOOT, encoding="ascii") as file:
        boot = file.read().strip()
    with suppress(OSError):
        namespace = os.readlink(_NAMESPACE)
    return {"host": socket.gethostname(), "boot": boot, "namespace": namespace}


def _born(process: int) -> str | None:
    """When a process began, since numbers are used again; None where there is no such process."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None if not _alive(process) else "unknown"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
