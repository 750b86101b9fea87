"""Versions and longitudes."""

from __future__ import annotations

import math

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


def test_points_without_a_place_on_earth_are_nan() -> None:
    """The corner of what a geostationary satellite scans lies beside the earth."""
    disk = CRS.from_user_input("+proj=geos +h=35785831 +lon_0=0 +ellps=WGS84").to_wkt()
    lon, lat = to_lonlat(disk, [-5.5e6, 0.0], [5.5e6, 0.0])
    assert math.isnan(lon[0])
    assert math.isnan(lat[0])
    assert (lon[1], lat[1]) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_a_system_that_is_not_tied_to_the_earth_has_no_degrees() -> None:
    lon, lat = to_lonlat('LOCAL_CS["mine",UNIT["metre",1]]', [1.0, 2.0], [3.0, 4.0])
    assert all(math.isnan(value) for value in (*lon, *lat))
    assert len(lon) == len(lat) == 2
