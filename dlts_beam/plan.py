"""From a memory budget to the size of tiles and windows: pure arithmetic. No pixel depends on it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from dlts_beam.errors import DltsError
from dlts_beam.grid import count_tiles
from dlts_beam.spec import ModelSpec, SeriesSpec

MIB = 1 << 20
# What a worker takes beside its tile and windows, measured: Python and Beam 290 MiB, GDAL's block cache 128,
# the rest for a small model and what the allocator keeps.
BASE_BYTES = 448 * MIB
# More buys no speed: strips, not windows, decide how fast the engine is.
DEFAULT_MEMORY = 600 * MIB
LEAST_WINDOW = 32 * MIB
DEFAULT_TILE = 512
MAX_TILE = 16384
LEAST_DEFAULT_TILE = 64
ENOUGH_TILES = 16
# Of the raster that is put together at the end, measured: GDAL holds each source of a virtual raster, and
# some blocks with all bands of a GeoTIFF.
SOURCE_BYTES = 3600
BLOCK = 512
HELD_BLOCKS = 4
MUCH_TO_ASSEMBLE = 1024 * MIB

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class Plan:
    """How one run cuts the grid.

    Attributes:
        tile: side of the tiles that are committed.
        window_height, window_width: largest window that a worker holds at once.
        memory: the budget of one worker in bytes.
        needed: bytes a worker takes with this tile and these windows.
        tiles: number of tiles of the grid.
    """

    tile: int
    window_height: int
    window_width: int
    memory: int
    needed: int
    tiles: int


def parse_bytes(text: str) -> int:
    """``512MB``, ``1.5g``, ``300MiB`` or a number of bytes; K, M, G are powers of 1024.

    Raises:
        DltsError: it is none of these.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if found is None:
        raise DltsError(f"cannot read {text!r} as an amount of memory: write it like 512MB or 2GB")
    return int(float(found[1]) * _UNITS[found[2]])


def default_tile(height: int, width: int, per_pixel: int = 0) -> int:
    """512, or less on a small grid, so that there is work for several workers, or where tiles take too much.

    A matter of the grid and of what is written alone: memory does not count, the machine's or the user's,
    since a run that goes on, perhaps with less of it, must find the tiles of the one before.

    Args:
        per_pixel: bytes that a pixel of a tile takes, see `tile_pixel_bytes`.
    """
    tile = DEFAULT_TILE
    while tile > LEAST_DEFAULT_TILE and (
        count_tiles(height, width, tile) < ENOUGH_TILES or tile * tile * per_pixel > LEAST_WINDOW
    ):
        tile //= 2
    return tile


def default_memory(available: int | None, workers: int, processes: bool = False, tile: int = 0) -> int:
    """Budget of one worker in bytes: its share of half of what is available, at most 600 MiB.

    Workers that are threads share the base of their process. A machine with little memory gets small
    windows, never a refusal; a large tile that the user asks for is held on top.

    Args:
        available: bytes; None where the system does not tell.
        workers: on this machine.
        processes: whether each is a process of its own.
        tile: bytes that a tile takes, see `tile_bytes`.
    """
    least = BASE_BYTES + LEAST_WINDOW + tile
    if available is None:
        return max(least, DEFAULT_MEMORY)
    bases = max(1, workers) if processes else 1
    share = (available // 2 - bases * BASE_BYTES) // max(1, workers)
    return max(least, min(DEFAULT_MEMORY, BASE_BYTES + share))


def tile_pixel_bytes(model: ModelSpec, probabilities: bool, area: bool) -> int:
    """Bytes that one pixel of a tile takes: a tile is held whole until it is written.

    Args:
        probabilities: whether they are written too.
        area: whether pixels are wanted or not.
    """
    values = np.dtype(model.classes.map_dtype).itemsize
    chances = 2 * len(model.classes) if probabilities else 0
    # One file after the other is encoded, and copied once; what does not compress is as large as the pixels.
    encoded = 2 * max(values, chances)
    return values + chances + encoded + (1 if area else 0)


def tile_bytes(series: SeriesSpec, tile: int, per_pixel: int) -> int:
    """Bytes that a worker takes for a tile of this side, at most the whole grid."""
    return min(tile, series.grid.height) * min(tile, series.grid.width) * per_pixel


def assembly_notes(bands: int, tiles: int) -> list[str]:
    """What to tell of the memory that putting a raster of probabilities together takes, where that is much.

    Args:
        bands: one for each class.
        tiles: of the grid, each a file that is named once for each band.
    """
    sources = SOURCE_BYTES * bands * tiles
    needed = BASE_BYTES + sources + HELD_BLOCKS * 2 * bands * BLOCK * BLOCK
    if needed <= MUCH_TO_ASSEMBLE:
        return []
    way = "; larger tiles (--tile) take less" if sources > needed // 2 else ""
    return [
        f"the raster of probabilities has {bands} bands in {tiles} tiles: putting it together takes about"
        f" {math.ceil(needed / MIB)} MiB on the machine that does it, whatever --memory says{way}"
    ]


def pixel_bytes(series: SeriesSpec, model: ModelSpec) -> int:
    """Bytes that one pixel of a window takes: one window is read while another one is computed."""
    bands = [band for band in series.bands if band.name in model.preparation.bands]
    cells = len(series.steps) * len(bands)
    stored = np.result_type(*(np.dtype(band.dtype) for band in bands)).itemsize
    scaled = any(band.scale != 1 or band.offset != 0 for band in bands)
    values_and_valid = 5
    reading = stored + 1 + values_and_valid + (8 if scaled else 0)
    steps = model.serving.time_steps
    prepared = 2 * 4 * steps * model.serving.bands  # twice: edges are replicated into a copy
    return cells * (reading + values_and_valid) + prepared + 2 * model.serving.classes + 16


def window_bytes(height: int, width: int, halo: int, per_pixel: int) -> int:
    """Bytes a worker takes for windows of this size, its own base included, its tile not."""
    return BASE_BYTES + (height + 2 * halo) * (width + 2 * halo) * per_pixel


def make_plan(
    series: SeriesSpec,
    model: ModelSpec,
    tile: int,
    memory: int,
    probabilities: bool = False,
    area: bool = False,
) -> Plan:
    """Choose the largest window that the budget allows, on the sources' block grid where that is possible.

    Args:
        tile: side of the tiles.
        memory: budget of one worker in bytes.
        probabilities, area: see `tile_pixel_bytes`.

    Raises:
        DltsError: the tile size is out of range, or the budget does not hold the tile and a single pixel.
    """
    if not 1 <= tile <= MAX_TILE:
        raise DltsError(f"--tile must lie in 1..{MAX_TILE}; got {tile}")
    halo, per_pixel = model.serving.halo, pixel_bytes(series, model)
    tile_pixel = tile_pixel_bytes(model, probabilities, area)
    held = tile_bytes(series, tile, tile_pixel)
    pixel = window_bytes(1, 1, halo, per_pixel)
    if memory < pixel + held:
        room = _tile_room(memory)
        fitting = math.isqrt(room // tile_pixel) if memory >= pixel + room else 0
        _refuse(memory, pixel + held, tile, fitting, probabilities)
    block = source_block(series, model.preparation.bands)
    high, wide = min(tile, series.grid.height), min(tile, series.grid.width)
    height, width = _largest(high, wide, halo, (memory - BASE_BYTES - held) // per_pixel, block)
    return Plan(
        tile=tile,
        window_height=height,
        window_width=width,
        memory=memory,
        needed=window_bytes(height, width, halo, per_pixel) + held,
        tiles=count_tiles(series.grid.height, series.grid.width, tile),
    )


def _tile_room(memory: int) -> int:
    """Bytes of a budget that a tile may take, so that its windows are not tiny."""
    return (memory - BASE_BYTES) // 2


def _refuse(memory: int, least: int, tile: int, fitting: int, probabilities: bool) -> NoReturn:
    """Say what a worker needs at least, and which tile fits where one does."""
    fitting = fitting // LEAST_DEFAULT_TILE * LEAST_DEFAULT_TILE or fitting
    needed = f"a worker needs at least {math.ceil(least / MIB)} MiB"
    given = f"--memory {memory // MIB} MiB is too little"
    if not 0 < fitting < tile:
        raise DltsError(f"{given} for this series and model: {needed}")
    what = f"--tile {tile}" + (" with --probabilities" if probabilities else "")
    raise DltsError(f"{given} for {what}: {needed}; give it that, or --tile {fitting}")


def source_block(series: SeriesSpec, bands: Sequence[str]) -> tuple[int, int]:
    """Height and width of the largest storage block among the files of these bands."""
    blocks = [series.files[number].block for number in series.used_files(bands)]
    return max((high for high, _ in blocks), default=1), max((wide for _, wide in blocks), default=1)


def _largest(high: int, wide: int, halo: int, pixels: int, block: tuple[int, int]) -> tuple[int, int]:
    """Window of at most ``high`` x ``wide`` with ``pixels`` pixels, halo included."""
    if (high + 2 * halo) * (wide + 2 * halo) <= pixels:
        return high, wide
    side = math.isqrt(pixels) - 2 * halo
    block_height, block_width = block
    rows = pixels // (wide + 2 * halo) - 2 * halo
    if block_width >= wide and rows >= 1:
        # Strips: a window as wide as the tile decodes each of them once.
        return _aligned(min(rows, high), block_height), wide
    width = _aligned(min(side, wide), block_width)
    rows = pixels // (width + 2 * halo) - 2 * halo
    # No flatter and no taller than it must be: the halo is read again for every window.
    return _aligned(min(rows, high, max(side, width)), block_height), width


def _aligned(size: int, block: int) -> int:
    """``size`` cut down to a multiple of ``block``, if it holds one."""
    return size // block * block if size >= block else size
