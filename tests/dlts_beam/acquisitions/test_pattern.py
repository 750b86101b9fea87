"""Dates and bands where a pattern says that they stand."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.acquisitions.pattern import dated_parts, match_parts, pattern_expression
from dlts_beam.errors import DltsError
from tests.images import plan, times, write_image

ONES = np.ones((3, 4), np.uint16)


def read(pattern: str, *names: str) -> list[tuple[str, str | None]]:
    """(time, band) of each name."""
    return [(parts.time, parts.band) for parts in dated_parts(pattern, {name: (name,) for name in names})]


@pytest.mark.parametrize("pattern", ["{date}_*_{band}", "{date}_*_{band}.tif", "*_t1_{band}"])
def test_patterns(tmp_path: Path, pattern: str):
    for day in ("2018-8-12", "2018-8-28"):
        for label in ("u", "v"):
            write_image(tmp_path / f"{day}_t1_{label}.tif", ONES)
    if "{date}" not in pattern:
        with pytest.raises(DltsError, match=r"--pattern has no \{date\}"):
            plan(tmp_path, pattern=pattern)
        return
    spec = plan(tmp_path, pattern=pattern)
    assert (times(spec), [band.name for band in spec.bands]) == (["2018-08-12", "2018-08-28"], ["u", "v"])


def test_wrong_patterns_are_refused(tmp_path: Path):
    with pytest.raises(DltsError, match=r"--pattern has \{day\}: its parts are"):
        pattern_expression("{day}_{band}", False)
    with pytest.raises(DltsError, match=r"has \{band\} twice"):
        pattern_expression("{date}_{band}_{band}", False)
    write_image(tmp_path / "20181399_a.tif", ONES)
    with pytest.raises(DltsError, match=r"finds '20181399' as the date of 20181399_a.tif, which is no date"):
        plan(tmp_path, pattern="{date}_{band}")
    write_image(tmp_path / "20181399_a.tif", [ONES, ONES])
    with pytest.raises(DltsError, match="needs one band per file"):
        plan(tmp_path, pattern="{date}_{band}", undated=True)


def test_months_that_follow_a_year_belong_to_the_date(tmp_path: Path):
    for year, month, band in itertools.product((2016, 2017), (2, 3, 10), (1, 2)):
        write_image(tmp_path / f"{year}_{month}_b{band}.tif", ONES)
    spec = plan(tmp_path, pattern="{date}_{band}")
    assert times(spec) == [f"{year}-{month}-01" for year in (2016, 2017) for month in ("02", "03", "10")]
    assert [band.name for band in spec.bands] == ["b1", "b2"]


def test_numbers_that_cannot_all_be_months_are_no_part_of_the_date():
    names = [f"{year}_{number}_a" for year in (2016, 2017) for number in range(1, 21)]
    assert read("{date}_{band}", *names) == [(f"{name[:4]}-01-01", name[5:]) for name in names]


def test_a_path_and_row_that_look_like_a_month_are_not_the_date():
    names = [f"LC08_198012_{day}_{band}" for day in (20180812, 20180828) for band in ("B4", "B5")]
    days = ["2018-08-12"] * 2 + ["2018-08-28"] * 2
    assert read("*_{date}_{band}", *names) == list(zip(days, ["B4", "B5"] * 2, strict=True))


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("{date}_{band}", "20180812_101530_B4", ("2018-08-12T10:15:30", "B4")),
        ("{date}_{band}", "2018-08-12T10:15:30.123456Z_B4", ("2018-08-12T10:15:30", "B4")),
        ("{date}_{band}", "2018-08-12T10_B4", ("2018-08-12T10:00:00", "B4")),
        ("{date}_101530_{band}", "20180812_101530_B4", ("2018-08-12", "B4")),
        ("{date}-*_{band}", "2018-8-12-2_B4", ("2018-08-12", "B4")),
        ("{band}.{date}", "B4.2018.8.1", ("2018-08-01", "B4")),
        ("{date}*", "20180812", ("2018-08-12", None)),
        ("*{date}*", "a20180812T101500b", ("2018-08-12T10:15:00", None)),
        ("x1{date}", "x12018-08-12", ("2018-08-12", None)),
        ("LC8*{date}LGN*", "LC81980122013045LGN00", ("2013-02-14", None)),
        ("*_{date}_*", "a_20180812_x_2018-08-12_b", ("2018-08-12", None)),
        ("{date}_*_{band}", "20180812_101530_x_B4", ("2018-08-12T10:15:30", "B4")),
        ("{date}_*", "20180812_101530_L4", ("2018-08-12", None)),
        ("{date}_*", "20180812T101530_L4", ("2018-08-12T10:15:30", None)),
        ("{date}_L4", "20180812_101530_L4", ("2018-08-12T10:15:30", None)),
        ("{band}_{date}_*", "B4_20180812_101530_L4", ("2018-08-12", "B4")),
        ("S{date}*.tif", "S2018-01-01_2018-01-16.tif", ("2018-01-01", None)),
        ("{date}*_{band}", "2018-01-01_2018-01-16_B4", ("2018-01-01", "2018-01-16_B4")),
        ("S1A_*_{date}_*", "S1A_IW_1SDV_20180101T091522_20180101T091547_019", ("2018-01-01T09:15:22", None)),
        ("*_{date}_*_*_{band}", "LC08_225068_20180812_20180815_T1_B4", ("2018-08-12", "B4")),
    ],
)
def test_the_longest_date_counts(pattern: str, name: str, found: tuple[str, str | None]):
    assert read(pattern, name) == [found]


def test_the_same_digits_after_every_date_are_no_time_of_day_but_no_band_either():
    names = ["20180812_012010_B4", "20180828_012010_B4"]
    assert read("{date}_{band}", *names) == [("2018-08-12", "B4"), ("2018-08-28", "B4")]


def test_names_without_a_common_precision_have_dates_of_their_own():
    assert read("{date}_{band}", "20180812_a", "201809_a") == [("2018-08-12", "a"), ("2018-09-01", "a")]


def test_two_dates_in_a_name_are_refused():
    with pytest.raises(
        DltsError,
        match=r"two dates in a_20180812_20180815_b: 2018-08-12 and 2018-08-15; write more of the name into"
        r" the pattern, so that one of them is left for \{date\}",
    ):
        read("*_{date}_*", "a_20180812_20180815_b")


@pytest.mark.parametrize("name", ["20181399", "x20181399", "120180812", "v20180812345"])
def test_a_piece_of_a_long_number_is_no_date(name: str):
    with pytest.raises(DltsError, match=f"as the date of {name}, which is no date"):
        read("*{date}*", name)


def test_folders_and_extensions_may_be_in_the_pattern_or_not():
    forms = ("2017/20180812_a", "20180812_a", "2017/20180812_a.tif", "20180812_a.tif")
    for pattern in ("{date}_{band}", "2017/{date}_{band}", "{date}_{band}.tif", "*/{date}_{band}.tif"):
        (parts,) = dated_parts(pattern, {"f": forms})
        assert (parts.time, parts.band) == ("2018-08-12", "a"), pattern
    assert match_parts("step{date}_{band}", ("a", "step12_b"), True) == {"date": "12", "band": "b"}


def test_ten_thousand_names_take_about_a_second():
    days = [f"20{year}-{month:02}-{day:02}" for year in range(10, 20) for month in (1, 7) for day in (1, 9)]
    images = [f"S2A_T20LKP_{day}_1015{second:02}" for day in days for second in range(25)]
    names = [f"{image}_x_B{band}" for image in images for band in range(10)]
    began = time.process_time()
    found = read("*_{date}_*_{band}", *names)
    assert time.process_time() - began < 10  # a second where nothing else runs
    assert len(found) == 10_000
    assert found[0] == ("2010-01-01T10:15:00", "B0")
