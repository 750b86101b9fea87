"""One lattice of pixels for all images of a series, and the grid that covers them: pure arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dlts_beam.grid import Grid, Window

#: How far, in pixels, a corner of an image may lie from the lattice.
TOLERANCE = 1e-3


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right) in pixels of a lattice, possibly fractional."""

    top: float
    left: float
    bottom: float
    right: float

    def overlaps(self, other: Box) -> bool:
        """True where the boxes share more than a rounding error."""
        return (
            min(self.bottom, other.bottom) - max(self.top, other.top) > TOLERANCE
            and min(self.right, other.right) - max(self.left, other.left) > TOLERANCE
        )

    def outer(self) -> Window:
        """The smallest window of whole pixels that holds the box."""
        top, left = math.floor(self.top + TOLERANCE), math.floor(self.left + TOLERANCE)
        bottom, right = math.ceil(self.bottom - TOLERANCE), math.ceil(self.right - TOLERANCE)
        return Window(top, left, max(1, bottom - top), max(1, right - left))


def pixel_of(lattice: Grid, x: float, y: float) -> tuple[float, float]:
    """Fractional (row, col) of map coordinates on a lattice."""
    a, b, c, d, e, f = lattice.transform
    det = a * e - b * d
    dx, dy = x - c, y - f
    return (a * dy - d * dx) / det, (e * dx - b * dy) / det


def box_in(lattice: Grid, points: Iterable[tuple[float, float]]) -> Box:
    """The box round some points in map coordinates."""
    rows, cols = zip(*(pixel_of(lattice, x, y) for x, y in points), strict=True)
    return Box(min(rows), min(cols), max(rows), max(cols))


def differences(image: Grid, lattice: Grid) -> list[str]:
    """What keeps an image off the lattice: any of ``CRS``, ``resolution``, ``origin``; empty where it fits.

    An image fits when its CRS is the same text (see ``unify_crs``) and all its pixels are pixels of the
    lattice: its upper left corner lies on a corner of a pixel, and so do the others, as many pixels away
    as the image has rows and columns.
    """
    if image.crs != lattice.crs:
        return ["CRS"]
    row, col = pixel_of(lattice, *image.xy(0, 0))
    corners = ((0, image.width), (image.height, 0), (image.height, image.width))
    for corner_row, corner_col in corners:
        found_row, found_col = pixel_of(lattice, *image.xy(corner_row, corner_col))
        if max(abs(found_row - row - corner_row), abs(found_col - col - corner_col)) > TOLERANCE:
            return ["resolution"]
    if max(abs(row - round(row)), abs(col - round(col))) > TOLERANCE:
        return ["origin"]
    return []


def place(image: Grid, lattice: Grid) -> Window:
    """The pixels of the lattice that an image on it covers (see ``differences``)."""
    row, col = pixel_of(lattice, *image.xy(0, 0))
    return Window(round(row), round(col), image.height, image.width)


def pixel_area(grid: Grid) -> float:
    """Area of one pixel in square map units."""
    a, b, _, d, e, _ = grid.transform
    return abs(a * e - b * d)


def union(windows: Iterable[Window]) -> Window:
    """The smallest window that holds all of them."""
    windows = list(windows)
    row, col = min(window.row for window in windows), min(window.col for window in windows)
    end_row = max(window.row + window.height for window in windows)
    end_col = max(window.col + window.width for window in windows)
    return Window(row, col, end_row - row, end_col - col)


def intersection(windows: Sequence[Window]) -> Window | None:
    """The window that all of them share, or None."""
    common: Window | None = windows[0]
    for window in windows[1:]:
        common = common.intersect(window) if common is not None else None
    return common


def sub_grid(lattice: Grid, window: Window) -> Grid:
    """The grid of a window of a lattice (which may reach beyond the grid that gave the lattice)."""
    a, b, _, d, e, _ = lattice.transform
    x, y = lattice.xy(window.row, window.col)
    return Grid(lattice.crs, (a, b, x, d, e, y), window.height, window.width)


def covered_pixels(windows: Iterable[Window], within: Window) -> int:
    """How many pixels of ``within`` lie in at least one of the windows."""
    parts = [part for window in windows if (part := window.intersect(within)) is not None]
    rows = sorted({edge for part in parts for edge in (part.row, part.row + part.height)})
    total = 0
    for top, bottom in itertools.pairwise(rows):
        spans = sorted(
            (part.col, part.col + part.width) for part in parts if part.row <= top < part.row + part.height
        )
        reached = -math.inf
        for left, right in spans:
            total += int(max(0, right - max(left, reached))) * (bottom - top)
            reached = max(reached, right)
    return total
