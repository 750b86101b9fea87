"""Dates in names, metadata and tables, and their order."""

from __future__ import annotations

import itertools
import random

import pytest

from dlts_beam.dates import AmbiguousDatesError, choose_stamps, find_stamps, natural_key, parse_time


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("MOD13Q1_20111101_subset_from_h12v10", "2011-11-01"),
        ("S2_T20LKP_20180812", "2018-08-12"),
        ("TERRA_MODIS_012010_NDVI_2014-07-28", "2014-07-28"),
        ("MOSAIC_NDVI_2013-09-14", "2013-09-14"),
        ("scene.2016.1.2", "2016-01-02"),
        ("2018/08/12/B04", "2018-08-12"),
        ("ndvi_2016_10", "2016-10-01"),
        ("ndvi_2016_2", "2016-02-01"),
        ("ndvi-201602-v3", "2016-02-01"),
        ("MOD13Q1.A2014209.h12v10.006", "2014-07-28"),
        ("composite_2016366", "2016-12-31"),
        ("LT52250682010123CUB00_B4", "2010-05-03"),
        ("S2A_MSIL2A_20180812T142041_N0206_R010_T20LKP", "2018-08-12T14:20:41"),
        ("HLS.L30.T20LKP.2018224T142041.v2.0", "2018-08-12T14:20:41"),
        ("2018-08-12T10:15:30Z_a", "2018-08-12T10:15:30"),
        ("img_20180812_T1015", "2018-08-12T10:15:00"),
        ("20180812101530", "2018-08-12T10:15:30"),
        ("20180812_101530_1024_3B", "2018-08-12T10:15:30"),
        ("20180812_201510_12", "2018-08-12T20:15:10"),
        ("20180812_20-15-10", "2018-08-12T20:15:10"),
        ("20180812_T20LKP_x", "2018-08-12"),
        ("20180812_996100", "2018-08-12"),
        ("annual.2016", "2016-01-01"),
    ],
)
def test_forms(name: str, time: str):
    assert [stamp.iso for stamp in find_stamps(name)][:1] == [time]


@pytest.mark.parametrize(
    "name",
    [
        "step01",
        "h12v10",
        "012010",
        "T20LKP",
        "LC08_225068",
        "20181301",
        "2018367",
        "19000101",
        "123456789",
        "b4",
    ],
)
def test_numbers_that_are_no_dates(name: str):
    assert find_stamps(name) == []


def test_every_form_of_every_day_of_a_leap_year_reads_back():
    import datetime as dt

    for number in range(366):
        day = dt.date(2016, 1, 1) + dt.timedelta(number)
        forms = ["%Y%m%d", "%Y-%m-%d", "%Y_%m_%d", "%Y%j", f"{day.year}-{day.month}-{day.day}"]
        for form in forms:
            text = day.strftime(form)
            assert parse_time(text) == day.isoformat(), text
            assert [stamp.iso for stamp in find_stamps(f"a1_{text}_b10.x")] == [day.isoformat()]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2018-08-12", "2018-08-12"),
        (" 2018-08-12 ", "2018-08-12"),
        ("2018:08:12 10:15:30", "2018-08-12T10:15:30"),
        ("2018-08-12T10:15:30.123456Z", "2018-08-12T10:15:30"),
        ("2018-08-12T01:15:30+02:00", "2018-08-11T23:15:30"),
        ("2018/8/12", "2018-08-12"),
        ("yesterday", None),
        ("date", None),
        ("2018-08-12 and more", None),
    ],
)
def test_parse_time_takes_the_whole_text(text: str, time: str | None):
    assert parse_time(text) == time


def chosen(*names: str) -> list[str]:
    return [stamp.iso for stamp in choose_stamps(names)]


@pytest.mark.parametrize(
    "name",
    ["2018-01-01_2018-01-16", "N_2018-01-01_2018-01-16_v2", "2018-01-01-2018-01-16", "20180101_2018.01.16"],
)
def test_the_beginning_of_a_date_is_no_time_of_day(name: str):
    assert [stamp.iso for stamp in find_stamps(name)] == ["2018-01-01", "2018-01-16"]


def test_a_date_that_never_changes_is_not_the_acquisition():
    assert chosen("v20200101_ndvi_20180812", "v20200101_ndvi_20180828") == ["2018-08-12", "2018-08-28"]


def test_of_two_dates_the_earlier_one_is_the_acquisition():
    landsat = ["LC08_L1TP_225068_20180812_20180815_01_T1", "LC08_L1TP_225068_20180828_20200101_01_T1"]
    assert chosen(*landsat) == ["2018-08-12", "2018-08-28"]
    modis = ["MOD13Q1.A2014209.h12v10.006.2015289000000", "MOD13Q1.A2014225.h12v10.006.2015290000000"]
    assert chosen(*modis) == ["2014-07-28", "2014-08-13"]
    processed_first = ["p20200101_20180812", "p20200105_20180828"]
    assert chosen(*processed_first) == ["2018-08-12", "2018-08-28"]


def test_two_dates_of_which_none_is_always_the_earlier_one_are_refused():
    with pytest.raises(
        AmbiguousDatesError, match="hold 2 dates each, and none of them is always the earliest"
    ):
        chosen("20180101_20190101", "20200101_20190102")


def test_a_year_beside_a_date_is_ignored_and_alone_it_counts():
    assert chosen("20180812_tile2001", "20180812_tile2002") == ["2018-08-12", "2018-08-12"]
    assert chosen("a.2016", "a.2017") == ["2016-01-01", "2017-01-01"]


def test_names_without_date_are_named():
    with pytest.raises(AmbiguousDatesError, match="the file name 'step1' and 1 more holds no date"):
        chosen("step1", "step2", "20180812")


def test_the_same_digits_after_every_date_are_no_time_of_day():
    assert chosen("20180812_012010", "20180828_012010") == ["2018-08-12", "2018-08-28"]
    assert chosen("20180812_101500", "20180812_131500") == ["2018-08-12T10:15:00", "2018-08-12T13:15:00"]
    assert chosen("20180812T000000", "20180813T000000") == ["2018-08-12", "2018-08-13"]


def test_order_is_chronological_and_numbers_are_numbers():
    names = ["ndvi_2016_2", "ndvi_2016_10", "ndvi_2015_12"]
    for order in itertools.permutations(names):
        times = dict(zip(order, chosen(*order), strict=True))
        assert sorted(order, key=times.__getitem__) == ["ndvi_2015_12", "ndvi_2016_2", "ndvi_2016_10"]
    bands = [f"ts_b{number}" for number in range(1, 31)]
    shuffled = random.Random(1).sample(bands, len(bands))
    assert sorted(shuffled, key=natural_key) == bands
    mixed = ["a", "a1", "a01", "a1b", "1", "a2", "A3", "", "²"]
    assert sorted(sorted(mixed), key=natural_key) == sorted(sorted(mixed, reverse=True), key=natural_key)
