from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS

from dlts_beam.certificate import TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, iter_tiles
from dlts_beam.io.raster import assemble as assemble_module
from dlts_beam.io.raster.assemble import Mosaic, assemble, check_output_size, output_driver, vrt_text
from dlts_beam.io.raster.parts import Part, checksum, write_part
from dlts_beam.spec import ClassTable

CLASSES = ClassTable.from_csv("value,name,colour\n1,a,#112233\n4,b & c,#445566\n")
HEIGHT, WIDTH = 70, 90
GRID = Grid(CRS.from_epsg(32721).to_wkt(), (30.0, 0.0, 5e5, 0.0, -30.0, 8e6), HEIGHT, WIDTH)


@pytest.fixture
def whole() -> np.ndarray:
    return np.random.default_rng(0).choice(np.array([1, 4, 255], np.uint8), (HEIGHT, WIDTH))


def write_tiles(folder: Path, whole: np.ndarray, size: int) -> list[TileRecord]:
    records = []
    for tile in iter_tiles(HEIGHT, WIDTH, size):
        values = whole[tile.window.slices]
        records.append(TileRecord(tile.key, tile.window, "k", checksum(values), (0, 0), tile.window.pixels))
        write_part(str(folder), records[-1], Part(values), GRID, 255)
    return records


@pytest.mark.parametrize("name", ["map.tif", "map.img", "map.TIFF"])
@pytest.mark.parametrize("size", [16, 33, 90])
def test_the_raster_holds_the_tiles(tmp_path: Path, whole: np.ndarray, name: str, size: int) -> None:
    records = write_tiles(tmp_path / "parts", whole, size)
    output = tmp_path / name
    assemble(str(tmp_path / "parts"), Mosaic.of_map(GRID, CLASSES), records, str(output))
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_a_tile_without_part_is_nodata(tmp_path: Path, whole: np.ndarray) -> None:
    records = write_tiles(tmp_path / "parts", whole, 40)[:-1]
    assemble(str(tmp_path / "parts"), Mosaic.of_map(GRID, CLASSES), records, str(tmp_path / "map.tif"))
    whole[40:, 80:] = 255
    with rasterio.open(tmp_path / "map.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole)


def test_the_mosaic_may_move_with_its_parts(tmp_path: Path, whole: np.ndarray) -> None:
    records = write_tiles(tmp_path / "parts", whole, 40)
    text = vrt_text(Mosaic.of_map(GRID, CLASSES), [record.tile for record in records])
    assert str(tmp_path) not in text
    (tmp_path / "parts" / "map.vrt").write_text(text)
    (tmp_path / "parts").rename(tmp_path / "moved")
    with rasterio.open(tmp_path / "moved" / "map.vrt") as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole)
        assert dataset.colormap(1)[4] == (0x44, 0x55, 0x66, 255)


def test_a_raster_that_lost_pixels_gets_no_name(
    tmp_path: Path, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that loses what a full disk refused, without a word, is found out."""
    records = write_tiles(tmp_path / "parts", whole, 40)
    write = assemble_module._write_cog

    def forgetful(vrt: str, aside: str, mosaic: Mosaic) -> None:
        write(vrt, aside, mosaic)
        with rasterio.open(aside, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            dataset.write(np.zeros((1, 5, 5), np.uint8), window=((45, 50), (85, 90)))

    monkeypatch.setattr(assemble_module, "_write_cog", forgetful)
    output = tmp_path / "map.tif"
    with pytest.raises(DltsError, match="tile r00001c00002 did not arrive in it"):
        assemble(str(tmp_path / "parts"), Mosaic.of_map(GRID, CLASSES), records, str(output))
    assert not output.exists()
    monkeypatch.setattr(assemble_module, "_disk_is_full", lambda folder: True)
    with pytest.raises(DltsError, match="the disk is full"):
        assemble(str(tmp_path / "parts"), Mosaic.of_map(GRID, CLASSES), records, str(output))


def test_a_raster_that_keeps_pixels_in_another_file_gets_no_name(
    tmp_path: Path, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ERDAS Imagine's spill file would not be moved with it, and go with the folder it was built in."""
    records = write_tiles(tmp_path / "parts", whole, 40)

    def spill(vrt: str, aside: str, resampling: object) -> None:
        rasterio.shutil.copy(vrt, aside, driver="HFA", USE_SPILL="YES")

    monkeypatch.setattr(assemble_module, "write_hfa", spill)
    with pytest.raises(DltsError, match=r"map\.ige.*use a name that ends in \.tif"):
        assemble(str(tmp_path / "parts"), Mosaic.of_map(GRID, CLASSES), records, str(tmp_path / "map.img"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts"]


def test_a_missing_part_is_told(tmp_path: Path, whole: np.ndarray) -> None:
    records = write_tiles(tmp_path / "parts", whole, 40)
    (tmp_path / "parts" / "r00001c00001.tif").unlink()
    with pytest.raises(DltsError, match="cannot write"):
        assemble(str(tmp_path / "parts"), Mosaic.of_map(GRID, CLASSES), records, str(tmp_path / "map.tif"))
    assert not (tmp_path / "map.tif").exists()


def test_a_raster_that_lies_elsewhere_gets_no_name(tmp_path: Path, whole: np.ndarray) -> None:
    """ERDAS Imagine would turn columns that run westwards."""
    a, b, c, d, e, f = GRID.transform
    mosaic = Mosaic.of_map(dataclasses.replace(GRID, transform=(-a, b, c, d, e, f)), CLASSES)
    records = write_tiles(tmp_path / "parts", whole, 40)
    with pytest.raises(DltsError, match=r"cannot write map\.img: the columns of the series run"):
        check_output_size("map.img", mosaic)
    with pytest.raises(DltsError, match=r"does not lie on the grid .*\(its transform is .*\.tif"):
        assemble(str(tmp_path / "parts"), mosaic, records, str(tmp_path / "map.img"))
    assert not (tmp_path / "map.img").exists()
    check_output_size("map.tif", mosaic)
    assemble(str(tmp_path / "parts"), mosaic, records, str(tmp_path / "map.tif"))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert tuple(dataset.transform)[:6] == mosaic.grid.transform


def test_other_extensions_are_refused() -> None:
    assert output_driver("gs://bucket/a.tif") == "COG"
    for name in ("map", "map.png", "map.tif.gz"):
        with pytest.raises(DltsError, match=r"must end in \.tif"):
            output_driver(name)
