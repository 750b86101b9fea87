from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.spec import Band, MaskRule, Reading, SeriesSpec
from tests.dlts_beam.io.raster.scenes import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def numbers(height: int, width: int, bands: int = 1, start: int = 1, dtype: str = "uint16") -> np.ndarray:
    """(H, W, B) of different values."""
    return np.arange(start, start + height * width * bands).reshape(height, width, bands).astype(dtype)


def read_all(spec: SeriesSpec, bands: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    with SeriesReader(spec, bands) as reader:
        return reader.read(spec.grid.window)


def check_every_window(spec: SeriesSpec, bands: Sequence[str] | None = None) -> None:
    """Reading a window at any place gives the crop of reading all, values and stored values alike."""
    with SeriesReader(spec, bands) as reader:
        values, valid = reader.read(spec.grid.window)
        stored, stored_valid = reader.read_stored(spec.grid.window)
        assert (stored_valid == valid).all()
        assert (stored[~valid] == 0).all()
        assert (values[~valid] == 0).all()
        for row, col in itertools.product(range(spec.grid.height), range(spec.grid.width)):
            window = Window(row, col, 1 + col % 3, 1 + row % 3).intersect(spec.grid.window)
            assert window is not None
            at = (slice(None), *window.slices)
            got, got_valid = reader.read(window)
            np.testing.assert_array_equal(got, values[at])
            np.testing.assert_array_equal(got_valid, valid[at])
            if (row + col) % 3 == 0:
                got, got_valid = reader.read_stored(window)
                assert got.dtype == stored.dtype
                np.testing.assert_array_equal(got, stored[at])
                np.testing.assert_array_equal(got_valid, valid[at])


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


# Mask bands


def masked_series(scene: Scene, mask: np.ndarray, rule: MaskRule, dtype: str = "uint8") -> SeriesSpec:
    number = scene.add(np.stack([np.full((6, 7), 9), mask], axis=-1).astype(dtype))
    return scene.series(
        [[[(number, 1)]]], masks=[[(number, 2)]], reading=Reading(mask=rule), mask_dtype=dtype
    )


def test_mask_band_drops_its_values(scene: Scene):
    mask = np.zeros((6, 7), int)
    mask[1, 1], mask[2, 2], mask[3, 3] = 3, 8, 4
    spec = masked_series(scene, mask, MaskRule(2, (3, 8)))
    values, valid = read_all(spec)
    np.testing.assert_array_equal(valid[0, ..., 0], ~np.isin(mask, (3, 8)))
    assert set(np.unique(values)) == {0.0, 9.0}
    check_every_window(spec)


@pytest.mark.parametrize("reach", [1, 2, 9])
def test_dilation_reaches_over_window_cuts(scene: Scene, reach: int):
    mask = np.zeros((6, 7), int)
    mask[0, 0] = mask[3, 5] = 3
    spec = masked_series(scene, mask, MaskRule(2, (3,), reach))
    expected = np.ones((6, 7), bool)
    for row, col in ((0, 0), (3, 5)):
        expected[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1] = False
    np.testing.assert_array_equal(read_all(spec)[1][0, ..., 0], expected)
    check_every_window(spec)


def test_dilation_reaches_in_from_outside_the_grid(scene: Scene):
    """The file is larger than the grid: clouds just outside count too."""
    pixels = np.zeros((8, 9, 2), np.uint8)
    pixels[..., 0] = 9
    pixels[0, 0, 1] = 3
    number = scene.add(pixels, -1, -1)
    reading = Reading(mask=MaskRule(2, (3,), 1))
    spec = scene.series([[[(number, 1)]]], masks=[[(number, 2)]], reading=reading)
    assert np.argwhere(~read_all(spec)[1][0, ..., 0]).tolist() == [[0, 0]]
    check_every_window(spec)


def test_mask_of_one_piece_does_not_hide_the_other(scene: Scene):
    """Two overlapping pieces of one acquisition: where the first is cloudy, the second is seen."""
    first = np.stack([np.full((6, 5), 1), np.full((6, 5), 3)], axis=-1).astype(np.uint8)
    second = np.stack([np.full((6, 5), 2), np.zeros((6, 5))], axis=-1).astype(np.uint8)
    first[0, 0, 1] = 0
    one, two = scene.add(first, 0, 0), scene.add(second, 0, 2)
    spec = scene.series(
        [[[(one, 1), (two, 1)]]],
        masks=[[(one, 2), (two, 2)]],
        reading=Reading(mask=MaskRule(2, (3,))),
    )
    values, valid = read_all(spec)
    expected = np.zeros((6, 7))
    expected[:, 2:] = 2
    expected[0, 0] = 1
    np.testing.assert_array_equal(values[0, ..., 0], expected)
    np.testing.assert_array_equal(valid[0, ..., 0], expected > 0)
    check_every_window(spec)


def test_masks_in_files_of_their_own_follow_extent_and_order(scene: Scene):
    """Images a and b cover the same pixels, c others; masks come as files of their own in that order."""
    a, b = (scene.add(np.full((6, 4), v, np.uint8)) for v in (1, 2))
    c = scene.add(np.full((6, 3), 5, np.uint8), 0, 4)
    cloudy, clear = np.full((6, 4), 3, np.uint8), np.zeros((6, 4), np.uint8)
    clear_c = np.zeros((6, 3), np.uint8)
    clear_c[0, 0] = 3
    masks = [(scene.add(cloudy), 1), (scene.add(clear), 1), (scene.add(clear_c, 0, 4), 1)]
    spec = scene.series([[[(a, 1), (b, 1), (c, 1)]]], masks=[masks], reading=Reading(mask=MaskRule(1, (3,))))
    values, valid = read_all(spec)
    assert (values[0, :, :4] == 2).all()
    assert np.argwhere(~valid[0, ..., 0]).tolist() == [[0, 4]]
    check_every_window(spec)


def test_mask_that_belongs_to_no_image_counts_everywhere(scene: Scene):
    image = scene.add(np.full((6, 7), 9, np.uint8))
    mask = np.zeros((3, 7), np.uint8)
    mask[1, 1] = 3
    number = scene.add(mask, 2, 0)
    spec = scene.series([[[(image, 1)]]], masks=[[(number, 1)]], reading=Reading(mask=MaskRule(1, (3,))))
    assert np.argwhere(~read_all(spec)[1][0, ..., 0]).tolist() == [[3, 1]]
    check_every_window(spec)


def test_mask_codes_of_wide_types(scene: Scene):
    mask = np.zeros((6, 7), int)
    mask[4, 4] = 21824
    spec = masked_series(scene, mask, MaskRule(2, (21824,)), "uint16")
    assert (~read_all(spec)[1]).sum() == 1


# Images off the lattice


def test_warp_nearest_half_a_pixel_off(scene: Scene):
    pixels = numbers(6, 7, 2)
    pixels[2, 3, 0] = 0
    number = scene.add(pixels, 0.3, -0.2, nodata=0, warp="nearest")
    spec = scene.series([[[(number, 1)], [(number, 2)]]])
    values, valid = read_all(spec)
    np.testing.assert_array_equal(values[0], pixels)
    np.testing.assert_array_equal(valid[0], pixels != 0)
    check_every_window(spec)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_warp_without_nodata_knows_what_the_image_covers(scene: Scene, dtype: str):
    """Zero is a value there, and so is the edge."""
    pixels = numbers(3, 4, dtype=dtype)
    pixels[0, 0] = 0
    number = scene.add(pixels, 1.2, 2.3, warp="nearest")
    spec = scene.series([[[(number, 1)]]])
    values, valid = read_all(spec)
    expected = np.zeros((6, 7), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(valid[0, ..., 0], expected)
    np.testing.assert_array_equal(values[0, 1:4, 2:6], pixels.astype("f4"))
    check_every_window(spec)


def test_bilinear_never_mixes_nodata_into_a_value(scene: Scene):
    """Also where another band of the same pixel has a value."""
    pixels = np.full((8, 9, 2), 100, np.uint16)
    pixels[3:6, 3:6, 0] = 0
    number = scene.add(pixels, -0.6, -0.7, nodata=0, warp="bilinear")
    spec = scene.series([[[(number, 1)], [(number, 2)]]])
    values, valid = read_all(spec)
    assert set(np.unique(values[0, ..., 0])) == {0.0, 100.0}
    assert not valid[0, ..., 0].all()
    assert (values[0, ..., 1] == 100).all()
    check_every_window(spec)


def test_bilinear_of_a_plane_is_the_plane(scene: Scene):
    rows, cols = np.mgrid[:9, :10].astype(np.float32)
    number = scene.add(100 + 8 * rows + 16 * cols, -1.25, -1.5, warp="bilinear")
    spec = scene.series([[[(number, 1)]]])
    rows, cols = np.mgrid[:6, :7]
    values, valid = read_all(spec)
    assert valid.all()
    np.testing.assert_allclose(values[0, ..., 0], 100 + 8 * (rows + 1.25) + 16 * (cols + 1.5), rtol=1e-6)
    check_every_window(spec)


def test_bands_with_different_nodata_are_warped_apart(scene: Scene):
    pixels = np.full((6, 7, 3), 50, np.uint8)
    pixels[1, 1, 0], pixels[2, 2, 1], pixels[3, 3, 2] = 0, 255, 0
    number = scene.add(pixels, 0.2, 0.2, warp="nearest")
    bands = [Band(1, "a", "uint8", 0.0), Band(2, "b", "uint8", 255.0), Band(3, "c", "uint8", -9999.0)]
    spec = scene.series([[[(number, b)] for b in (1, 2, 3)]], bands)
    values, valid = read_all(spec)
    assert np.argwhere(~valid[0]).tolist() == [[1, 1, 0], [2, 2, 1]]
    assert values[0, 3, 3, 2] == 0
    assert valid[0, 3, 3, 2]
    check_every_window(spec)


def test_warp_between_reference_systems(scene: Scene):
    """A gradient in another UTM zone comes out as the gradient, and cuts do not show."""
    rows, cols = np.mgrid[:60, :60]
    values = (10 * cols + rows).astype(np.float32)
    with rasterio.open(
        scene.folder / "far.tif", "w", driver="GTiff", height=60, width=60, count=1, dtype="float32",
        crs="EPSG:4326", transform=rasterio.Affine(0.0001, 0, -57.003, 0, -0.0001, -18.087 + 0.003),
    ) as image:  # fmt: skip
        image.write(values, 1)
    scene.register(scene.folder / "far.tif", 0, 0, 6, 7, "bilinear")
    spec = scene.series([[[(0, 1)]]], [Band(1, "a", "float32")])
    got, valid = read_all(spec)
    assert valid.all()
    assert (np.diff(got[0, ..., 0], axis=0) > 0).all()
    assert (np.diff(got[0, ..., 0], axis=1) > 0).all()
    check_every_window(spec)


def test_mask_codes_are_not_averaged(scene: Scene):
    """Bands are resampled bilinearly, the mask of the same file by its nearest pixel."""
    pixels = np.full((8, 9, 2), 100, np.uint8)
    pixels[..., 1] = 2
    pixels[:, 4:, 1] = 4
    bands = scene.add(pixels, -0.6, -0.6, warp="bilinear")
    scene.register(Path(scene.files[bands].path), 0, 0, 6, 7, "nearest")
    spec = scene.series([[[(bands, 1)]]], masks=[[(bands + 1, 2)]], reading=Reading(mask=MaskRule(2, (3, 4))))
    np.testing.assert_array_equal(read_all(spec)[1][0, ..., 0], np.repeat([[True] * 3 + [False] * 4], 6, 0))
    check_every_window(spec)


def test_image_with_its_own_alpha_band(scene: Scene):
    pixels = np.full((6, 7, 4), 50, np.uint8)
    pixels[..., 3] = 255
    pixels[2, 2, 3] = 0
    number = scene.add(pixels, 0.2, 0.2, warp="nearest", photometric="RGB", alpha="yes")
    spec = scene.series([[[(number, 1)], [(number, 2)]]])
    assert np.argwhere(~read_all(spec)[1][0, ..., 0]).tolist() == [[2, 2]]
    check_every_window(spec)


# Failures, handles, pickling


def test_truncated_file_is_named_with_band_step_and_window(scene: Scene):
    noise = np.random.default_rng(0).integers(0, 60000, (64, 64, 2)).astype(np.uint16)
    scene.height = scene.width = 64
    for _ in range(2):
        scene.add(noise, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    path = Path(scene.files[1].path)
    path.write_bytes(path.read_bytes()[:9000])
    scene.files.pop()
    scene.register(path, 0, 0, 64, 64)
    spec = scene.series([[[(number, 1)], [(number, 2)]] for number in (0, 1)])
    with SeriesReader(spec) as reader:
        with pytest.raises(UnreadableSourceError) as caught:
            reader.read(Window(40, 48, 9, 16))
        text = str(caught.value)
        for part in (str(path), "band 1, 2", "time step 1 (2020-01-02)", "row 40 col 48 9 x 16"):
            assert part in text
        # The reader goes on with what can be read.
        assert reader.read(Window(0, 0, 4, 4))[1].all()
        with pytest.raises(UnreadableSourceError):
            reader.read_stored(Window(40, 48, 9, 16))


def test_vanished_file_is_unreadable(scene: Scene):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    os.remove(spec.files[0].path)
    with SeriesReader(spec) as reader, pytest.raises(UnreadableSourceError) as caught:
        reader.read(Window(0, 0, 2, 2))
    assert spec.files[0].path in str(caught.value)
    assert "time step 0" in str(caught.value)


def test_what_is_no_image_is_unreadable(scene: Scene, tmp_path: Path):
    (tmp_path / "text.tif").write_text("hello")
    scene.register(tmp_path / "text.tif", 0, 0, 6, 7)
    spec = scene.series([[[(0, 1)]]], [Band(1, "a", "uint8")])
    with SeriesReader(spec) as reader, pytest.raises(UnreadableSourceError, match=r"text\.tif, band 1"):
        reader.read(Window(0, 0, 2, 2))


def test_missing_band_is_unreadable(scene: Scene):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 4)]]])
    with SeriesReader(spec) as reader, pytest.raises(UnreadableSourceError, match="band 4"):
        reader.read(Window(0, 0, 2, 2))


@pytest.mark.parametrize("change", ["content", "time"])
def test_changed_file_is_refused(scene: Scene, change: str):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    path = Path(spec.files[0].path)
    if change == "content":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        os.utime(path, ns=(1, 1))
    with (
        SeriesReader(spec) as reader,
        pytest.raises(DltsError, match="changed after the series was made") as caught,
    ):
        reader.read(Window(0, 0, 2, 2))
    assert not isinstance(caught.value, UnreadableSourceError)


def test_more_files_than_handles(scene: Scene):
    cube = np.stack([numbers(6, 7, start=100 * k + 1) for k in range(12)])
    spec = scene.series([[[(scene.add(pixels), 1)]] for pixels in cube])
    with SeriesReader(spec, handle_limit=3) as reader:
        for _ in range(2):
            np.testing.assert_array_equal(reader.read(spec.grid.window)[0], cube)
            assert len(reader._pool._open) == 3
        reader.close()
        assert not reader._pool._open
        np.testing.assert_array_equal(reader.read(spec.grid.window)[0], cube)


def test_reader_travels_without_its_handles(scene: Scene):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    with SeriesReader(spec, ("b1",)) as reader:
        expected = reader.read(spec.grid.window)
        with pickle.loads(pickle.dumps(reader)) as copy:
            assert not copy._pool._open
            for one, other in zip(expected, copy.read(spec.grid.window), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("window", [(-1, 0, 2, 2), (0, 6, 2, 2), (5, 0, 2, 1), (9, 9, 1, 1)])
def test_window_outside_the_grid_is_a_mistake_of_the_caller(scene: Scene, window: tuple[int, int, int, int]):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    with SeriesReader(spec) as reader, pytest.raises(ValueError, match="reaches outside the grid"):
        reader.read(Window(*window))
