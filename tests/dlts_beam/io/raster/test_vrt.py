"""VRTs show the very pixels that the reader gives, wherever both have one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_bounds

from dlts_beam.grid import split_window
from dlts_beam.io.raster.headers import parse_crs
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.io.raster.vrt import write_vrts
from dlts_beam.spec.series import MaskRule, Reading, SeriesSpec
from tests.images import plan, write_image

RNG = np.random.default_rng(1)


def noise(bands: int, height: int, width: int, dtype: str = "int16", holes: float = 0.2) -> np.ndarray:
    values = RNG.integers(1, 1000, (bands, height, width)).astype(dtype)
    if holes:
        values[RNG.random(values.shape) < holes] = -1
    return values


def compare(spec: SeriesSpec, folder: Path, background: float) -> np.ndarray:
    """Assert that VRTs and reader agree; the valid mask."""
    with SeriesReader(spec) as reader:
        stored, valid = reader.read_stored(spec.grid.window)
    for position, path in enumerate(write_vrts(spec, str(folder))):
        with rasterio.open(path) as dataset:
            shown = dataset.read()
            assert dataset.descriptions == tuple(step.label for step in spec.steps)
            assert dataset.dtypes[0] == spec.bands[position].dtype
            assert tuple(dataset.transform)[:6] == spec.grid.transform
        expected = np.where(valid[..., position], stored[..., position], np.array(background, shown.dtype))
        np.testing.assert_array_equal(shown, expected)
    return valid


def test_layers_of_whole_images(tmp_path: Path):
    for month in (2, 10, 9):
        write_image(tmp_path / "i" / f"a.2016_{month}.tif", noise(2, 5, 7), nodata=-1)
    spec = plan(tmp_path / "i")
    valid = compare(spec, tmp_path / "o", -1)
    assert 0.5 < valid.mean() < 1
    with rasterio.open(tmp_path / "o" / "ts_b2.vrt") as dataset:
        assert dataset.tags(2)["ACQUISITION_TIME"] == "2016-09-01"
        assert dataset.nodata == -1


def test_overlapping_pieces_first_valid_wins(tmp_path: Path):
    for day in ("12", "28"):
        write_image(tmp_path / "i" / f"201808{day}T101500_a.tif", noise(1, 5, 7), nodata=-1)
        write_image(tmp_path / "i" / f"201808{day}T101500_b.tif", noise(1, 6, 7), row=2, col=3, nodata=-1)
    compare(plan(tmp_path / "i"), tmp_path / "o", -1)
    compare(plan(tmp_path / "i", extent="intersection"), tmp_path / "o", -1)
    compare(plan(tmp_path / "i", extent="first"), tmp_path / "o", -1)


def test_pieces_without_nodata_and_with_nan(tmp_path: Path):
    write_image(tmp_path / "i" / "20180812.tif", noise(1, 4, 4, holes=0))
    write_image(tmp_path / "i" / "20180828.tif", noise(1, 4, 4, holes=0), col=2)
    compare(plan(tmp_path / "i"), tmp_path / "o", 0)
    values = noise(1, 4, 4, "float32")
    values[values < 0] = np.nan
    write_image(tmp_path / "f" / "20180812.tif", values)
    write_image(tmp_path / "f" / "20180828.tif", values, col=2)
    compare(plan(tmp_path / "f"), tmp_path / "of", np.nan)


def test_a_nodata_value_that_pixels_cannot_have_marks_nothing(tmp_path: Path):
    write_image(tmp_path / "i" / "20180812.tif", noise(1, 8, 8, "uint8", holes=0))
    write_image(tmp_path / "i" / "20180828.tif", noise(1, 4, 4, "uint8", holes=0), pixel=20)
    valid = compare(plan(tmp_path / "i", nodata=-9999.0, align=True), tmp_path / "o", 0)
    assert valid.all()


def test_scale_and_offset_travel_with_the_vrt(tmp_path: Path):
    write_image(tmp_path / "i" / "20180812.tif", noise(1, 4, 4))
    write_vrts(plan(tmp_path / "i", scale=0.0001, offset=-3.0), str(tmp_path / "o"))
    with rasterio.open(tmp_path / "o" / "ts_b1.vrt") as dataset:
        assert (dataset.scales, dataset.offsets) == ((0.0001,), (-3.0,))


def test_local_paths_are_relative_so_that_both_folders_move_together(tmp_path: Path):
    write_image(tmp_path / "a" / "i & <j>" / "20180812.tif", noise(1, 4, 4))
    write_vrts(plan(tmp_path / "a" / "i & <j>"), str(tmp_path / "a" / "o"))
    (tmp_path / "a").rename(tmp_path / "b")
    with rasterio.open(tmp_path / "b" / "o" / "ts_b1.vrt") as dataset:
        assert dataset.read().any()


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("nodata", [-1, None])
def test_resampled_images_are_the_same_through_vrt_and_reader(
    tmp_path: Path, resampling: str, nodata: int | None
):
    holes = 0.05 if nodata is not None else 0
    write_image(tmp_path / "i" / "20180812.tif", noise(2, 12, 14, holes=holes), nodata=nodata)
    write_image(
        tmp_path / "i" / "20180828.tif", noise(2, 12, 14, holes=holes), row=0.3, col=0.6, nodata=nodata
    )
    write_image(tmp_path / "i" / "20180913.tif", noise(2, 6, 7, holes=holes), pixel=20, nodata=nodata)
    spec = plan(tmp_path / "i", align=True, resampling=resampling)
    assert [file.warp is not None for file in spec.files] == [False, True, True]
    assert (spec.grid.height, spec.grid.width) == (13, 15)
    valid = compare(spec, tmp_path / "o", 0 if nodata is None else nodata)
    assert valid[0].sum() > 200
    assert valid[1].sum() > 200
    assert not valid[0, 12:].any()
    # The warped VRTs name their images from where they lie, too.
    (tmp_path / "i").rename(tmp_path / "gone")
    with (
        rasterio.open(tmp_path / "o" / "ts_b1.vrt") as dataset,
        pytest.raises(rasterio.errors.RasterioIOError),
    ):
        dataset.read()


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("nodata", [-1, None])
@pytest.mark.parametrize(
    ("pixel", "crs"),
    [
        (10.0, "EPSG:32720"),
        (9.0, "EPSG:32720"),
        (27.0, "EPSG:32720"),
        (4.0, "EPSG:32720"),
        (10.0, "EPSG:3857"),
    ],
)
def test_aligned_pixels_do_not_depend_on_the_cut(
    tmp_path: Path, resampling: str, nodata: int | None, pixel: float, crs: str
):
    holes = 0.1 if nodata is not None else 0
    like = write_image(tmp_path / "i" / "20180812.tif", noise(1, 40, 40, holes=holes), nodata=nodata)
    profile = {"nodata": nodata, "crs": "EPSG:32720"}
    write_image(
        tmp_path / "i" / "20180828.tif",
        noise(1, 48, 48, holes=holes),
        row=0.4,
        col=-0.3,
        pixel=pixel,
        **profile,
    )
    if crs != "EPSG:32720":
        left, bottom, right, top = transform_bounds("EPSG:32720", crs, 500030, 8999700, 500350, 8999990)
        transform = rasterio.Affine((right - left) / 50, 0, left, 0, (bottom - top) / 40, top)
        profile = {"driver": "GTiff", "dtype": "int16", "crs": crs, "nodata": nodata, "transform": transform}
        with rasterio.open(
            tmp_path / "i" / "20180828.tif", "w", height=40, width=50, count=1, **profile
        ) as dataset:
            dataset.write(noise(1, 40, 50, holes=holes))
    spec = plan(tmp_path / "i", align=True, resampling=resampling, like=like, extent="like")
    assert [file.warp is not None for file in spec.files] == [False, True]
    with SeriesReader(spec) as reader:
        whole, whole_valid = reader.read(spec.grid.window)
    assert whole_valid[1].mean() > 0.1
    for size in (7, 16, 33):
        with SeriesReader(spec) as reader:
            for window in split_window(spec.grid.window, size, size):
                values, valid = reader.read(window)
                np.testing.assert_array_equal(values, whole[:, *window.slices])
                np.testing.assert_array_equal(valid, whole_valid[:, *window.slices])
    compare(spec, tmp_path / "o", 0 if nodata is None else nodata)


@pytest.mark.parametrize("kind", ["mask", "alpha"])
@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize("crs", ["EPSG:32720", None])
def test_hidden_pixels_are_nodata_in_the_vrts(
    tmp_path: Path, kind: str, nodata: int | None, crs: str | None
):
    for number, name in enumerate(("20180812T101500_a", "20180812T101500_b", "20180828")):
        values = RNG.integers(0, 20, (4, 12, 14)).astype(np.uint8)
        profile = {"row": 2 * number, "col": number, "nodata": nodata, "crs": crs}
        if kind == "mask":
            profile |= {"mask": values[3] > 5, "photometric": "MINISBLACK", "alpha": "unspecified"}
        else:
            values[3] = np.where(values[3] > 5, 255, 0)
            profile |= {"photometric": "RGB", "alpha": "yes"}
        write_image(tmp_path / "i" / f"{name}.tif", values, **profile)
    spec = plan(tmp_path / "i", bands=(1, 2), crs=parse_crs("EPSG:32720"))
    valid = compare(spec, tmp_path / "o", 0 if nodata is None else nodata)
    assert 0.2 < valid.mean() < 0.9
    if (kind, nodata) != ("mask", None):
        names = sorted(path.name for path in (tmp_path / "o" / "ts_warped").iterdir())
        assert names == [f"ts_f{number:05d}.vrt" for number in range(3)]


def test_a_resampled_mask_band_keeps_its_codes(tmp_path: Path):
    def image(name: str, pixel: float, size: int) -> None:
        codes = np.where(np.arange(size) < size // 2, 4, 8).astype(np.int16)
        values = np.stack([np.full((size, size), 100, np.int16), np.broadcast_to(codes, (size, size))])
        write_image(tmp_path / "i" / name, values, pixel=pixel)

    image("20180812.tif", 10, 12)
    image("20180828.tif", 20, 6)
    # Between 4 and 8 bilinear resampling would make 5, 6 and 7, which mean something else.
    reading = Reading(mask=MaskRule(1, (5, 6, 7), 0))
    spec = plan(tmp_path / "i", align=True, resampling="bilinear", mask_band="2", reading=reading)
    assert [file.warp.resampling for file in spec.files if file.warp] == ["bilinear", "nearest"]
    with SeriesReader(spec) as reader:
        _, valid = reader.read(spec.grid.window)
    assert valid.all()
    dropped = plan(
        tmp_path / "i",
        align=True,
        resampling="bilinear",
        mask_band="2",
        reading=Reading(mask=MaskRule(1, (8,), 0)),
    )
    with SeriesReader(dropped) as reader:
        _, valid = reader.read(dropped.grid.window)
    np.testing.assert_array_equal(valid[1, :, :, 0], np.broadcast_to(np.arange(12) < 6, (12, 12)))
