"""The area of interest of step 4: regions and masks."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from dlts_beam.io.raster.reader import SeriesReader
from tests.fakes import Scene, classify, expected_map, load, make_model, read_map

NODATA = 255


def write_area(path: Path, scene: Scene, crs: str = "EPSG:4326") -> np.ndarray:
    """A triangle as a vector file; gives the pixels whose centre lies in it."""
    grid = scene.spec.grid
    triangle = shapely.Polygon([grid.xy(3.2, 4.1), grid.xy(30.7, 9.3), grid.xy(14.4, 45.9)])
    gpd.GeoDataFrame(geometry=[triangle], crs=grid.crs).to_crs(crs).to_file(path)
    rows, cols = np.mgrid[0 : grid.height, 0 : grid.width] + 0.5
    a, _, c, _, e, f = grid.transform
    return shapely.contains_xy(triangle, c + a * cols, f + e * rows)


def test_only_the_area_of_interest_is_read_and_classified(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = write_area(tmp_path / "area.gpkg", scene)
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    wanted = np.where(inside, expected_map(scene.stored, scene.spec.days, 3), NODATA)
    reads: list[tuple[int, ...]] = []
    read = SeriesReader.read
    monkeypatch.setattr(
        SeriesReader, "read", lambda self, window: (reads.append(window), read(self, window))[1]
    )
    maps = set()
    for tile in ("8", "16", "64"):
        output = tmp_path / tile / "map.tif"
        reads.clear()
        assert classify(scene, model, output, "--roi", str(tmp_path / "area.gpkg"), "--tile", tile) == 0
        np.testing.assert_array_equal(read_map(output), wanted)
        maps.add(output.read_bytes())
        run, certificate = load(output.with_name("map.tif.run.json")), load(output.with_name("map.tif.json"))
        assert len(reads) == run["written"]
        assert run["expected"] + run["outside"] == len(certificate["tiles"])
        if tile == "8":
            assert run["outside"] > 10
        assert classify(scene, model, output, "--roi", str(tmp_path / "area.gpkg"), "--tile", tile) == 0
        assert load(output.with_name("map.tif.run.json"))["reused"] == run["expected"]
    assert len(maps) == 1


def test_a_mask_raster_of_another_grid_keeps_what_is_not_zero(scene: Scene, tmp_path: Path) -> None:
    a, b, c, d, e, f = scene.spec.grid.transform
    keep = np.zeros((5, 6), np.uint8)
    keep[1:3, 2:5] = 1
    profile = {"driver": "GTiff", "height": 5, "width": 6, "count": 1, "dtype": "uint8"}
    profile |= {"crs": scene.spec.grid.crs, "transform": Affine(8 * a, b, c, d, 8 * e, f)}
    with rasterio.open(tmp_path / "mask.tif", "w", **profile) as mask:
        mask.write(keep, 1)
    inside = np.zeros((37, 53), bool)
    inside[8:24, 16:40] = True
    model = make_model(tmp_path / "model", scene.spec)
    assert (
        classify(scene, model, tmp_path / "map.tif", "--mask", str(tmp_path / "mask.tif"), "--tile", "8") == 0
    )
    wanted = np.where(inside, expected_map(scene.stored, scene.spec.days, 1), NODATA)
    np.testing.assert_array_equal(read_map(tmp_path / "map.tif"), wanted)


@pytest.mark.parametrize(
    ("flag", "name", "told"),
    [
        ("--roi", "nothing.gpkg", "there is no file"),
        ("--roi", "text.gpkg", "cannot read"),
        ("--mask", "nothing.tif", "cannot open the mask"),
        ("--roi", "far.gpkg", "no pixel of the series lies in the area"),
    ],
)
def test_bad_areas_are_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, name: str, told: str
) -> None:
    (tmp_path / "text.gpkg").write_text("no vector file")
    far = shapely.box(0, 0, 10, 10)
    gpd.GeoDataFrame(geometry=[far], crs=scene.spec.grid.crs).to_file(tmp_path / "far.gpkg")
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, tmp_path / "map.tif", flag, str(tmp_path / name)) == 1
    assert told in capsys.readouterr().err


def test_the_layer_of_an_area_is_chosen(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roi, model = tmp_path / "area.gpkg", make_model(tmp_path / "model", scene.spec)
    for name in ("fields", "lakes"):
        gpd.GeoDataFrame(geometry=[shapely.box(-58, -19, -56, -18)], crs=4326).to_file(roi, layer=name)
    assert classify(scene, model, tmp_path / "map.tif", "--roi", str(roi)) == 1
    assert "holds 2 layers: fields, lakes; name one with --roi-layer" in capsys.readouterr().err
    assert classify(scene, model, tmp_path / "map.tif", "--roi", str(roi), "--roi-layer", "lakes") == 0
    assert classify(scene, model, tmp_path / "map.tif", "--roi-layer", "lakes") == 1
    assert "--roi-layer goes with --roi" in capsys.readouterr().err


def test_the_trial_reads_the_area_only(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    write_area(tmp_path / "area.gpkg", scene)
    reads, read = [], SeriesReader.read
    monkeypatch.setattr(
        SeriesReader, "read", lambda self, window: (reads.append(window), read(self, window))[1]
    )
    flags = ("--dry-run", "--tile", "8", "--memory", "449MB", "--roi", str(tmp_path / "area.gpkg"))
    assert classify(scene, model, tmp_path / "map.tif", *flags) == 0
    assert len(reads) == 2
    assert "from a trial of 128 pixels" in capsys.readouterr().out
