"""ERDAS Imagine files (GDAL's driver HFA): what they can hold, and how they are written."""

from __future__ import annotations

import rasterio
import rasterio.shutil
from rasterio.enums import Resampling

from dlts_beam.errors import DltsError

# From 2,000,000,000 bytes on, overviews included, GDAL puts pixels in a second file (.ige) beside the .img,
# and then it does not compress. A hundredth is left for the headers.
MAX_BYTES = 1_980_000_000
BLOCK = 64
LEAST_SIDE = 512  # the smallest overview is no larger


def check_size(path: str, height: int, width: int, pixel_bytes: int) -> None:
    """Refuse a raster that may not fit in one file, should its pixels not compress at all.

    Args:
        path: the raster, to name it.
        pixel_bytes: of all bands of one pixel.

    Raises:
        DltsError: it may reach 2 GB with its overviews.
    """
    sides = [(-(-height // by), -(-width // by)) for by in (1, *_overviews(height, width))]
    blocks = sum(-(-high // BLOCK) * -(-wide // BLOCK) for high, wide in sides)
    if blocks * BLOCK * BLOCK * pixel_bytes > MAX_BYTES:
        raise DltsError(
            f"cannot write {path}: {width} x {height} pixels of {pixel_bytes} bytes are too many for an ERDAS"
            " Imagine file, which holds less than 2 GB with its overviews; use a name that ends in .tif"
        )


def check_transform(path: str, transform: tuple[float, ...]) -> None:
    """Refuse a grid whose georeference the format cannot hold.

    Args:
        path: the raster, to name it.
        transform: of the grid, see `dlts_beam.grid.Grid`.

    Raises:
        DltsError: its columns run from east to west: GDAL would write them the other way.
    """
    a, b, _, d, _, _ = transform
    if a < 0 and b == d == 0:
        raise DltsError(
            f"cannot write {path}: the columns of the series run against the x axis (pixels of width {a:g}),"
            " which an ERDAS Imagine file cannot say; use a name that ends in .tif"
        )


def write_hfa(source: str, path: str, resampling: Resampling) -> None:
    """Copy a raster, compressed, and add overviews made by ``resampling``."""
    rasterio.shutil.copy(source, path, driver="HFA", COMPRESSED="YES")
    with rasterio.Env(HFA_USE_RRD="NO"), rasterio.open(path, "r+") as dataset:
        factors = _overviews(dataset.height, dataset.width)
        if factors:
            dataset.build_overviews(factors, resampling)


def _overviews(height: int, width: int) -> list[int]:
    """Factors of the overviews: powers of 2."""
    factors = []
    factor = 2
    while max(height, width) / factor * 2 > LEAST_SIDE:
        factors.append(factor)
        factor *= 2
    return factors
