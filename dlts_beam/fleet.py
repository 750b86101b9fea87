"""What a run would cost on other machines: arithmetic on a trial of two tiles, honest about being that."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dlts_beam.errors import DltsError
from dlts_beam.progress import duration

# GDAL's driver writes a Cloud-Optimized GeoTIFF at 14 to 17 Mpx/s on one core.
ASSEMBLY_RATE = 15e6


@dataclass(frozen=True)
class Fleet:
    """The workers of a run.

    Attributes:
        workers: machines, or slots where a runner counts those.
        engines: tiles that each of them computes at once: one on each of its processors.
        notes: what had to be assumed.
    """

    workers: int
    engines: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """Time and cost of a run.

    Attributes:
        seconds: by the clock.
        worker_hours, processor_hours: paid for, from the first to the last tile.
        idle: share of the processors' time without work, when the last tiles are few.
    """

    seconds: float
    worker_hours: float
    processor_hours: float
    idle: float


def processors_of(machine_type: str | None) -> int | None:
    """Processors by the name of a machine type of Google Cloud; None where the name does not say."""
    if machine_type is None:
        return None
    if machine_type in ("e2-micro", "e2-small", "e2-medium"):
        return 2
    found = re.fullmatch(r"(?:[a-z0-9]+-)?custom-(\d+)-\d+(?:-ext)?", machine_type)
    found = found or re.fullmatch(r"[a-z0-9]+-[a-z]+-(\d+)(?:-lssd|-metal)?", machine_type)
    return int(found[1]) if found else None


def estimate(tile_seconds: float, tiles: int, fleet: Fleet) -> Estimate:
    """What so many tiles cost, each of which keeps one processor busy for ``tile_seconds``.

    Raises:
        ValueError: the fleet has no worker.
    """
    slots = fleet.workers * fleet.engines
    if slots < 1:
        raise ValueError(f"a fleet needs workers; got {fleet}")
    rounds = math.ceil(tiles / slots)  # the last round may leave processors idle, and they are paid for
    seconds = rounds * tile_seconds
    hours = seconds / 3600
    idle = 1 - tiles / (rounds * slots) if rounds else 0.0
    return Estimate(seconds, hours * fleet.workers, hours * slots, idle)


def cost_text(
    found: Estimate, fleet: Fleet, bytes_read: int, pixels: int, price: float | None
) -> list[str]:
    """The lines that tell of an estimate.

    Args:
        bytes_read: of the files, once.
        pixels: of the whole map, which is assembled at the end.
        price: of one worker for an hour, in any currency.
    """
    machines = f"{fleet.workers} workers of {fleet.engines} processors" if fleet.engines > 1 else (
        f"{fleet.workers} workers")  # fmt: skip
    lines = [
        f"cost:    {found.worker_hours:.2f} worker-hours on {machines}: {found.processor_hours:.2f}"
        f" processor-hours, {found.idle:.0%} of them idle at the end",
        f"         {_amount(bytes_read)} to read, or a little more: edges of windows are read twice",
        f"         then about {duration(pixels / ASSEMBLY_RATE)} on this machine to assemble the map",
    ]
    if price is not None:
        lines.append(f"price:   {found.worker_hours * price:.2f}, at {price:g} for a worker and hour")
    lines.append(
        "         an estimate from two tiles on this machine; start-up of workers and retries come on top"
    )
    return lines + [f"note:    {note}" for note in fleet.notes]


def check_price(price: float | None) -> None:
    """Raises `DltsError` where a price is none."""
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise DltsError(f"--price-per-worker-hour must be 0 or more; got {price:g}")


def _amount(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"
