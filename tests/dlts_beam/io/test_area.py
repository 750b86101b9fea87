"""Mask rasters of any kind: which of their pixels are wanted."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.io.area import Area

TRANSFORM = (30.0, 0.0, 5e5, 0.0, -30.0, 8e6)
GRID = Grid(CRS.from_epsg(32721).to_wkt(), TRANSFORM, 30, 40)
LOCAL = 'LOCAL_CS["mine",UNIT["metre",1]]'
INSIDE = np.zeros((30, 40), bool)
INSIDE[10:20, 15:30] = True


def write_mask(path: Path, bands: np.ndarray, crs: str = "EPSG:32721", **options: Any) -> str:
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=len(bands),
        dtype=bands.dtype, crs=CRS.from_user_input(crs), transform=rasterio.Affine(*TRANSFORM), **options,
    ) as dataset:  # fmt: skip
        dataset.write(bands)
    return str(path)


def inside(mask: str, grid: Grid = GRID) -> np.ndarray:
    area = Area.load(grid, None, mask)
    assert area is not None
    found = area.inside(grid.window)
    area.close()
    return found


def test_nan_is_not_wanted(tmp_path: Path) -> None:
    values = np.where(INSIDE, 1, np.nan).astype(np.float32)[np.newaxis]
    np.testing.assert_array_equal(inside(write_mask(tmp_path / "mask.tif", values)), INSIDE)


@pytest.mark.parametrize("alpha", [2, 3, 4])
def test_a_picture_with_alpha_is_a_mask(tmp_path: Path, alpha: int) -> None:
    """What is transparent is not wanted, wherever the alpha band stands; nor is what lies outside."""
    bands = np.full((4, 30, 35), 200, np.uint8)
    bands[alpha - 1] = np.where(INSIDE[:, :35], 255, 0)
    path = write_mask(tmp_path / "mask.tif", bands, photometric="RGB")
    with rasterio.open(path, "r+") as dataset:
        kinds = [ColorInterp.undefined] * 4
        kinds[alpha - 1] = ColorInterp.alpha
        dataset.colorinterp = kinds
    np.testing.assert_array_equal(inside(path), INSIDE)
    bands[0] = 0
    if alpha == 4:
        assert not inside(write_mask(tmp_path / "black.tif", bands, photometric="RGB", alpha="YES")).any()


@pytest.mark.parametrize("nodata", [-9999, 7, 0])
def test_nodata_of_the_first_band_decides_alone(tmp_path: Path, nodata: int) -> None:
    first = np.where(INSIDE, 5, nodata).astype(np.int16)
    for number, second in enumerate((np.full_like(first, 5), first, np.full_like(first, nodata))):
        path = write_mask(tmp_path / f"{number}.tif", np.stack([first, second])[:, :, :28], nodata=nodata)
        np.testing.assert_array_equal(inside(path), INSIDE & (np.arange(40) < 28))


def test_a_picture_with_alpha_and_nodata_is_a_mask(tmp_path: Path) -> None:
    """Neither what is transparent, nor nodata, nor what lies outside is wanted."""
    bands = np.full((4, 30, 35), 200, np.uint8)
    bands[3, :15] = 0
    bands[0][~INSIDE[:, :35]] = 7
    path = write_mask(tmp_path / "mask.tif", bands, photometric="RGB", alpha="YES", nodata=7)
    np.testing.assert_array_equal(inside(path), INSIDE & (np.arange(30) >= 15)[:, np.newaxis])


@pytest.mark.parametrize("left", [179.0, -181.0])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4258"])
def test_a_grid_in_degrees_may_run_beyond_180(tmp_path: Path, left: float, crs: str) -> None:
    """The same mask finds the same pixels in the CRS of the grid as in another."""
    grid = Grid(CRS.from_epsg(4326).to_wkt(), (0.1, 0.0, left, 0.0, -0.1, 50.0), 10, 20)
    world = np.zeros((1, 18, 720), np.uint8)
    world[0, :, :1] = world[0, :, -1:] = 1  # half a degree on either side
    path = write_mask(tmp_path / "world.tif", world, crs)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = rasterio.Affine(0.5, 0.0, -180.0, 0.0, -10.0, 90.0)
    assert np.flatnonzero(inside(path, grid).all(axis=0)).tolist() == list(range(5, 15))
    area = Area.load(grid, None, path)
    assert area is not None
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(area)).inside(grid.window), inside(path, grid))


@pytest.mark.parametrize("left", [-180.0, 0.0, -90.0])
def test_a_mask_of_the_world_may_begin_anywhere(tmp_path: Path, left: float) -> None:
    path = write_mask(tmp_path / "world.tif", np.ones((1, 18, 36), np.uint8), "EPSG:4326")
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = rasterio.Affine(10.0, 0.0, left, 0.0, -10.0, 90.0)
    assert inside(path).all()
    across = Grid(CRS.from_epsg(32601).to_wkt(), (30_000.0, 0.0, 2e5, 0.0, -30_000.0, 7.4e6), 15, 21)
    assert inside(path, across).all()


def test_a_grid_without_a_place_on_earth_takes_masks_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    grid = dataclasses.replace(GRID, crs=CRS.from_user_input(LOCAL).to_wkt())
    values = INSIDE.astype(np.uint8)[np.newaxis]
    np.testing.assert_array_equal(inside(write_mask(tmp_path / "own.tif", values, LOCAL), grid), INSIDE)
    with pytest.raises(DltsError, match=r"cannot bring the mask .*utm\.tif onto .* give --mask a file"):
        inside(write_mask(tmp_path / "utm.tif", values), grid)
    assert capfd.readouterr().err == ""
