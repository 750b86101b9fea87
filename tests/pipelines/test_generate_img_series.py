"""The command of step 1: what it writes, prints and refuses."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.spec.series import MaskRule, SeriesSpec
from pipelines.generate_img_series import build_parser, main, make_settings
from tests.images import files_of, times, write_image

QUICK = ["--direct_running_mode=in_memory"]
VALUES = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for month in (10, 2):
        write_image(folder / f"a.b_2016_{month}.tif", VALUES + month, nodata=0)
    (folder / "README.md").write_text("words")
    return folder


def made(folder: Path) -> SeriesSpec:
    return SeriesSpec.from_json((folder / "series.json").read_bytes())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence of a command that must fail."""
    assert main([*map(str, arguments), *QUICK]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    return told.err[len("error: ") : -1]


def test_a_folder_of_images_becomes_a_series(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "series"
    assert main(["-i", str(images), "-b", "2", "-o", str(output), "--direct_num_workers=2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "step  date        covered  files",
        "   0  2016-02-01  100.0 %  a.b_2016_2.tif",
        "   1  2016-10-01  100.0 %  a.b_2016_10.tif",
        "grid: 4 x 3 pixels of 10 x 10 map units, 2 time steps from 2 files",
        "bands: 2 b2 (int16)",
        "left out: README.md",
        f"written: {output}/series.json and ts_b2.vrt",
    ]
    assert sorted(os.listdir(output)) == ["series.json", "ts_b2.vrt"]
    spec = made(output)
    assert times(spec) == ["2016-02-01", "2016-10-01"]
    with SeriesReader(spec) as reader:
        stored, _ = reader.read_stored(spec.grid.window)
    np.testing.assert_array_equal(stored[..., 0], [VALUES[1] + 2, VALUES[1] + 10])
    with rasterio.open(output / "ts_b2.vrt") as dataset:
        np.testing.assert_array_equal(dataset.read(), [VALUES[1] + 2, VALUES[1] + 10])


def test_a_second_run_gives_the_same_bytes_and_leaves_nothing_of_the_first(images: Path, tmp_path: Path):
    output = tmp_path / "series"
    assert main(["-i", str(images), "-o", str(output), *QUICK]) == 0
    first = (output / "series.json").read_bytes(), (output / "ts_b1.vrt").read_bytes()
    assert main(["-i", str(images), "-b", "1", "-o", str(output), *QUICK]) == 0
    assert sorted(os.listdir(output)) == ["series.json", "ts_b1.vrt"]
    assert main(["-i", str(images), "-o", str(output), *QUICK]) == 0
    assert ((output / "series.json").read_bytes(), (output / "ts_b1.vrt").read_bytes()) == first


def test_a_refusal_leaves_the_series_of_an_earlier_run(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["-i", str(images), "-o", str(tmp_path / "series"), *QUICK]) == 0
    before = (tmp_path / "series" / "series.json").read_bytes()
    capsys.readouterr()
    refused(capsys, "-i", images, "-b", 9, "-o", tmp_path / "series")
    assert (tmp_path / "series" / "series.json").read_bytes() == before


def test_images_and_series_may_share_a_folder(images: Path):
    for _ in range(2):
        assert main(["-i", str(images), "-o", str(images), *QUICK]) == 0
        assert len(made(images).files) == 2


def test_rules_of_reading_and_names_of_bands(images: Path, tmp_path: Path):
    flags = "--band-names ndvi --nodata 5 --scale 0.1 --offset -1 --valid-range 0 2 --hash-content"
    mask = "--mask-band 2 --mask-drop 9 8 8 --mask-dilate 1"
    output = tmp_path / "series"
    assert main(["-i", str(images), "-o", str(output), *flags.split(), *mask.split(), *QUICK]) == 0
    spec = made(output)
    (band,) = spec.bands
    assert (band.name, band.nodata, band.scale, band.offset) == ("ndvi", 5, 0.1, -1)
    assert (spec.reading.valid_min, spec.reading.valid_max) == (0, 2)
    assert spec.reading.mask == MaskRule(2, (8, 9), 1)
    assert all(file.sha256 and len(file.sha256) == 64 for file in spec.files)


@pytest.mark.parametrize(
    ("flags", "nodata", "offset", "bounds"),
    [
        ("--nodata -3.4e+38 --valid-range -1e3 100", -3.4e38, 0, (-1000, 100)),
        ("--nodata -9999 --offset -.5E-1 --valid-range -inf -1.5", -9999, -0.05, (None, -1.5)),
        ("--nodata=-1e4 --valid-range 0 inf", -1e4, 0, (0, None)),
        ("--valid-range -Infinity Inf --nodata -inf", None, 0, (None, None)),
    ],
)
def test_numbers_of_any_form(flags: str, nodata: float | None, offset: float, bounds: tuple):
    arguments = build_parser().parse_args(["-i", "images", *flags.split(), "-o", "series"])
    settings = make_settings(arguments, "images")
    assert settings.nodata == (nodata if nodata is not None else -math.inf)
    assert (settings.offset or 0) == offset
    assert (settings.reading.valid_min, settings.reading.valid_max) == bounds


def test_an_open_valid_range_is_written(images: Path, tmp_path: Path):
    flags = ["-i", str(images), "-o", str(tmp_path / "series"), "--valid-range", "-inf", "9"]
    assert main([*flags, "--nodata", "-1e2", *QUICK]) == 0
    spec = made(tmp_path / "series")
    assert (spec.reading.valid_min, spec.reading.valid_max, spec.bands[0].nodata) == (None, 9, -100)


def test_a_stacked_series_is_adopted(tmp_path: Path):
    for name in ("b10", "b2"):
        write_image(tmp_path / "i" / f"{name}.tif", np.stack([VALUES[0] + k for k in range(3)]), nodata=-1)
    (tmp_path / "timeline").write_text("2016-03-01\n2016-01-01\n2016-02-01\n")
    flags = ["-i", str(tmp_path / "i"), "--stacked", "-o", str(tmp_path / "o"), *QUICK]
    assert main([*flags, "--dates", str(tmp_path / "timeline")]) == 0
    spec = made(tmp_path / "o")
    assert times(spec) == ["2016-01-01", "2016-02-01", "2016-03-01"]
    assert [(band.number, band.name) for band in spec.bands] == [(1, "b2"), (2, "b10")]
    assert [layers[0][0].index for layers in spec.sources] == [2, 3, 1]
    with rasterio.open(tmp_path / "o" / "ts_b2.vrt") as dataset:
        np.testing.assert_array_equal(dataset.read(), [VALUES[0] + k for k in (1, 2, 0)])
    assert main([*flags, "--undated"]) == 0
    assert times(made(tmp_path / "o")) == [None, None, None]


def test_stacked_series_with_the_wrong_dates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_image(tmp_path / "i" / "b1.tif", VALUES)
    flags = ["-i", tmp_path / "i", "--stacked", "-o", tmp_path / "o"]
    assert "the 2 layers of" in refused(capsys, *flags)
    (tmp_path / "dates").write_text("2016-03-01\n")
    assert "has 1 dates, and each --stacked file has 2 layers" in refused(
        capsys, *flags, "--dates", tmp_path / "dates"
    )
    (tmp_path / "dates").write_text("2016-03-01\n2016-03-01\n")
    assert "has 2016-03-01 twice" in refused(capsys, *flags, "--dates", tmp_path / "dates")
    write_image(tmp_path / "i" / "b2.tif", VALUES[:1])
    assert "differ in their number of layers: 1 in b2, 2 in b1" in refused(capsys, *flags, "--undated")


def test_images_in_subfolders(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for day in ("20180812", "20180828"):
        for band in ("B02", "B03"):
            write_image(tmp_path / "i" / day / f"{band}.tif", VALUES[:1])
    flags = ["-i", tmp_path / "i", "-o", tmp_path / "o"]
    assert "there are no images in" in refused(capsys, *flags)
    assert main([*map(str, flags), "--recursive", *QUICK]) == 0
    assert [band.name for band in made(tmp_path / "o").bands] == ["B02", "B03"]


def test_align_takes_the_lattice_of_the_finest_image_or_of_a_given_one(tmp_path: Path):
    write_image(tmp_path / "i" / "20180812.tif", np.ones((4, 4), np.int16), pixel=20)
    write_image(tmp_path / "i" / "20180828.tif", np.ones((8, 8), np.int16))
    like = write_image(tmp_path / "like.tif", np.ones((2, 2), np.int16), row=1, col=1, pixel=40)
    flags = ["-i", str(tmp_path / "i"), "-o", str(tmp_path / "o"), "--align", *QUICK]
    assert main(flags) == 0
    spec = made(tmp_path / "o")
    assert (spec.grid.transform[0], spec.grid.height, spec.grid.width) == (10, 8, 8)
    assert [file.warp is not None for file in spec.files] == [True, False]
    assert main([*flags, "--like", str(like), "--resampling", "bilinear"]) == 0
    spec = made(tmp_path / "o")
    assert spec.grid.transform == (40, 0, 500010, 0, -40, 8999990)
    assert (spec.grid.height, spec.grid.width) == (2, 2)
    assert {file.warp.resampling for file in spec.files if file.warp} == {"bilinear"}
    assert sorted(os.listdir(tmp_path / "o")) == ["series.json", "ts_b1.vrt", "ts_warped"]
    assert main([*flags, "--like", str(like), "--extent", "union"]) == 0
    spec = made(tmp_path / "o")
    assert (spec.grid.height, spec.grid.width) == (3, 3)


def test_bad_input_is_one_sentence(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = ["-o", tmp_path / "series"]
    (tmp_path / "empty").mkdir()
    assert refused(capsys, "-i", tmp_path / "empty", *output).startswith("there are no images in")
    assert (
        refused(capsys, "-i", tmp_path / "none", *output)
        == f"there is no folder {tmp_path}/none: check --input-dir"
    )
    assert refused(capsys, "-i", images, "-b", 3, *output).startswith("there is no band 3")
    assert refused(capsys, "-i", images, "--bandz", *output).startswith(
        "unknown flag --bandz: did you mean --bands?"
    )
    assert "fits --pattern" in refused(capsys, "-i", images, "--pattern", "x{date}", *output)
    (tmp_path / "file").write_text("x")
    assert refused(capsys, "-i", images, "-o", tmp_path / "file" / "o").startswith("cannot ")
    (images / "a.b_2016_2.tif.msk").write_text("x")
    assert "a.b_2016_2.tif lies in a file beside it" in refused(capsys, "-i", images, *output)
    (images / "a.b_2016_2.tif.msk").unlink()
    whole = (images / "a.b_2016_2.tif").read_bytes()
    (images / "a.b_2016_2.tif").write_bytes(whole[:-10])
    assert refused(capsys, "-i", images, *output).startswith(
        "1 image is unreadable or cut short: a.b_2016_2.tif ("
    )
    (images / "a.b_2016_2.tif").write_bytes(b"no image")
    assert "a.b_2016_2.tif (it is in no format that GDAL knows)" in refused(capsys, "-i", images, *output)
    write_image(images / "a.b_2016_2.tif", VALUES, row=0.5, nodata=0)
    assert "a.b_2016_2.tif has another origin" in refused(capsys, "-i", images, *output)
    write_image(images / "a.b_2016_2.tif", VALUES, crs=None, nodata=0)
    assert "a.b_2016_2.tif has no coordinate reference system" in refused(capsys, "-i", images, *output)
    assert not (tmp_path / "series" / "series.json").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--undated --dates x", "--undated and --dates exclude each other"),
        ("--stacked --pattern {date}", "--stacked and --pattern exclude each other"),
        ("-b 0", "--bands counts from 1; got 0"),
        ("--mask-band 2", "--mask-band and --mask-drop belong together"),
        ("--mask-drop 2", "--mask-band and --mask-drop belong together"),
        ("--scale 0", "--scale must be a number other than 0"),
        ("--valid-range 2 1", "--valid-range must have MIN up to MAX; got 2 1"),
        ("--valid-range nan 1", "--valid-range must have MIN up to MAX; got nan 1"),
        ("--valid-range 0 NaN", "--valid-range must have MIN up to MAX; got 0 nan"),
        ("--valid-range inf inf", "--valid-range must have MIN up to MAX; got inf inf"),
        ("--valid-range -inf -inf", "--valid-range must have MIN up to MAX; got -inf -inf"),
        ("--extent like", "--extent like needs --like FILE"),
        ("--crs moon", "--crs 'moon' is not a coordinate reference system"),
        ("--dates nowhere.csv", "cannot read nowhere.csv"),
        ("--like nowhere.tif", "cannot read"),
        ("--band-names a", "--band-names gives 1 names for 2 bands"),
    ],
)
def test_flags_without_sense_are_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, sentence: str
):
    assert refused(capsys, "-i", images, "-o", tmp_path / "o", *flags.split()).startswith(sentence)


def test_the_output_never_replaces_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The VRTs of the old tools have the names of ours."""
    write_image(tmp_path / "i" / "x.tif", VALUES)
    rasterio.shutil.copy(tmp_path / "i" / "x.tif", tmp_path / "i" / "ts_b1.vrt", driver="VRT")
    (tmp_path / "i" / "x.tif").rename(tmp_path / "x.tif")
    rasterio.shutil.copy(tmp_path / "x.tif", tmp_path / "i" / "ts_b1.vrt", driver="VRT")
    before = (tmp_path / "i" / "ts_b1.vrt").read_bytes()
    told = refused(capsys, "-i", tmp_path / "i", "-o", tmp_path / "i", "--stacked", "--undated")
    assert told.startswith("the output would replace the image")
    assert (tmp_path / "i" / "ts_b1.vrt").read_bytes() == before
    assert main(["-i", str(tmp_path / "i"), "-o", str(tmp_path / "o"), "--stacked", "--undated", *QUICK]) == 0


@pytest.mark.parametrize("output", ["gs://", "gs:///series", "gs:/bucket/series"])
def test_an_output_without_its_bucket_is_refused_before_anything_is_written(
    images: Path,
    tmp_path: Path,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "gs://BUCKET/PATH" in refused(capsys, "-i", images, "-o", output)
    assert "gs://BUCKET/PATH" in refused(capsys, "-i", output, "-o", "series")
    assert os.listdir() == []


def test_help_answers_in_under_a_second_without_beam():
    code = (
        "import atexit, sys; from pipelines.generate_img_series import main;"
        "atexit.register(lambda: print('apache_beam' in sys.modules, 'rasterio' in sys.modules));"
        "main(['--help'])"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 5  # a second where nothing else runs
    assert done.stdout.endswith("False False\n")
    for flag in ("-i", "--input-dir", "-b", "--bands", "-o", "--output-dir", "--align", "examples:"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("folder", "flags", "steps", "bands", "first"),
    [
        ("porto_dos_gauchos_modis_2012/images", "-b 1 2 3 4 5 6", 23, 6, "2011-09-14"),
        ("mato_grosso_modis_samples/mosaic/images", "--undated", 23, 6, None),
        ("mato_grosso_modis_samples/sinop/images", "--band-names NDVI", 12, 1, "2013-09-14"),
        ("rondonia_sentinel2_samples/mosaic/images", "", 36, 11, "2018-08-12"),
    ],
)
def test_real_series(
    real_data: Path, tmp_path: Path, folder: str, flags: str, steps: int, bands: int, first: str | None
):
    assert main(["-i", str(real_data / folder), "-o", str(tmp_path), *flags.split(), *QUICK]) == 0
    spec = made(tmp_path)
    assert (len(spec.steps), len(spec.bands), spec.steps[0].time) == (steps, bands, first)
    if first is None:
        assert files_of(spec, 9) == ["MOD13Q1_step10.tif"]


def test_real_stacked_series(real_data: Path, tmp_path: Path):
    folder = real_data / "porto_dos_gauchos_modis_2007_2013"
    timeline = folder / "original" / "timeline"
    flags = ["--stacked", "--dates", str(timeline), "-o", str(tmp_path), *QUICK]
    assert main(["-i", str(folder / "series"), *flags]) == 0
    spec = made(tmp_path)
    assert times(spec) == timeline.read_text().split()
    assert [band.name for band in spec.bands] == ["blue", "doy", "evi", "mir", "ndvi", "nir", "red"]
