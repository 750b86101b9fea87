"""What this machine has to offer."""

from __future__ import annotations

import os


def available_memory() -> int | None:
    """Bytes that this process and its children may still take; None where the system does not tell."""
    found = [size for size in (_system(), _container()) if size is not None]
    return min(found, default=None)


def _system() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _container() -> int | None:
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
    except OSError:  # no container, or an older kind
        return None
    return None if limit == "max" else int(limit)
