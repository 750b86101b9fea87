"""Versions and longitudes."""

from __future__ import annotations

import pytest
from rasterio.crs import CRS

from dlts_beam.io.raster.gdal import gdal_version, to_lonlat


def test_the_version_is_that_of_a_library() -> None:
    assert int(gdal_version().split(".")[0]) >= 3


def test_map_coordinates_become_degrees() -> None:
    # The central meridian of UTM zone 21 is 57 degrees west; the false easting 500 km, the equator 10,000 km.
    lon, lat = to_lonlat(CRS.from_epsg(32721).to_wkt(), [500_000.0], [10_000_000.0])
    assert lon == pytest.approx([-57.0])
    assert lat == pytest.approx([0.0], abs=1e-9)
