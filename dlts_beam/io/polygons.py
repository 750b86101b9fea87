"""Pixels inside polygons: by centre, kept off the edge, and a deterministic choice among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from dlts_beam.grid import Grid, Window
from dlts_beam.sampling import centres, pixels_of

PIXELS_AT_ONCE = 1 << 20
DEFAULT_PER_POLYGON = 1000


@dataclass(frozen=True)
class PolygonRule:
    """How many pixels of a polygon are taken, and how far from its edge they stay.

    Attributes:
        per_polygon: at most this many; 0 takes all.
        erode: pixels of the neighbourhood (square, this many on each side) that must lie inside too.
    """

    per_polygon: int = DEFAULT_PER_POLYGON
    erode: int = 0

    def __post_init__(self) -> None:
        if self.per_polygon < 0 or self.erode < 0:
            raise ValueError(f"counts must be 0 or more; got {self.per_polygon} and {self.erode}")


def polygon_pixels(polygon: shapely.Geometry, grid: Grid, rule: PolygonRule) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns int64 (N,) of the grid's pixels taken from a polygon or multipolygon.

    A pixel is inside when its centre is; of too many, those with the lowest digests of their place are
    taken, so the choice depends on the place alone, not on the extent of the grid or the run.
    """
    nothing = np.zeros(0, np.int64)
    whole = _pixel_box(polygon, grid)
    if min(whole.height, whole.width) <= 2 * rule.erode:
        return nothing, nothing
    shapely.prepare(polygon)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    box = whole.intersect(grid.window)
    if box is None:
        return nothing, nothing
    height = max(1, PIXELS_AT_ONCE // (box.width + 2 * rule.erode))
    for row in range(box.row, box.row + box.height, height):
        part = Window(row, box.col, min(height, box.row + box.height - row), box.width)
        inside = _erode(_mask(polygon, grid, part.grow(rule.erode)), rule.erode)
        rows, cols = np.nonzero(inside)
        found.append((rows + part.row, cols + part.col))
    rows, cols = (np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True))
    if rule.per_polygon and len(rows) > rule.per_polygon:
        chosen = np.argsort(place_digests(*centres(grid, rows, cols)), kind="stable")[: rule.per_polygon]
        chosen.sort()
        rows, cols = rows[chosen], cols[chosen]
    return rows, cols


def place_digests(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """uint64 (N,): well-mixed numbers made of coordinates in millionths of a map unit.

    These tell the pixels of a grid in degrees apart, and are coarser than the rounding errors of metres.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.round(x * 1e6).astype(np.int64).view(np.uint64))
        return _mix(state ^ np.round(y * 1e6).astype(np.int64).view(np.uint64))


def _mix(state: np.ndarray) -> np.ndarray:
    """The finaliser of the splitmix64 generator."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _pixel_box(polygon: shapely.Geometry, grid: Grid) -> Window:
    """Pixels that the polygon's box touches, outside the grid too."""
    left, bottom, right, top = polygon.bounds
    corners_x, corners_y = np.array([left, left, right, right]), np.array([bottom, top, bottom, top])
    rows, cols = pixels_of(grid, corners_x, corners_y)
    row, col = int(rows.min()), int(cols.min())
    return Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)


def _mask(polygon: shapely.Geometry, grid: Grid, window: Window) -> np.ndarray:
    """Bool (height, width): pixel centres inside; the window may reach outside the grid."""
    rows, cols = np.mgrid[window.row : window.row + window.height, window.col : window.col + window.width]
    return shapely.contains_xy(polygon, *centres(grid, rows, cols))


def _erode(inside: np.ndarray, reach: int) -> np.ndarray:
    """Bool, smaller by ``reach`` on each side: True where the whole square neighbourhood is."""
    if reach == 0:
        return inside
    height, width = inside.shape[0] - 2 * reach, inside.shape[1] - 2 * reach
    shifts = range(2 * reach + 1)
    rows = np.logical_and.reduce([inside[shift : shift + height] for shift in shifts])
    return np.logical_and.reduce([rows[:, shift : shift + width] for shift in shifts])
