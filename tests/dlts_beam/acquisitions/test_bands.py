"""Bands: names, what all dates must agree on, and what flags override."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from dlts_beam.errors import DltsError
from dlts_beam.spec.series import MaskRule, Reading
from tests.images import plan, write_image

ONES = np.ones((2, 3, 4), np.int16)


def two(folder: Path, first: dict | None = None, second: dict | None = None, values=ONES) -> Path:
    write_image(folder / "20180812.tif", values, **(first or {}))
    write_image(folder / "20180828.tif", values, **(second or first or {}))
    return folder


def test_names_come_from_descriptions_that_all_files_share(tmp_path: Path):
    spec = plan(two(tmp_path / "a", {"descriptions": ["NDVI", "EVI"]}))
    assert [(band.number, band.name, band.dtype) for band in spec.bands] == [
        (1, "NDVI", "int16"),
        (2, "EVI", "int16"),
    ]
    for number, second in enumerate((["EVI", "NDVI"], ["NDVI"], ["NDVI", "NDVI"], [])):
        folder = two(tmp_path / f"b{number}", {"descriptions": ["NDVI", "EVI"]}, {"descriptions": second})
        assert [band.name for band in plan(folder).bands] == ["b1", "b2"]


def test_bands_are_taken_in_the_order_asked_for(tmp_path: Path):
    spec = plan(two(tmp_path), bands=(2, 1))
    assert [band.number for band in spec.bands] == [2, 1]
    assert [source[0].index for source in spec.sources[0]] == [2, 1]


@pytest.mark.parametrize(("bands", "sentence"), [((3,), "there is no band 3: .* 1 to 2"), ((1, 1), "twice")])
def test_wrong_bands(tmp_path: Path, bands: tuple[int, ...], sentence: str):
    with pytest.raises(DltsError, match=sentence):
        plan(two(tmp_path), bands=bands)


def test_a_different_number_of_bands_is_refused_unless_common_ones_are_chosen(tmp_path: Path):
    write_image(tmp_path / "20180812.tif", ONES)
    write_image(tmp_path / "20180828.tif", np.ones((3, 3, 4), np.int16))
    with pytest.raises(DltsError, match=r"2 bands in .*20180812.tif; 3 bands in .*20180828.tif"):
        plan(tmp_path)
    assert [band.number for band in plan(tmp_path, bands=(1, 2)).bands] == [1, 2]


def test_data_types_may_not_differ_between_dates(tmp_path: Path):
    write_image(tmp_path / "20180812.tif", ONES)
    write_image(tmp_path / "20180828.tif", ONES.astype(np.uint8))
    with pytest.raises(DltsError, match=r"band 1 differs .* data type: .*uint8 in .*20180828.tif"):
        plan(tmp_path)


def test_data_types_may_differ_between_band_files(tmp_path: Path):
    for day in ("20180812", "20180828"):
        write_image(tmp_path / f"{day}_ndvi.tif", ONES[0])
        write_image(tmp_path / f"{day}_scl.tif", ONES[0].astype(np.uint8))
    assert [band.dtype for band in plan(tmp_path).bands] == ["int16", "uint8"]


def test_nodata_that_differs_is_refused_or_overridden(tmp_path: Path):
    two(tmp_path, {"nodata": -9999}, {"nodata": 0})
    with pytest.raises(DltsError, match=r"nodata value: .*0.0 in .*20180828.tif.*; give --nodata VALUE"):
        plan(tmp_path)
    assert plan(tmp_path, nodata=-1).bands[0].nodata == -1
    two(tmp_path, {"nodata": -9999}, {"nodata": None})
    with pytest.raises(DltsError, match=r"none in .*20180828.tif"):
        plan(tmp_path)


def test_nan_and_infinity_are_never_valid_and_no_nodata_value(tmp_path: Path):
    values = ONES.astype(np.float32)
    assert plan(two(tmp_path, {"nodata": np.nan}, values=values)).bands[0].nodata is None
    assert plan(two(tmp_path, {"nodata": np.inf}, values=values)).bands[0].nodata is None
    assert plan(two(tmp_path, {"nodata": np.nan}, {"nodata": -1}, values=values)).bands[0].nodata == -1


def test_scale_and_offset_come_from_headers_and_must_agree(tmp_path: Path):
    two(tmp_path)
    for name in ("20180812.tif", "20180828.tif"):
        with rasterio.open(tmp_path / name, "r+") as dataset:
            dataset.scales, dataset.offsets = (0.0001, 1.0), (0.0, -3.0)
    bands = plan(tmp_path).bands
    assert [(band.scale, band.offset) for band in bands] == [(0.0001, 0.0), (1.0, -3.0)]
    with rasterio.open(tmp_path / name, "r+") as dataset:
        dataset.scales = (0.001, 1.0)
    with pytest.raises(DltsError, match=r"band 1 differs between images in its scale: .*give --scale"):
        plan(tmp_path)
    assert [band.scale for band in plan(tmp_path, scale=2.0).bands] == [2.0, 2.0]


def test_the_mask_band_is_no_band_of_the_series_unless_asked_for(tmp_path: Path):
    two(tmp_path, {"descriptions": ["NDVI", "SCL"]})
    reading = Reading(mask=MaskRule(1, (3, 8), 2))
    for mask_band in ("2", "scl"):
        spec = plan(tmp_path, mask_band=mask_band, reading=reading)
        assert [band.name for band in spec.bands] == ["NDVI"]
        assert spec.reading.mask == MaskRule(2, (3, 8), 2)
        assert [layer[0].index for layer in spec.mask_sources] == [2, 2]
        assert spec.mask_dtype == "int16"
    assert len(plan(tmp_path, bands=(1, 2), mask_band="2", reading=reading).bands) == 2
    with pytest.raises(DltsError, match="--mask-band 3: the images have bands 1 to 2"):
        plan(tmp_path, mask_band="3", reading=reading)
    with pytest.raises(DltsError, match="there is no such band among NDVI, SCL"):
        plan(tmp_path, mask_band="QA", reading=reading)


def test_complex_numbers_are_refused(tmp_path: Path):
    with pytest.raises(DltsError, match="complex64, which is no plain number"):
        plan(two(tmp_path, values=ONES.astype(np.complex64)))
    with pytest.raises(DltsError, match="complex_int16, which is no plain number"):
        plan(two(tmp_path, values=ONES.astype(np.complex64), first={"dtype": "complex_int16"}))


def test_an_alpha_band_is_no_band_unless_it_is_asked_for(tmp_path: Path):
    rgba = np.ones((4, 3, 4), np.uint16)
    alpha = {"photometric": "RGB", "alpha": "yes"}
    folder = two(tmp_path / "a", alpha, values=rgba)
    assert [band.number for band in plan(folder).bands] == [1, 2, 3]
    for bands, masking in (((1, 3), 4), ((4, 1), None)):
        spec = plan(folder, bands=bands)
        assert tuple(band.number for band in spec.bands) == bands
        assert {file.alpha for file in spec.files} == {masking}
    folder = two(tmp_path / "b", alpha, {"photometric": "MINISBLACK", "alpha": "unspecified"}, rgba)
    with pytest.raises(DltsError, match=r"band 4 is an alpha band in .*12.tif and not in .*28.tif; choose"):
        plan(folder)
    assert [file.alpha for file in plan(folder, bands=(1, 2, 3)).files] == [4, None]
    assert [file.alpha for file in plan(folder, bands=(1, 2, 3, 4)).files] == [None, None]


def test_the_fourth_band_of_bytes_is_alpha_or_not_as_bands_say(tmp_path: Path):
    folder = two(tmp_path, values=np.ones((4, 3, 4), np.uint8))
    with pytest.raises(
        DltsError,
        match=r"band 4 of .*20180812.tif is marked as an alpha band, .* any 8-bit image so: give -b 1 2 3 if"
        r" it is one \(its zeros then hide pixels\), or -b 1 2 3 4 if it is a band like the others$",
    ):
        plan(folder)
    for bands, masking in (((1, 2, 3), 4), ((1, 2, 3, 4), None)):
        spec = plan(folder, bands=bands)
        assert (len(spec.bands), {file.alpha for file in spec.files}) == (len(bands), {masking})
    reading = Reading(mask=MaskRule(1, (0,)))
    with pytest.raises(DltsError, match=r"give -b 1 3 if .* or -b 1 3 4 if"):
        plan(folder, mask_band="2", reading=reading)
    assert [band.number for band in plan(folder, mask_band="4", reading=reading).bands] == [1, 2, 3]
