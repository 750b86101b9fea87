from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio

from dlts_beam.certificate import TileRecord
from dlts_beam.grid import Grid, Tile, Window
from dlts_beam.io.raster import parts
from dlts_beam.io.raster.parts import Part, checksum, checksum_of, part_name, read_part, write_part

GRID = Grid("EPSG:32721", (30.0, 0.0, 500_000.0, 0.0, -30.0, 8_000_000.0), 100, 100)
TILE = Tile(2, 3, Window(40, 60, 20, 15))


def make(probabilities: bool = False) -> tuple[TileRecord, Part]:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 3, (20, 15), np.uint8)
    chances = generator.integers(0, 65535, (20, 15, 3), np.uint16) if probabilities else None
    record = TileRecord(
        TILE.key, TILE.window, "k" * 64, checksum(values), (100, 100, 100), 0,
        None if chances is None else checksum(chances),
    )  # fmt: skip
    return record, Part(values, chances)


@pytest.mark.parametrize("probabilities", [False, True])
def test_a_part_gives_back_its_record(tmp_path: Path, probabilities: bool) -> None:
    record, part = make(probabilities)
    write_part(str(tmp_path), record, part, GRID, 255)
    assert read_part(str(tmp_path), TILE, record.key, probabilities) == record
    with rasterio.open(tmp_path / part_name(TILE)) as dataset:
        np.testing.assert_array_equal(dataset.read(1), part.values)
        assert dataset.transform.to_gdal() == (501_800.0, 30.0, 0.0, 7_998_800.0, 0.0, -30.0)


def test_the_same_tile_is_the_same_bytes(tmp_path: Path) -> None:
    record, part = make()
    for folder in ("a", "b"):
        write_part(str(tmp_path / folder), record, part, GRID, 255)
    name = part_name(TILE)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_absent_foreign_and_half_finished_parts_are_not_used(tmp_path: Path) -> None:
    record, part = make()
    folder = str(tmp_path)
    assert read_part(folder, TILE, record.key, False) is None
    write_part(folder, record, part, GRID, 255)
    assert read_part(folder, TILE, "another key", False) is None
    assert read_part(folder, TILE._replace(window=Window(0, 0, 20, 15)), record.key, False) is None
    assert read_part(folder, TILE, record.key, True) is None


@pytest.mark.parametrize("probabilities", [False, True])
def test_no_damage_is_overlooked(tmp_path: Path, probabilities: bool) -> None:
    """Whichever byte is flipped, wherever the file is cut: the part is refused."""
    record, part = make(probabilities)
    folder = str(tmp_path)
    write_part(folder, record, part, GRID, 255)
    path = tmp_path / part_name(TILE, ".probabilities.tif" if probabilities else ".tif")
    content = path.read_bytes()
    for place in range(0, len(content), 13):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        assert read_part(folder, TILE, record.key, probabilities) is None
    for wrong in (content[: len(content) // 2], content[-11:], content[-40:], content + b"x", b""):
        path.write_bytes(wrong)
        assert read_part(folder, TILE, record.key, probabilities) is None
    path.write_bytes(content)
    assert read_part(folder, TILE, record.key, probabilities) == record


def test_a_record_of_another_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, part = make()
    with monkeypatch.context() as context:
        context.setattr(parts.msgspec.json, "encode", lambda _: b'{"name": "r00002c00003"}')
        write_part(str(tmp_path), record, part, GRID, 255)
    assert read_part(str(tmp_path), TILE, record.key, False) is None


def test_a_checksum_sees_order_and_not_layout() -> None:
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert checksum(array) == checksum(np.asfortranarray(array)) == checksum(array.astype(">u2"))
    assert checksum(array) != checksum(array[::-1])


def test_a_checksum_of_strips_is_that_of_the_whole() -> None:
    array = np.random.default_rng(0).integers(0, 65535, (700, 30, 3), np.uint16)
    assert checksum(array) == hashlib.sha256(array.tobytes()).hexdigest()
    assert checksum_of(array[start : start + 99] for start in range(0, 700, 99)) == checksum(array)


def test_a_large_tile_is_copied_strip_by_strip(tmp_path: Path) -> None:
    """GDAL's encoded file aside, of which there is little here, a tile takes no second array."""
    window = Window(0, 0, 2048, 2048)
    chances = np.zeros((2048, 2048, 2), np.uint16)
    values = np.zeros((2048, 2048), np.uint8)
    tracemalloc.start()
    found = checksum(values), checksum(chances)
    record = TileRecord("r00000c00000", window, "k" * 64, found[0], (2048 * 2048,), 0, found[1])
    write_part(str(tmp_path), record, Part(values, chances), GRID, 255)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < chances.nbytes / 4
    with rasterio.open(tmp_path / "r00000c00000.probabilities.tif") as dataset:
        assert not dataset.read().any()
