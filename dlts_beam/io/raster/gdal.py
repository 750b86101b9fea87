"""What other layers need of GDAL beside pixels: its version, and longitudes and latitudes."""

from __future__ import annotations

from collections.abc import Sequence

import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform


def gdal_version() -> str:
    """Version of the GDAL in use."""
    return str(rasterio.__gdal_version__)


def to_lonlat(crs: str, xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """WGS84 longitudes and latitudes in degrees of map coordinates in ``crs`` (WKT)."""
    lon, lat = transform(CRS.from_user_input(crs), CRS.from_epsg(4326), xs, ys)[:2]
    return lon, lat
