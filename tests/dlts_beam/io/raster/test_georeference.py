"""Whether a raster that was written lies where its grid does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import rasterio
from rasterio.crs import CRS

from dlts_beam.grid import Grid
from dlts_beam.io.raster.georeference import misplacement

UTM = Grid(CRS.from_epsg(32721).to_wkt(), (30.0, 0.0, 5e5, 0.0, -30.0, 8e6), 7, 9)
DEGREES = Grid(CRS.from_epsg(4674).to_wkt(), (2.5e-4, 0.0, -60.0, 0.0, -2.5e-4, -10.0), 7, 9)
DISK = Grid(
    CRS.from_proj4("+proj=geos +h=35785831 +lon_0=0 +ellps=WGS84").to_wkt(),
    (6e5, 0.0, -5.7e6, 0.0, -6e5, 5.7e6), 19, 19,
)  # fmt: skip
NOWHERE = dataclasses.replace(UTM, crs=CRS.from_user_input('LOCAL_CS["mine",UNIT["metre",1]]').to_wkt())


def told(path: Path, written: Grid, grid: Grid) -> str | None:
    with rasterio.open(
        path, "w", driver="HFA" if path.suffix == ".img" else "GTiff", height=grid.height, width=grid.width,
        count=1, dtype="uint8", crs=written.crs or None, transform=rasterio.Affine(*written.transform),
    ):  # fmt: skip
        pass
    with rasterio.open(path) as dataset:
        return misplacement(dataset, grid)


@pytest.mark.parametrize("extension", ["tif", "img"])
@pytest.mark.parametrize("grid", [UTM, DEGREES, DISK, NOWHERE], ids=["utm", "degrees", "disk", "nowhere"])
def test_every_crs_is_found_again(tmp_path: Path, grid: Grid, extension: str) -> None:
    """ERDAS Imagine keeps no code of that of the degrees, and nothing of one without a place on earth."""
    assert told(tmp_path / f"map.{extension}", grid, grid) is None


def test_what_differs_is_told(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    shifted = dataclasses.replace(UTM, transform=(30.0, 0.0, 5e5 + 1.0, 0.0, -30.0, 8e6))
    found = "its transform is (30, 0, 500001, 0, -30, 8000000), not (30, 0, 500000, 0, -30, 8000000)"
    assert told(path, shifted, UTM) == found
    other = dataclasses.replace(UTM, crs=CRS.from_epsg(32722).to_wkt())
    assert told(path, other, UTM) == "its coordinate reference system is another"
    bare = dataclasses.replace(UTM, crs="")
    assert told(path, bare, UTM) == "it has no coordinate reference system"
    assert told(path, UTM, bare) is None
