"""Band files found by their names, tables of dates."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.acquisitions.table import read_dates
from dlts_beam.errors import DltsError
from tests.images import files_of, plan, times, write_image

ONES = np.ones((3, 4), np.uint16)


def names(spec) -> list[str]:
    return [band.name for band in spec.bands]


@pytest.mark.parametrize(
    ("form", "labels"),
    [
        ("T20LKP_{0}T142041_{1}_10m.jp2.tif", ["B02", "B8A", "B11"]),
        ("LC08_L2SP_225068_{0}_20200101_02_T1_{1}.TIF", ["SR_B4", "QA_PIXEL"]),
        ("{1}_{0}.tif", ["nir", "red"]),
        ("{0}/{1}.tif", ["alpha", "beta"]),
        ("{0}.{1}.v2.tif", ["x1", "x2", "x10"]),
    ],
)
def test_one_file_per_band_is_detected(tmp_path: Path, form: str, labels: list[str]):
    for day in ("20180812", "20180828"):
        for number, label in enumerate(labels):
            write_image(tmp_path / form.format(day, label), ONES * number)
    spec = plan(tmp_path)
    assert len(spec.steps) == 2
    assert sorted(names(spec)) == sorted(labels)
    assert [band.number for band in spec.bands] == list(range(1, len(labels) + 1))
    for position, band in enumerate(spec.bands):
        assert files_of(spec, 1, position) == [Path(form.format("20180828", band.name)).name]
        assert spec.sources[1][position][0].index == 1


def test_band_numbers_follow_the_natural_order_of_labels(tmp_path: Path):
    for label in ("B10", "B2", "B1"):
        write_image(tmp_path / f"20180812_{label}.tif", ONES)
        write_image(tmp_path / f"20180828_{label}.tif", ONES)
    assert names(plan(tmp_path)) == ["B1", "B2", "B10"]
    chosen = plan(tmp_path, bands=(3, 1))
    assert [(band.number, band.name) for band in chosen.bands] == [(3, "B10"), (1, "B1")]


def test_a_band_that_is_missing_on_a_date_is_named(tmp_path: Path):
    for name in ("20180812_red", "20180812_nir", "20180828_red", "20180913_red", "20180913_nir"):
        write_image(tmp_path / f"{name}.tif", ONES)
    with pytest.raises(DltsError, match="not every date has a file for every band: 2018-08-28 lacks nir"):
        plan(tmp_path)
    with pytest.raises(DltsError, match="2018-08-28 lacks nir"):
        plan(tmp_path, pattern="{date}_{band}.tif")


def test_one_acquisition_of_band_files(tmp_path: Path):
    for label in ("B02", "B03"):
        write_image(tmp_path / f"x_20180812_{label}.tif", ONES)
    assert names(plan(tmp_path)) == ["B02", "B03"]


def test_undated_band_files(tmp_path: Path):
    for number in (1, 2, 10):
        for label in ("red", "nir"):
            write_image(tmp_path / f"step{number}_{label}.tif", ONES)
    spec = plan(tmp_path, undated=True)
    assert names(spec) == ["nir", "red"]
    assert [files_of(spec, step)[0] for step in range(3)] == [f"step{n}_nir.tif" for n in (1, 2, 10)]
    assert plan(tmp_path, undated=True, pattern="step{date}_{band}") == spec


@pytest.mark.parametrize(
    ("tag", "seconds", "found"),
    [
        ("TIFFTAG_DATETIME", (0, 1), ["2018-08-12", "2018-09-01"]),
        ("TIFFTAG_DATETIME", (0, 0), ["2018-08-12", "2018-09-01"]),
        ("SENSING_TIME", (0, 1), ["2018-08-12", "2018-09-01"]),
        ("SENSING_TIME", (0, None), ["2018-08-12", "2018-09-01"]),
        ("SENSING_TIME", (7, 7), ["2018-08-12T10:00:07", "2018-09-01T10:00:07"]),
        ("SENSING_TIME", (7, 7, 8), ["2018-08-12", "2018-09-01"]),
    ],
)
def test_bands_of_one_date_stay_together(
    tmp_path: Path, tag: str, seconds: tuple[int | None, ...], found: list[str]
):
    for day in ("2018-08-12", "2018-09-01"):
        for band, second in enumerate(seconds, start=1):
            tags = {tag: f"{day} 10:00:{second:02}"} if second is not None else {}
            write_image(tmp_path / f"{day}_B{band}.tif", ONES, tags=tags)
    spec = plan(tmp_path)
    assert (times(spec), names(spec)) == (found, [f"B{band}" for band in range(1, len(seconds) + 1)])


def test_metadata_tell_two_acquisitions_of_one_day_apart(tmp_path: Path):
    for day in ("2018-08-12", "2018-09-01"):
        for sensor, hour in (("MOD", 10), ("MYD", 13)):
            for band in ("red", "nir"):
                tags = {"SENSING_TIME": f"{day}T{hour}:00:00Z"}
                write_image(tmp_path / f"{sensor}_{day}_{band}.tif", ONES, tags=tags)
    spec = plan(tmp_path)
    assert times(spec) == [f"{day}T{hour}:00:00" for day in ("2018-08-12", "2018-09-01") for hour in (10, 13)]
    assert names(spec) == ["nir", "red"]
    assert files_of(spec, 1) == ["MYD_2018-08-12_nir.tif"]


@pytest.mark.parametrize("same_day", [None, "merge", "separate"])
def test_a_band_that_is_missing_at_one_of_two_times_of_a_day_is_named(tmp_path: Path, same_day: str | None):
    files = [("A_20180101_B02", 10), ("A_20180101_B03", 10), ("B_20180101_B02", 11)]
    for name, hour in [*files, ("A_20180117_B02", 10), ("A_20180117_B03", 10)]:
        tags = {"SENSING_TIME": f"{name[2:6]}-{name[6:8]}-{name[8:10]}T{hour}:00:00Z"}
        write_image(tmp_path / f"{name}.tif", ONES, tags=tags)
    with pytest.raises(DltsError, match="for every band: 2018-01-01T11:00:00 lacks B03; add or remove files"):
        plan(tmp_path, same_day=same_day)


def test_a_file_without_its_time_makes_no_bands_of_two_acquisitions(tmp_path: Path):
    for day, (sensor, hour), band in itertools.product((1, 17), (("A", 10), ("B", 11)), ("B02", "B03")):
        tags = {"SENSING_TIME": f"2018-01-{day:02}T{hour}:00:00Z"}
        untold = (day, sensor, band) == (17, "B", "B03")
        write_image(tmp_path / f"{sensor}_201801{day:02}_{band}.tif", ONES, tags={} if untold else tags)
    with pytest.raises(DltsError, match="2018-01-17T11:00:00 lacks B03, 2018-01-17 lacks B02"):
        plan(tmp_path)


def test_dates_from_metadata_where_names_have_none(tmp_path: Path):
    write_image(tmp_path / "a.tif", ONES, tags={"ACQUISITIONDATETIME": "2018-08-28 10:00:00"})
    write_image(tmp_path / "b.tif", ONES, tags={"TIFFTAG_DATETIME": "2018:08:12 10:00:00"})
    spec = plan(tmp_path)
    assert times(spec) == ["2018-08-12T10:00:00", "2018-08-28T10:00:00"]
    assert files_of(spec, 0) == ["b.tif"]
    write_image(tmp_path / "c.tif", ONES)
    with pytest.raises(
        DltsError, match=r"cannot tell the acquisition dates: .* 'a' and 2 more holds no date; "
    ):
        plan(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        "file,date\nb.1.tif,2018-08-12\na.tif,20180828\n",
        "date;file\n12;x\n".replace("12;x", "2018-08-12;b.1\n2018-08-28;a"),
        "b.1.tif\t2018_8_12\na.tif\t2018-08-28\n",
    ],
)
def test_tables_of_dates(tmp_path: Path, table: str):
    write_image(tmp_path / "i" / "a.tif", ONES)
    write_image(tmp_path / "i" / "b.1.tif", ONES)
    (tmp_path / "dates.csv").write_text(table)
    spec = plan(tmp_path / "i", dates=read_dates(str(tmp_path / "dates.csv")))
    assert times(spec) == ["2018-08-12", "2018-08-28"]
    assert files_of(spec, 0) == ["b.1.tif"]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", "is empty"),
        ("file,date\na.tif,soon\n", "line 2 of the table of dates .* holds no date: 'a.tif,soon'"),
        ("file,date\n,2018-08-12\n", "line 2 .* names no file"),
        ("what,ever\n1,2\n", "needs columns file and date; it has what, ever"),
        ("file,date\na.tif,2018-08-12\n", "has no date for b.1.tif"),
        ("file,date\nz.tif,2018-08-12\n", "names z.tif, and there is no such image"),
        ("file,date\na,2018-08-12\na.tif,2018-08-13\nb.1,2018-08-14", "gives a.tif two dates"),
        ("2018-08-12\n2018-08-28\n", "has no column of files"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, table: str, sentence: str):
    write_image(tmp_path / "i" / "a.tif", ONES)
    write_image(tmp_path / "i" / "b.1.tif", ONES)
    (tmp_path / "dates.csv").write_text(table)
    with pytest.raises(DltsError, match=sentence):
        plan(tmp_path / "i", dates=read_dates(str(tmp_path / "dates.csv")))


def test_one_image_in_two_formats_is_refused(tmp_path: Path):
    write_image(tmp_path / "20180812.tif", ONES)
    write_image(tmp_path / "20180812.img", ONES, driver="HFA")
    with pytest.raises(DltsError, match=r"same image in two formats: .*20180812.img, .*20180812.tif"):
        plan(tmp_path)
