"""The pixel grid of a series and its subdivision into tiles and windows: pure integer arithmetic."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# In pixels. Metres hold about 1e-9 of a 10 m pixel, degrees about 1e-10.
EDGE_TOLERANCE = 1e-7
# The authority's code of a whole WKT, 1 or 2, ends the text with two brackets; those of its parts have more.
_WKT_CODE = re.compile(r'\b(?:AUTHORITY|ID)\[\s*"(\w+)"\s*,\s*"?(\w+)"?\s*\]\s*\]\s*$')
_CODE = re.compile(r"\s*(\w+):(\w+)\s*")


class Window(NamedTuple):
    """Pixels [row, row + height) x [col, col + width) of the grid (may reach outside it as a halo)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices of this window in an array of the whole grid."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def grow(self, halo: int) -> Window:
        """Return the window widened by ``halo`` pixels on each side."""
        return Window(self.row - halo, self.col - halo, self.height + 2 * halo, self.width + 2 * halo)

    def intersect(self, other: Window) -> Window | None:
        """Return the common part of two windows, or None where they share no pixel."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        end_row = min(self.row + self.height, other.row + other.height)
        end_col = min(self.col + self.width, other.col + other.width)
        if end_row <= row or end_col <= col:
            return None
        return Window(row, col, end_row - row, end_col - col)

    def within(self, outer: Window) -> Window:
        """Return this window in coordinates relative to the upper left corner of ``outer``."""
        return Window(self.row - outer.row, self.col - outer.col, self.height, self.width)


def crs_key(crs: str) -> str:
    """What two spellings of one CRS have in common: ``EPSG:32721``, or a digest of a text without a code.

    Drivers of GDAL spell the same CRS differently, in its units for example. Texts of one key are of one CRS;
    texts of two keys may still be, where one of them has no code.

    Args:
        crs: WKT 1 or 2, ``EPSG:32721``, or any other text.
    """
    code = _WKT_CODE.search(crs) or _CODE.fullmatch(crs)
    if code is not None:
        return f"{code[1].upper()}:{code[2]}"
    return hashlib.sha256(crs.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Grid:
    """Height, width, affine transform and CRS that all images of a series share.

    Attributes:
        crs: coordinate reference system as WKT (any text that GDAL accepts is taken).
        transform: (a, b, c, d, e, f) with x = a * col + b * row + c and y = d * col + e * row + f,
            for the upper left corner of pixel (row, col): rasterio's order.
        height, width: size in pixels.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"height and width must be at least 1; got {self.height} x {self.width}")
        a, b, _, d, e, _ = self.transform
        if a * e - b * d == 0 or not np.isfinite(self.transform).all():
            raise ValueError(f"transform must be invertible; got {self.transform}")

    @property
    def window(self) -> Window:
        """The window of the whole grid."""
        return Window(0, 0, self.height, self.width)

    def xy(self, row: float, col: float) -> tuple[float, float]:
        """Map coordinates of a place in pixel coordinates (add 0.5 to each for a pixel's centre)."""
        a, b, c, d, e, f = self.transform
        return a * col + b * row + c, d * col + e * row + f

    def rowcol(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the pixel that holds the map coordinates, by floor: never truncated.

        A point on a pixel's upper or left edge belongs to that pixel. Rows and columns outside
        the grid are returned as they are, negative ones too.
        """
        rows, cols = self.rowcols(np.array([x], np.float64), np.array([y], np.float64))
        return int(rows[0]), int(cols[0])

    def rowcols(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``rowcol`` of many places: int64 rows and cols, of the shape of the float64 ``x`` and ``y``.

        Raises:
            ValueError: a coordinate is NaN or infinite.
        """
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError("map coordinates must be finite")
        a, b, c, d, e, f = self.transform
        dx, dy = x - c, y - f
        if b == d == 0:
            cols, rows = dx / a, dy / e
        else:
            det = a * e - b * d
            rows, cols = (a * dy - d * dx) / det, (e * dx - b * dy) / det
        return _floor(rows), _floor(cols)

    def contains(self, row: int, col: int) -> bool:
        """True where (row, col) is a pixel of the grid."""
        return 0 <= row < self.height and 0 <= col < self.width

    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in map units: the box round the four corners."""
        corners = [self.xy(row, col) for row in (0, self.height) for col in (0, self.width)]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def _floor(places: np.ndarray) -> np.ndarray:
    """Floor to int64; what misses an edge by the rounding error of its coordinates lies on it."""
    places = np.clip(places, -(2.0**62), 2.0**62)  # absurd coordinates stay outside, they do not wrap round
    nearest = np.rint(places)
    on_edge = np.abs(places - nearest) < EDGE_TOLERANCE
    return np.where(on_edge, nearest, np.floor(places)).astype(np.int64)


class Tile(NamedTuple):
    """One output file: the tile at (row_index, col_index) of the fixed tiling, and its pixels."""

    row_index: int
    col_index: int
    window: Window

    @property
    def key(self) -> str:
        """Name of the tile by position, sortable, for any grid up to 10^5 tiles a side."""
        return f"r{self.row_index:05d}c{self.col_index:05d}"


def iter_tiles(height: int, width: int, size: int) -> Iterator[Tile]:
    """Yield the tiles of a grid row by row; every pixel lies in exactly one of them.

    Raises:
        ValueError: ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"tile size must be at least 1; got {size}")
    for row_index, row in enumerate(range(0, height, size)):
        for col_index, col in enumerate(range(0, width, size)):
            window = Window(row, col, min(size, height - row), min(size, width - col))
            yield Tile(row_index, col_index, window)


def count_tiles(height: int, width: int, size: int) -> int:
    """Number of tiles that ``iter_tiles`` yields, without walking over them."""
    return -(-height // size) * -(-width // size)


def split_window(window: Window, height: int, width: int) -> Iterator[Window]:
    """Yield windows of at most ``height`` x ``width`` that cover ``window`` exactly once, row by row.

    Cuts lie on multiples of ``height`` and ``width`` of the grid, not of the window, so that they
    stay on the block grid of sources when the sizes are multiples of the block size.
    """
    if height < 1 or width < 1:
        raise ValueError(f"window size must be at least 1 x 1; got {height} x {width}")
    row = window.row
    while row < window.row + window.height:
        end_row = min((row // height + 1) * height, window.row + window.height)
        col = window.col
        while col < window.col + window.width:
            end_col = min((col // width + 1) * width, window.col + window.width)
            yield Window(row, col, end_row - row, end_col - col)
            col = end_col
        row = end_row
