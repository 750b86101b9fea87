from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from dlts_beam.spec import Band, MaskRule, Reading
from tests.dlts_beam.io.raster.scenes import Scene, check_every_window, numbers, read_all


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
