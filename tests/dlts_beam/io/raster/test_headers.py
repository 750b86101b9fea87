"""Headers: what is an image, what is broken, and CRSs that mean the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from dlts_beam import storage
from dlts_beam.acquisitions.header import Header, Unusable, acquisition_time
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.io.raster.headers import (
    check_masks,
    crs_name,
    image_files,
    parse_crs,
    read_header,
    unify_crs,
    warped_box,
)
from tests.images import plan, write_image

SINUSOIDAL = CRS.from_string("+proj=sinu +R=6371007.181 +units=m").to_wkt()
SPELLED = SINUSOIDAL.replace('PROJCS["unknown"', 'PROJCS["MODIS"').replace(
    'GEOGCS["unknown"', 'GEOGCS["sphere"'
)
NOISE = np.random.default_rng(0).integers(0, 1000, (3, 64, 48)).astype(np.uint16)


def header(path: Path, **options) -> Header | Unusable:
    return read_header(storage.FileEntry(str(path), *storage.stat(path)), **options)


def test_a_header_tells_what_the_file_says(tmp_path: Path):
    path = write_image(
        tmp_path / "a.tif",
        NOISE,
        row=2,
        col=3,
        nodata=7,
        descriptions=["red", "nir", "scl"],
        tags={"TIFFTAG_DATETIME": "2018:08:12 10:15:30"},
        tiled=True,
        blockxsize=32,
        blockysize=16,
    )
    found = header(path, hash_content=True)
    assert isinstance(found, Header)
    assert (found.height, found.width, found.block) == (64, 48, (16, 32))
    assert found.transform == (10, 0, 500030, 0, -10, 8999980)
    assert [band.description for band in found.bands] == ["red", "nir", "scl"]
    assert {(band.dtype, band.nodata, band.scale, band.offset) for band in found.bands} == {
        ("uint16", 7.0, 1.0, 0.0)
    }
    assert (found.acquired, found.sensed) == ("2018-08-12T10:15:30", None)
    assert found.size == path.stat().st_size
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert CRS.from_wkt(found.crs) == CRS.from_epsg(32720)


FORMS = [
    {},
    {"compress": "deflate"},
    {"compress": "deflate", "interleave": "band"},
    {"compress": "lzw", "tiled": True, "blockxsize": 16, "blockysize": 16},
    {"driver": "HFA"},
    {"driver": "ENVI"},
    {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"},
]


# The last tenth of a small Imagine file holds its georeference, no pixels: without it, it has no CRS.
@pytest.mark.parametrize(
    ("profile", "share"),
    [
        (form, share)
        for form in FORMS
        for share in (0, 0.02, 0.3, 0.6, 0.9)
        if (form, share) != (FORMS[4], 0.9)
    ],
)
def test_a_truncated_image_is_told_whatever_its_form(tmp_path: Path, profile: dict, share: float):
    whole = write_image(tmp_path / "whole.img", NOISE, **profile)
    assert isinstance(header(whole), Header)
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * share)])
    found = header(whole)
    assert isinstance(found, Unusable)
    assert found.is_image
    assert "\n" not in found.reason


def test_a_tiff_whose_lost_block_is_not_its_last_is_told_without_reading_it(tmp_path: Path):
    """Writers in parallel leave blocks in any order: here the first block of the image ends the file."""
    path = tmp_path / "a.tif"
    write_image(path, NOISE * 0, tiled=True, blockxsize=16, blockysize=16, compress="deflate", SPARSE_OK=True)
    with rasterio.open(path, "r+") as dataset:
        for row, col in ((48, 32), (0, 0)):
            window = rasterio.windows.Window(col, row, 16, 16)
            dataset.write(NOISE[:, row : row + 16, col : col + 16], window=window)
    assert isinstance(header(path), Header)
    path.write_bytes(path.read_bytes()[:-20])
    found = header(path)
    assert isinstance(found, Unusable)
    assert "it is cut short" in found.reason


def test_a_header_tells_masks_and_alpha_bands(tmp_path: Path):
    bytes_ = NOISE.astype(np.uint8)
    rgba, seen = np.concatenate([bytes_, bytes_[:1]]), bytes_[0] > 9
    plain = write_image(tmp_path / "a.tif", NOISE, nodata=0)
    mask = write_image(tmp_path / "b.tif", NOISE, nodata=0, mask=seen)
    alpha = write_image(tmp_path / "c.tif", rgba, nodata=0, photometric="RGB", alpha="yes")
    assert [header(path).alpha for path in (plain, mask, alpha)] == [None, 0, 4]
    both = header(write_image(tmp_path / "d.tif", rgba, mask=seen, photometric="RGB", alpha="yes"))
    assert isinstance(both, Unusable)
    assert both.reason.startswith("it has a mask and an alpha band, band 4, and only one can say")


def test_a_file_that_lacks_the_end_of_its_mask_is_told(tmp_path: Path):
    path = write_image(tmp_path / "a.tif", NOISE, mask=NOISE[0] > 500)
    assert header(path).alpha == 0
    path.write_bytes(path.read_bytes()[:-20])
    assert isinstance(header(path), Unusable)


def test_a_mask_beside_an_image_that_is_used_is_refused():
    paths = ["gs://b/i/a.tif", "gs://b/i/b.tif", "gs://b/i/b.tif.msk", "gs://b/i/c.msk"]
    listing = [storage.FileEntry(path, 1, "1") for path in paths]
    check_masks(listing[:1], listing)
    with pytest.raises(DltsError, match=r"mask of image gs://b/i/b.tif lies .* or remove b.tif.msk$"):
        check_masks(image_files(listing), listing)


def test_what_lies_beside_images_is_left_out(tmp_path: Path):
    write_image(tmp_path / "20180812.tif", NOISE)
    write_image(tmp_path / "20180828.dat", NOISE, driver="ENVI")
    for name in (
        "README.md",
        "a.csv",
        "a.tif.aux.xml",
        "points.gpkg",
        ".hidden.tif",
        "a.tif.ovr",
        "look.png",
    ):
        (tmp_path / name).write_text("x")
    (tmp_path / "LICENSE").write_text("words")
    (tmp_path / "folder").mkdir()
    names = [storage.name(entry.path) for entry in image_files(storage.list_files(tmp_path))]
    assert names == ["20180812.tif", "20180828.dat", "LICENSE"]
    found = header(tmp_path / "LICENSE")
    assert isinstance(found, Unusable)
    assert not found.is_image
    assert len(plan(tmp_path).steps) == 2


def test_pictures_are_images_where_there_is_nothing_else(tmp_path: Path):
    (tmp_path / "20180812.png").write_bytes(b"x")
    assert len(image_files(storage.list_files(tmp_path))) == 1


def test_own_vrts_are_no_images_of_a_later_run(tmp_path: Path):
    for name in ("ts_b1.vrt", "20180812.tif"):
        (tmp_path / name).write_text("x")
    assert len(image_files(storage.list_files(tmp_path))) == 2
    (tmp_path / "series.json").write_text("{}")
    assert [storage.name(entry.path) for entry in image_files(storage.list_files(tmp_path))] == [
        "20180812.tif"
    ]


def test_all_broken_images_are_named_together(tmp_path: Path):
    for day in ("12", "28"):
        path = write_image(tmp_path / f"201808{day}.tif", NOISE)
        path.write_bytes(path.read_bytes()[:3000])
    write_image(tmp_path / "20180913.tif", NOISE)
    with pytest.raises(
        DltsError, match=r"2 images are unreadable or cut short: 20180812.tif \(.*\), 20180828.tif \("
    ):
        plan(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / "notes").write_text("x")
    with pytest.raises(DltsError, match="there is no image in"):
        plan(tmp_path)


def test_crs_that_mean_the_same_get_one_spelling(tmp_path: Path):
    epsg = write_image(tmp_path / "20180812.tif", NOISE, crs=SINUSOIDAL)
    proj = write_image(tmp_path / "20180828.tif", NOISE, crs=SPELLED)
    other = write_image(tmp_path / "20180913.tif", NOISE, crs="EPSG:32721")
    headers = [found for path in (epsg, proj, other) if isinstance(found := header(path), Header)]
    assert headers[0].crs != headers[1].crs
    same, spelled, different = (found.crs for found in unify_crs(headers))
    assert same == spelled != different
    with pytest.raises(
        DltsError, match=r"1 image does not lie .*20180913.tif has another CRS \(EPSG:32721\)"
    ):
        plan(tmp_path)
    other.unlink()
    assert len(plan(tmp_path).steps) == 2


def test_an_image_without_crs_needs_the_flag(tmp_path: Path):
    write_image(tmp_path / "20180812.tif", NOISE, crs=None)
    write_image(tmp_path / "20180828.tif", NOISE)
    with pytest.raises(DltsError, match=r"20180812.tif has no coordinate reference system: give --crs"):
        plan(tmp_path)
    assert crs_name(plan(tmp_path, crs=parse_crs("EPSG:32720")).grid.crs) == "EPSG:32720"
    with pytest.raises(DltsError, match="--crs 'moon' is not a coordinate reference system"):
        parse_crs("moon")


def test_off_lattice_images_are_listed_with_what_differs(tmp_path: Path):
    for day in ("20180812", "20180828", "20180913"):
        write_image(tmp_path / f"{day}.tif", NOISE)
    write_image(tmp_path / "20181001.tif", NOISE, pixel=20.0)
    write_image(tmp_path / "20181002.tif", NOISE, row=0.5)
    write_image(tmp_path / "20181003.tif", NOISE, crs="EPSG:32721")
    with pytest.raises(DltsError) as caught:
        plan(tmp_path)
    assert str(caught.value) == (
        "3 images do not lie on the pixel lattice of the others (EPSG:32720, pixels of 10 x 10):"
        " 20181001.tif has another resolution (20 x 20),"
        " 20181002.tif has another origin (500000, 8999995),"
        " 20181003.tif has another CRS (EPSG:32721);"
        " give --align to resample them (and --like FILE to choose the lattice), or remove them"
    )


def test_the_box_of_an_image_in_another_crs_holds_its_pixels(tmp_path: Path):
    image = header(write_image(tmp_path / "a.tif", NOISE[:, :20, :30]))
    assert isinstance(image, Header)
    lattice = Grid(CRS.from_epsg(32721).to_wkt(), (10, 0, -170000, 0, -10, 9000000), 50, 50)
    box = warped_box(image, lattice)
    xs, ys = rasterio.warp.transform(
        CRS.from_wkt(image.crs), CRS.from_epsg(32721), [500000, 500300, 500300], [9000000, 9000000, 8999800]
    )
    for x, y in zip(xs, ys, strict=True):
        assert box.left - 1e-6 <= (x + 170000) / 10 <= box.right + 1e-6
        assert box.top - 1e-6 <= (9000000 - y) / 10 <= box.bottom + 1e-6


@pytest.mark.parametrize(
    ("tags", "time"),
    [
        ({"ACQUISITIONDATETIME": "2018-08-12 10:15:30"}, "2018-08-12T10:15:30"),
        ({"DATE_ACQUIRED": "2018-08-12", "SCENE_CENTER_TIME": "10:15:30.1234560Z"}, "2018-08-12T10:15:30"),
        ({"RANGEBEGINNINGDATE": "2018-08-12"}, "2018-08-12"),
        ({"NC_GLOBAL#time_coverage_start": "2018-08-12T10:15:30Z"}, "2018-08-12T10:15:30"),
        (
            {"TIFFTAG_DATETIME": "2020:01:01 00:00:01", "SENSING_TIME": "2018-08-12T10:15:30Z"},
            "2018-08-12T10:15:30",
        ),
        ({"TIFFTAG_DATETIME": "not a time", "AREA_OR_POINT": "Area"}, None),
    ],
)
def test_metadata_that_tell_the_time(tags: dict[str, str], time: str | None):
    assert acquisition_time(tags) == time
