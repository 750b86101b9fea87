"""Whether a raster that was written lies where its grid does: not every format can say every place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as moved

from dlts_beam.grid import Grid

TOLERANCE = 0.01  # of a pixel: formats keep coordinates as float64, some with other units


def misplacement(dataset: Any, grid: Grid) -> str | None:
    """What an open raster says of its place that is not so on the grid, in words; None where all is right.

    Two CRSs count as one where they mean the same places: formats leave out names, codes and heights.
    """
    corners = [(row, col) for row in (0, grid.height) for col in (0, grid.width)]
    wanted = np.array([grid.xy(row, col) for row, col in corners])
    written = replace(grid, transform=tuple(dataset.transform)[:6])
    found = np.array([written.xy(row, col) for row, col in corners])
    if _pixels_apart(found, wanted, grid) > TOLERANCE:
        return f"its transform is {_numbers(written.transform)}, not {_numbers(grid.transform)}"
    crs = CRS.from_user_input(grid.crs) if grid.crs else None
    if crs is None or not (crs.is_projected or crs.is_geographic) or dataset.crs == crs:
        return None
    if dataset.crs is None:
        return "it has no coordinate reference system"
    try:
        x, y = moved(dataset.crs, crs, *found.T)
    except (RasterioError, CPLE_BaseError):
        return "its coordinate reference system is another"
    if _pixels_apart(np.stack([x, y], axis=-1), wanted, grid) > TOLERANCE:
        return "its coordinate reference system is another"
    return None


def _pixels_apart(found: np.ndarray, wanted: np.ndarray, grid: Grid) -> float:
    """The largest distance of places (N, xy) in pixels; those that have no place in a CRS do not count."""
    a, b, _, d, e, _ = grid.transform
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.linalg.solve(np.array([[a, b], [d, e]]), (found - wanted).T))
    return float(apart[np.isfinite(apart)].max(initial=0.0))


def _numbers(transform: tuple[float, ...]) -> str:
    return f"({', '.join(f'{number:.10g}' for number in transform)})"
