from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.spec import Band, Reading
from tests.dlts_beam.io.raster.scenes import Scene, check_every_window, numbers, read_all


def test_values_types_and_order(scene: Scene):
    first, second = numbers(6, 7, 2), numbers(6, 7, 2, start=500)
    spec = scene.series([[[(scene.add(v), b)] for b in (1, 2)] for v in (first, second)])
    values, valid = read_all(spec)
    assert (values.dtype, valid.dtype) == (np.float32, np.bool_)
    assert values.shape == valid.shape == (2, 6, 7, 2)
    assert valid.all()
    np.testing.assert_array_equal(values, np.stack([first, second]))
    with SeriesReader(spec) as reader:
        stored, _ = reader.read_stored(spec.grid.window)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, np.stack([first, second]))
    check_every_window(spec)


@pytest.mark.parametrize(
    "profile", [{"interleave": "band"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}]
)
def test_storage_of_the_file_does_not_matter(scene: Scene, profile: dict[str, Any]):
    pixels = numbers(6, 7, 3)
    number = scene.add(pixels, compress="deflate", **profile)
    spec = scene.series([[[(number, b)] for b in (1, 2, 3)]])
    np.testing.assert_array_equal(read_all(spec)[0][0], pixels)
    check_every_window(spec)


def test_bands_come_in_the_order_asked_for(scene: Scene):
    pixels = numbers(6, 7, 3)
    number = scene.add(pixels)
    spec = scene.series([[[(number, b)] for b in (1, 2, 3)]])
    for names, order in ((("b3", "b1"), [2, 0]), (("b2",), [1]), (("b2", "b3", "b1"), [1, 2, 0])):
        np.testing.assert_array_equal(read_all(spec, names)[0][0], pixels[..., order])
        check_every_window(spec, names)
    assert [band.name for band in SeriesReader(spec, ("b3", "b1")).bands] == ["b3", "b1"]
    with pytest.raises(DltsError, match="the series has no band b9; it has b1, b2, b3"):
        SeriesReader(spec, ("b1", "b9"))


def test_one_file_per_band(scene: Scene):
    red, nir = numbers(6, 7)[..., 0], numbers(6, 7, start=100)[..., 0]
    spec = scene.series([[[(scene.add(red), 1)], [(scene.add(nir), 1)]]])
    np.testing.assert_array_equal(read_all(spec)[0][0], np.stack([red, nir], axis=-1))
    check_every_window(spec)


def test_first_valid_source_wins(scene: Scene):
    first, second = numbers(6, 7), numbers(6, 7, start=1000)
    first[2:4, 2:5] = 0
    second[3, 3] = 0
    one, two = scene.add(first, nodata=0), scene.add(second, nodata=0)
    spec = scene.series([[[(one, 1), (two, 1)]]])
    values, valid = read_all(spec)
    expected = np.where(first != 0, first, second)
    np.testing.assert_array_equal(values[0], expected)
    np.testing.assert_array_equal(valid[0], expected != 0)
    assert not valid[0, 3, 3, 0]
    check_every_window(spec)


def test_order_of_sources_may_differ_between_bands(scene: Scene):
    one, two, three = (scene.add(np.full((6, 7, 2), v, np.uint8)) for v in (1, 2, 3))
    spec = scene.series([[[(one, 1), (two, 1), (three, 1)], [(three, 2), (two, 2)]]])
    assert read_all(spec)[0][0, 0, 0].tolist() == [1.0, 3.0]
    spec = scene.series([[[(two, 1)], [(one, 2), (two, 2)]]])
    assert read_all(spec)[0][0, 0, 0].tolist() == [2.0, 1.0]


def test_files_of_different_extents(scene: Scene):
    """Pieces that reach over the grid's edges, overlap, or leave a hole."""
    upper = scene.add(numbers(5, 6), -2, -1, nodata=0)
    lower = scene.add(numbers(4, 4, start=1000), 2, 2, nodata=0)
    spec = scene.series([[[(upper, 1), (lower, 1)]]])
    expected = np.zeros((6, 7, 1))
    expected[2:6, 2:6] = numbers(4, 4, start=1000)
    expected[0:3, 0:5] = numbers(5, 6)[2:, 1:]
    values, valid = read_all(spec)
    np.testing.assert_array_equal(values[0], expected)
    np.testing.assert_array_equal(valid[0], expected != 0)
    check_every_window(spec)


def test_time_steps_and_bands_without_sources_are_not_valid(scene: Scene):
    number = scene.add(numbers(6, 7))
    spec = scene.series([[[(number, 1)], []], [[], []]])
    values, valid = read_all(spec)
    assert valid[0, ..., 0].all()
    assert not valid[0, ..., 1].any()
    assert not valid[1].any()
    assert (values[~valid] == 0).all()
    check_every_window(spec)


@pytest.mark.parametrize(
    ("dtype", "nodata", "noted"),
    [
        ("uint8", 255.0, 255.0),
        ("int16", -9999.0, -9999.0),
        ("uint16", 0.0, 0.0),
        ("int32", -2147483648.0, -2147483648.0),
        ("float32", -3.4028234663852886e38, -3.4028234663852886e38),
        ("float32", -3.4028234663852886e38, -3.40282346638529e38),
        ("float64", -1.7976931348623157e308, -1.7976931348623157e308),
        ("float64", -9999.25, -9999.25),
    ],
)
def test_nodata_of_every_type(scene: Scene, dtype: str, nodata: float, noted: float):
    pixels = numbers(6, 7, dtype=dtype)
    pixels[1, 2] = nodata
    spec = scene.series([[[(scene.add(pixels), 1)]]], [Band(1, "a", dtype, noted)])
    values, valid = read_all(spec)
    expected = np.ones((6, 7), bool)
    expected[1, 2] = False
    np.testing.assert_array_equal(valid[0, ..., 0], expected)
    np.testing.assert_array_equal(values[0][expected], numbers(6, 7).astype("f4")[expected])
    assert values[0, 1, 2, 0] == 0
    check_every_window(spec)


@pytest.mark.parametrize("nodata", [-1.0, 300.0, 7.5])
def test_nodata_that_the_type_cannot_hold_marks_nothing(scene: Scene, nodata: float):
    spec = scene.series([[[(scene.add(numbers(6, 7, dtype="uint8")), 1)]]], [Band(1, "a", "uint8", nodata)])
    assert read_all(spec)[1].all()


def test_each_band_has_its_own_nodata(scene: Scene):
    pixels = np.full((6, 7, 3), 5, np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    bands = [Band(1, "a", "uint8", 0.0), Band(2, "b", "uint8", 255.0), Band(3, "c", "uint8")]
    spec = scene.series([[[(scene.add(pixels), b)] for b in (1, 2, 3)]], bands)
    values, valid = read_all(spec)
    assert valid[0, 0, 0].tolist() == [False, True, True]
    assert valid[0, 0, 1].tolist() == [True, False, True]
    assert valid[0, 1:].all()
    assert values[0, 0, 0].tolist() == [0, 0, 0]
    assert values[0, 0, 1].tolist() == [255, 0, 255]
    check_every_window(spec)


def test_nan_and_infinity_are_never_valid(scene: Scene):
    pixels = numbers(6, 7, dtype="float32")
    pixels[0, 0], pixels[1, 1], pixels[2, 2] = np.nan, np.inf, -np.inf
    spec = scene.series([[[(scene.add(pixels), 1)]]])
    values, valid = read_all(spec)
    assert [tuple(place) for place in np.argwhere(~valid[0, ..., 0])] == [(0, 0), (1, 1), (2, 2)]
    assert np.isfinite(values).all()
    check_every_window(spec)


def test_values_beyond_float32_are_not_valid(scene: Scene):
    pixels = numbers(6, 7, dtype="float64")
    pixels[3, 3] = 1e300
    spec = scene.series([[[(scene.add(pixels), 1)]]])
    assert (~read_all(spec)[1]).sum() == 1
    check_every_window(spec)


def test_scale_and_offset_are_rounded_once(scene: Scene):
    pixels = numbers(6, 7, 2, start=9990)
    pixels[0, 0] = 0
    number = scene.add(pixels)
    for second in ((0.0001, -0.1), (0.0001, 0.0), (2.75e-5, -0.2), (-1.0, 0.0)):
        bands = [Band(1, "a", "uint16", 0.0, 0.0001), Band(2, "b", "uint16", 0.0, *second)]
        spec = scene.series([[[(number, 1)], [(number, 2)]]], bands)
        values, valid = read_all(spec)
        scaled = (pixels * np.array([0.0001, second[0]]) + np.array([0.0, second[1]])).astype(np.float32)
        np.testing.assert_array_equal(values[0], np.where(pixels != 0, scaled, 0))
        assert not np.signbit(values[~valid]).any()
        check_every_window(spec)


def test_valid_range_holds_after_scaling_with_its_ends(scene: Scene):
    pixels = np.array([[0, 1, 999, 1000, 5000, 10000, 10001]] * 6, np.uint16)
    bands = [Band(1, "a", "uint16", None, 0.0001)]
    reading = Reading(valid_min=0.1, valid_max=1.0)
    spec = scene.series([[[(scene.add(pixels), 1)]]], bands, reading=reading)
    values, valid = read_all(spec)
    assert valid[0, 0, :, 0].tolist() == [False, False, False, True, True, True, False]
    assert values[0, 0, 6, 0] == 0
    check_every_window(spec)


def test_bands_of_several_types_meet_in_their_common_type(scene: Scene):
    optical, radar = numbers(6, 7), numbers(6, 7, dtype="float32") * np.float32(0.37)
    signed = -numbers(6, 7, dtype="int16")
    radar[2, 2] = np.float32(-3.4e38)
    bands = [Band(1, "a", "uint16"), Band(2, "b", "float32", -3.4e38), Band(3, "c", "int16")]
    files = [scene.add(pixels) for pixels in (optical, radar, signed)]
    spec = scene.series([[[(number, 1)] for number in files]], bands)
    with SeriesReader(spec) as reader:
        assert reader.dtype == np.float32
        stored, valid = reader.read_stored(spec.grid.window)
    radar[2, 2] = 0
    np.testing.assert_array_equal(stored[0], np.concatenate([optical, radar, signed], axis=-1))
    assert np.argwhere(~valid).tolist() == [[0, 2, 2, 1]]
    with SeriesReader(spec, ("a", "c")) as reader:
        assert reader.dtype == np.int32
    check_every_window(spec)


def test_one_file_may_hold_bands_of_several_types(scene: Scene, tmp_path: Path):
    small, large = numbers(6, 7, dtype="uint8"), numbers(6, 7, start=1000)
    paths = [scene.files[scene.add(pixels)].path for pixels in (small, large)]
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{k + 1}"><SimpleSource>'
        f"<SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for k, (path, kind) in enumerate(zip(paths, ("Byte", "UInt16"), strict=True))
    )
    place = "<GeoTransform>500000, 10, 0, 8000000, 0, -10</GeoTransform>"
    mixed = tmp_path / "mixed.vrt"
    mixed.write_text(f'<VRTDataset rasterXSize="7" rasterYSize="6">{place}{bands}</VRTDataset>')
    scene.register(mixed, 0, 0, 6, 7)
    spec = scene.series([[[(2, 1)], [(2, 2)]]], [Band(1, "a", "uint8"), Band(2, "b", "uint16")])
    np.testing.assert_array_equal(read_all(spec)[0][0], np.concatenate([small, large], axis=-1))
    check_every_window(spec)
