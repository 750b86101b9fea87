"""Defect 8: maps were float GeoTIFFs whatever the name said: no nodata, colours, names, commit, resume."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from dlts_beam.beam import write_tiles
from dlts_beam.spec import ClassTable
from tests.fakes import Scene, classify, make_model, random_scene, read_map

TABLE = "value,name,colour\n10,Soy & maize,#e69f00\n20,Forest,#009e73\n"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return random_scene(tmp_path / "series", 40, 50)


@pytest.mark.parametrize(("name", "driver"), [("map.tif", "GTiff"), ("map.img", "HFA")])
def test_the_format_is_the_one_that_the_name_says(
    scene: Scene, tmp_path: Path, name: str, driver: str
) -> None:
    classes = ClassTable.from_csv(TABLE)
    model = make_model(tmp_path / "model", scene.spec, classes=classes)
    assert classify(scene, model, tmp_path / name) == 0
    with rasterio.open(tmp_path / name) as dataset:
        assert dataset.driver == driver
        assert dataset.dtypes == ("uint8",)
        assert dataset.nodata == 255
        assert dataset.transform.to_gdal() == (500_000.0, 30.0, 0.0, 8_000_000.0, 0.0, -30.0)
        assert dataset.crs.to_epsg() == 32721
        assert dataset.colorinterp == (ColorInterp.palette,)
        colours = dataset.colormap(1)
        assert (colours[10][:3], colours[20][:3]) == ((230, 159, 0), (0, 158, 115))
        assert set(np.unique(dataset.read(1))) == {10, 20, 255}
    names = [each.text or "" for each in ET.parse(tmp_path / f"{name}.aux.xml").iter("Category")]
    assert (names[10], names[20]) == ("Soy & maize", "Forest")


@pytest.mark.parametrize("name", ["map.tif", "map.img"])
def test_values_beyond_254_give_a_map_of_uint16(scene: Scene, tmp_path: Path, name: str) -> None:
    classes = ClassTable.from_csv("value,name\n300,a\n4000,b\n")
    model = make_model(tmp_path / "model", scene.spec, classes=classes)
    assert classify(scene, model, tmp_path / name) == 0
    with rasterio.open(tmp_path / name) as dataset:
        assert (dataset.dtypes, dataset.nodata) == (("uint16",), 65535)
        assert set(np.unique(dataset.read(1))) == {300, 4000, 65535}
    side = ET.parse(tmp_path / f"{name}.aux.xml")
    if name == "map.img":
        names = {value: each.text for value, each in enumerate(side.iter("Category"))}
    else:
        names = {int(row[0].text or ""): row[1].text for row in side.iter("Row")}
    assert (names[300], names[4000]) == ("a", "b")


def test_a_geotiff_is_cloud_optimised_with_overviews(tmp_path: Path) -> None:
    scene = random_scene(tmp_path / "series", 600, 520, steps=2, bands=1)
    model = make_model(tmp_path / "model", scene.spec, batch=4096)
    assert classify(scene, model, tmp_path / "map.tif", "--tile", "256") == 0
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]


def test_a_run_that_dies_leaves_no_map_and_its_tiles_are_used_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    calls: list[str] = []
    write = write_tiles.write_part

    def dies_at_the_third(folder: str, *args: object) -> None:
        if len(calls) == 2:
            raise MemoryError("the machine went away")
        calls.append(folder)
        write(folder, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(write_tiles, "write_part", dies_at_the_third)
        with pytest.raises(RuntimeError, match="the machine went away"):
            classify(scene, model, output, "--tile", "16")
    assert not output.exists()
    assert not (tmp_path / "map.tif.json").exists()
    assert classify(scene, model, output, "--tile", "16") == 0
    assert "2 of 12 tiles reused" in capsys.readouterr().out
    assert not (tmp_path / "map.tif.parts").exists()

    other = tmp_path / "undisturbed" / "map.tif"
    assert classify(scene, model, other, "--tile", "16") == 0
    assert other.read_bytes() == output.read_bytes()
    np.testing.assert_array_equal(read_map(other), read_map(output))
