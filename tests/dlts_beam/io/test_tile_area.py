"""The wanted pixels of a tile: the same in strips as at once, and the same as when the run was planned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from dlts_beam.grid import Grid, Tile, Window
from dlts_beam.io import tile_area as module
from dlts_beam.io.area import Area, area_digest
from dlts_beam.io.outline import Outline
from dlts_beam.io.tile_area import AreaChangedError, planned_area, tile_area
from tests.helpers import TRANSFORM, UTM

GRID = Grid(UTM, TRANSFORM, 300, 200)
TILE = Tile(0, 0, Window(20, 10, 270, 180))


def write_mask(path: Path, seed: int) -> str:
    kept = np.random.default_rng(seed).random((300, 200)) < 0.5
    profile = {"driver": "GTiff", "height": 300, "width": 200, "count": 1, "dtype": "uint8", "crs": UTM}
    with rasterio.open(path, "w", transform=Affine(*TRANSFORM), **profile) as mask:
        mask.write(kept.astype(np.uint8), 1)
    return str(path)


def circle(radius: float) -> Outline:
    middle = shapely.Point(TRANSFORM[2] + 30 * 100, TRANSFORM[5] - 30 * 150)
    return Outline(GRID, shapely.to_wkb(middle.buffer(30 * radius)))


@pytest.mark.parametrize("strip", [1, 180 * 64, 180 * 130, 1 << 20])
def test_strips_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    area = Area(GRID, circle(90), write_mask(tmp_path / "mask.tif", 0))
    monkeypatch.setattr(module, "STRIP_PIXELS", strip)
    found = tile_area(area, TILE.window)
    np.testing.assert_array_equal(found, area.inside(TILE.window))
    assert 0 < found.sum() < found.size
    area.close()


def test_a_mask_that_changed_is_named(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "mask.tif", 0)
    area = Area(GRID, None, path)
    planned = tile_area(area, TILE.window)
    area.close()
    np.testing.assert_array_equal(planned_area(area, TILE, area_digest(planned)), planned)
    area.close()
    write_mask(tmp_path / "mask.tif", 1)
    with pytest.raises(AreaChangedError, match=f"the mask {path} changed .* in tile r00000c00000"):
        planned_area(area, TILE, area_digest(planned))
    with pytest.raises(AreaChangedError, match="changed"):
        planned_area(area, TILE, None)
    area.close()


def test_polygons_that_fall_otherwise_on_a_worker_are_told() -> None:
    planned = area_digest(tile_area(Area(GRID, circle(90)), TILE.window))
    assert planned is not None
    with pytest.raises(AreaChangedError, match="lie in the polygons of --roi on this worker"):
        planned_area(Area(GRID, circle(80)), TILE, planned)
