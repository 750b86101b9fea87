"""Masks of whole files and alpha bands: what they hide is not valid, however the file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.io.raster.reader import UnreadableSourceError
from dlts_beam.spec import MaskRule, Reading
from tests.dlts_beam.io.raster.scenes import check_every_window, read_all
from tests.images import plan, write_image

RNG = np.random.default_rng(3)
SEEN = RNG.random((12, 14)) < 0.7
VALUES = RNG.integers(0, 200, (3, 12, 14)).astype(np.uint8)
ALPHA = np.where(SEEN, 255, 0).astype(np.uint8)
KINDS = pytest.mark.parametrize("kind", ["mask", "alpha"])


def write_hidden(path: Path, kind: str, values: np.ndarray = VALUES, **profile: Any) -> Path:
    """An image of three bands whose pixels are hidden where ``SEEN`` is False."""
    if kind == "mask":
        return write_image(path, values, mask=SEEN, **profile)
    return write_image(path, np.concatenate([values, [ALPHA]]), photometric="RGB", alpha="yes", **profile)


@KINDS
@pytest.mark.parametrize("nodata", [None, 7])
def test_what_a_file_hides_is_not_valid_whether_it_is_resampled_or_not(
    tmp_path: Path, kind: str, nodata: int | None
):
    like = write_image(tmp_path / "like.tif", VALUES)
    write_hidden(tmp_path / "on" / "20180812.tif", kind, nodata=nodata)
    # A tenth of a pixel away: resampled, to the same pixels.
    write_hidden(tmp_path / "off" / "20180812.tif", kind, nodata=nodata, row=0.1, col=0.1)
    on, off = (
        plan(tmp_path / name, like=like, extent="like", align=True, bands=(1, 2, 3)) for name in ("on", "off")
    )
    assert [file.warp is None for file in (*on.files, *off.files)] == [True, False]
    expected = SEEN & np.ones(VALUES.shape, bool) if nodata is None else SEEN & (nodata != VALUES)
    for spec in (on, off):
        values, valid = read_all(spec)
        np.testing.assert_array_equal(valid[0], np.moveaxis(expected, 0, -1))
        np.testing.assert_array_equal(values[0], np.moveaxis(np.where(expected, VALUES, 0), 0, -1))
    check_every_window(on)


@KINDS
def test_a_hidden_pixel_gives_way_to_the_next_image(tmp_path: Path, kind: str):
    write_hidden(tmp_path / "20180812T101500_a.tif", kind)
    write_hidden(tmp_path / "20180812T101500_b.tif", kind, VALUES + np.uint8(1), row=2, col=3)
    spec = plan(tmp_path, same_day="merge", bands=(1, 2, 3))
    values, valid = read_all(spec)
    seen = np.zeros(valid.shape[1:3], bool)
    seen[2:, 3:] = SEEN
    expected = np.zeros(seen.shape)
    expected[2:, 3:] = np.where(SEEN, VALUES[0] + 1, 0)
    seen[:12, :14] |= SEEN
    expected[:12, :14] = np.where(SEEN, VALUES[0], expected[:12, :14])
    np.testing.assert_array_equal(valid[0, ..., 0], seen)
    np.testing.assert_array_equal(values[0, ..., 0], expected)
    check_every_window(spec)


@KINDS
def test_no_pixel_is_dropped_by_a_code_that_is_hidden(tmp_path: Path, kind: str):
    """A hidden cloud casts no shadow on its neighbours."""
    codes = np.where(SEEN, 0, 3).astype(np.uint8)
    write_hidden(tmp_path / "20180812.tif", kind, np.stack([*VALUES[:2], codes]))
    rule = MaskRule(1, (3,), dilate=1)
    _, valid = read_all(plan(tmp_path, bands=(1, 2), mask_band="3", reading=Reading(mask=rule)))
    np.testing.assert_array_equal(valid[0, ..., 0], SEEN)


def test_an_alpha_band_that_is_asked_for_is_data_and_hides_nothing(tmp_path: Path):
    write_hidden(tmp_path / "i" / "20180812.tif", "alpha")
    spec = plan(tmp_path / "i", bands=(4, 1))
    values, valid = read_all(spec)
    np.testing.assert_array_equal(values[0], np.stack([ALPHA, VALUES[0]], axis=-1))
    assert valid.all()
    check_every_window(spec)
    like = write_image(tmp_path / "like.tif", VALUES, row=0.1)
    with pytest.raises(DltsError, match=r"band 4 of 20180812.tif is marked as an alpha .* gdal_edit.py"):
        plan(tmp_path / "i", like=like, bands=(4, 1), align=True)
    assert plan(tmp_path / "i", like=like, bands=(1, 2), align=True).files[0].alpha == 4


def test_an_alpha_band_of_codes_drops_pixels_by_its_codes_alone(tmp_path: Path):
    write_hidden(tmp_path / "20180812.tif", "alpha")
    for bands in (None, (1, 2)):
        reading = Reading(mask=MaskRule(1, (255,)))
        _, valid = read_all(plan(tmp_path, bands=bands, mask_band="4", reading=reading))
        np.testing.assert_array_equal(valid[0, ..., 0], ~SEEN)


def test_layers_of_a_stacked_series_are_dates_whatever_they_are_called(tmp_path: Path):
    """GDAL calls the fourth band of bytes an alpha band by itself."""
    write_image(tmp_path / "i" / "b1.tif", np.concatenate([VALUES, [ALPHA]]))
    values, valid = read_all(plan(tmp_path / "i", stacked=True, undated=True))
    assert valid.all()
    np.testing.assert_array_equal(values[3, ..., 0], ALPHA)
    like = write_image(tmp_path / "like.tif", VALUES, row=0.1)
    with pytest.raises(DltsError, match=r"layer 4 of b1.tif is marked as an alpha band, .* gdal_edit.py"):
        plan(tmp_path / "i", like=like, stacked=True, undated=True, align=True)


@pytest.mark.parametrize("shift", [0, 0.1])
def test_a_mask_that_is_gone_is_unreadable(tmp_path: Path, shift: float):
    like = write_image(tmp_path / "like.tif", VALUES)
    path = write_image(tmp_path / "i" / "20180812.tif", VALUES, mask=SEEN, mask_inside=False, row=shift)
    spec = plan(tmp_path / "i", like=like, align=True)
    assert [file.alpha for file in spec.files] == [0]
    path.with_name("20180812.tif.msk").unlink()
    with pytest.raises(UnreadableSourceError, match=r"20180812.tif, .* had in step 1 is gone; replace"):
        read_all(spec)
