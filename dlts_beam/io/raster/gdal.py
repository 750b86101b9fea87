"""What other layers need of GDAL beside pixels: its version, and longitudes and latitudes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import rasterio
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.crs import CRS


def gdal_version() -> str:
    """Version of the GDAL in use."""
    return str(rasterio.__gdal_version__)


def to_lonlat(crs: str, xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """WGS84 longitudes and latitudes in degrees of map coordinates in ``crs`` (any text that GDAL takes).

    Both are NaN where a point has no place on earth: beside the disk that a geostationary satellite sees,
    and everywhere in a coordinate system that is not tied to the earth.
    """
    try:
        to_degrees = Transformer.from_crs(CRS.from_user_input(crs).to_wkt(), "EPSG:4326", always_xy=True)
    except ProjError:
        return [math.nan] * len(xs), [math.nan] * len(ys)
    lon, lat = (np.array(each, np.float64) for each in to_degrees.transform(xs, ys))
    nowhere = ~(np.isfinite(lon) & np.isfinite(lat))
    lon[nowhere] = lat[nowhere] = np.nan
    return lon.tolist(), lat.tolist()
