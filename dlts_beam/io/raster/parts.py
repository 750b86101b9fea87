"""Tile part files: one GeoTIFF per finished tile, renamed when complete, trusted after a checksum."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
import rasterio
import rasterio.windows
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from dlts_beam import storage
from dlts_beam.certificate import TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Tile
from dlts_beam.io.raster.handles import gdal_env

MAP = ".tif"
PROBABILITIES = ".probabilities.tif"
STRIP_ROWS = 256  # rows that are worked on at once, so that a large tile is not copied: a block of a part
_SEAL = b"DLTS-PART-1"  # ends every part


@dataclass(frozen=True)
class Part:
    """Content of one tile.

    Attributes:
        values: map values (H, W).
        probabilities: quantised (H, W, K), or None where they were not asked for.
    """

    values: np.ndarray
    probabilities: np.ndarray | None = None


def part_name(tile: Tile, suffix: str = MAP) -> str:
    """File name of a tile's part: its position, nothing else."""
    return tile.key + suffix


def checksum(array: np.ndarray) -> str:
    """SHA-256 (hex) of an array's values, row by row, little-endian."""
    return checksum_of(array[start : start + STRIP_ROWS] for start in range(0, len(array), STRIP_ROWS))


def checksum_of(strips: Iterable[np.ndarray]) -> str:
    """The `checksum` of an array that comes in strips of its rows."""
    digest = hashlib.sha256()
    for rows in strips:
        digest.update(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def write_part(folder: str, record: TileRecord, part: Part, grid: Grid, nodata: int) -> None:
    """Write a tile's files; the one with the map comes last and commits the tile.

    Raises:
        DltsError: they cannot be written.
    """
    if part.probabilities is not None:
        bands = np.moveaxis(part.probabilities, -1, 0)
        content = _encode(bands, record, grid, None)
        storage.write_bytes(storage.join(folder, part_name(record.tile, PROBABILITIES)), content)
    content = _encode(part.values[None], record, grid, nodata)
    storage.write_bytes(storage.join(folder, part_name(record.tile)), content)


def read_part(folder: str, tile: Tile, key: str, probabilities: bool) -> TileRecord | None:
    """The record of a finished tile, or None where it is absent, of other content, or damaged.

    A digest of every byte is compared: a part is reused only when it is what was written.
    """
    record = _verified(storage.join(folder, part_name(tile)), tile, key)
    if record is None or not probabilities:
        return record
    other = _verified(storage.join(folder, part_name(tile, PROBABILITIES)), tile, key)
    return record if other == record else None


def _encode(bands: np.ndarray, record: TileRecord, grid: Grid, nodata: int | None) -> bytes:
    """A part's file in memory: the same array gives the same bytes."""
    x, y = grid.xy(record.window.row, record.window.col)
    a, b, _, d, e, _ = grid.transform
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=bands.shape[0],
            height=bands.shape[1],
            width=bands.shape[2],
            dtype=bands.dtype.name,
            crs=CRS.from_user_input(grid.crs) if grid.crs else None,
            transform=Affine(a, b, x, d, e, y),
            nodata=nodata,
            compress="deflate",
            zlevel=1,
            tiled=True,
            blockxsize=STRIP_ROWS,
            blockysize=STRIP_ROWS,
            interleave="band",
        ) as dataset:
            # rasterio copies what it is given where that does not lie in one piece: so no more than a strip.
            for band, start in itertools.product(range(len(bands)), range(0, bands.shape[1], STRIP_ROWS)):
                rows = bands[band, start : start + STRIP_ROWS]
                strip = rasterio.windows.Window(0, start, rows.shape[1], rows.shape[0])
                dataset.write(rows, band + 1, window=strip)
        return _seal(memory.getbuffer(), record)


def _verified(path: str, tile: Tile, key: str) -> TileRecord | None:
    try:
        content = storage.read_bytes(path)
    except DltsError:
        if storage.exists(path):
            raise
        return None
    record = _unseal(content)
    if record is None or record.key != key or record.window != tile.window or record.name != tile.key:
        return None
    return record


def _seal(content: memoryview, record: TileRecord) -> bytes:
    """A GeoTIFF with its record and a digest of both behind it; readers of GeoTIFF do not look there.

    To look for a digest takes a tenth of a millisecond, to open and decode a GeoTIFF more than one: a large
    map has tens of thousands of parts, and each is verified when a run goes on.
    """
    note = msgspec.json.encode(record)
    note += len(note).to_bytes(4, "little")
    digest = hashlib.sha256(content)
    digest.update(note)
    return b"".join((content, note, digest.digest(), _SEAL))


def _unseal(content: bytes) -> TileRecord | None:
    """The record behind a GeoTIFF; None where a single byte is not what was written."""
    if not content.endswith(_SEAL):
        return None
    digest = len(content) - len(_SEAL) - hashlib.sha256().digest_size
    sealed = memoryview(content)[: max(0, digest)]
    if hashlib.sha256(sealed).digest() != content[max(0, digest) : -len(_SEAL)]:
        return None
    note = int.from_bytes(sealed[-4:], "little")
    try:
        return msgspec.json.decode(sealed[-4 - note : -4], type=TileRecord)
    except msgspec.MsgspecError:
        return None  # of another version


def read_values(path: str, tile: Tile) -> np.ndarray:
    """Bands (C, H, W) of a tile's window of a finished map.

    Raises:
        DltsError: the map cannot be read.
    """
    window = rasterio.windows.Window(tile.window.col, tile.window.row, tile.window.width, tile.window.height)
    try:
        with gdal_env(storage.is_remote(path)), rasterio.open(storage.gdal_path(path)) as dataset:
            return dataset.read(window=window)
    except (RasterioError, CPLE_BaseError) as error:
        raise DltsError(f"cannot read the map {path}: {error}") from error
