from __future__ import annotations

import numpy as np
import pytest

from dlts_beam.spec import MaskRule, Reading, SeriesSpec
from tests.dlts_beam.io.raster.scenes import Scene, check_every_window, read_all


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
