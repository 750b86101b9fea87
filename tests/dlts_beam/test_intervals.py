"""Cutting a long series: which time steps a sample gets, and where its gaps stand."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.intervals import _align, check_interval, cut_series, nominal_steps, steps_within, whole_series
from dlts_beam.spec import Band, SeriesSpec, Source, SourceFile, TimeStep

GRID = Grid("EPSG:32721", (30.0, 0.0, 500_000.0, 0.0, -30.0, 8_000_000.0), 4, 4)


def series_of(dates: Sequence[str | None]) -> SeriesSpec:
    return SeriesSpec(
        grid=GRID,
        steps=tuple(TimeStep(number, date) for number, date in enumerate(dates)),
        bands=(Band(1, "b1", "uint8"),),
        files=(SourceFile("a.tif", 0, 0, 4, 4, 1, "1"),),
        sources=tuple(((Source(0, 1),),) for _ in dates),
    )


def every(first: str, step: int, count: int) -> list[str]:
    start = dt.date.fromisoformat(first)
    return [(start + dt.timedelta(days=n * step)).isoformat() for n in range(count)]


def test_ends_are_included_and_a_bare_end_is_a_whole_day():
    series = series_of(["2020-01-01", "2020-01-10", "2020-01-20T10:30:00", "2020-01-21"])
    assert steps_within(series, ("2020-01-01", "2020-01-10")) == [0, 1]
    assert steps_within(series, ("2020-01-02", "2020-01-20")) == [1, 2]
    assert steps_within(series, ("2020-01-02", "2020-01-20T10:00:00")) == [1]
    assert steps_within(series, ("2021-01-01", "2021-01-02")) == []


def test_a_step_missing_in_mid_season_stays_a_gap_in_mid_season():
    dates = every("2019-01-01", 10, 8) + [d for d in every("2020-01-01", 10, 8) if d != "2020-02-10"]
    series = series_of(dates)
    full, short = ("2019-01-01", "2019-12-31"), ("2020-01-01", "2020-12-31")
    cuts = cut_series(series, [full, short, full], None)
    assert list(cuts) == [full, short]
    assert cuts[full].steps == tuple(range(8))
    assert cuts[short].steps == (8, 9, 10, 11, -1, 12, 13, 14)
    assert np.diff(cuts[short].days).tolist() == [10.0] * 7
    steps = nominal_steps([cuts[short], cuts[short], cuts[full]], series)
    assert [step.time for step in steps] == dates[:8]


def test_longer_cuts_keep_their_first_steps():
    series = series_of(every("2020-01-01", 5, 20))
    long, exact = ("2020-01-01", "2020-03-30"), ("2020-02-05", "2020-02-24")
    cuts = cut_series(series, [long, exact], 4)
    assert cuts[long].steps == (0, 1, 2, 3)
    assert cuts[exact].steps == (7, 8, 9, 10)


def test_days_ascend_whatever_is_missing():
    dates = [*every("2019-01-01", 7, 9), "2020-01-03", "2020-01-04", "2020-02-27"]
    cuts = cut_series(series_of(dates), [("2019-01-01", "2019-12-31"), ("2020-01-01", "2020-12-31")], None)
    for cut in cuts.values():
        assert (np.diff(cut.days) >= 0).all()
        assert [step for step in cut.steps if step >= 0] == sorted(step for step in cut.steps if step >= 0)


def test_alignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for count, slots in [(1, 1), (1, 4), (2, 4), (3, 5), (4, 4), (4, 6)]:
        usual = np.sort(rng.integers(0, 50, slots)).astype(float)
        own = np.sort(rng.integers(0, 50, count)).astype(float)
        found = _align(own, usual)
        assert found == sorted(set(found))
        best = min(
            sum(abs(own - usual[list(choice)])) for choice in itertools.combinations(range(slots), count)
        )
        assert sum(abs(own - usual[found])) == best


def test_whole_series_takes_every_step():
    series = series_of([None, None, None])
    assert whole_series(series).steps == (0, 1, 2)
    assert whole_series(series).days == (0.0, 1.0, 2.0)


def test_what_cannot_be_cut_is_told():
    dated = series_of(every("2020-01-01", 5, 4))
    with pytest.raises(DltsError, match="need a series with dates"):
        cut_series(series_of([None, None]), [("2020-01-01", "2020-02-01")], None)
    with pytest.raises(DltsError, match="no feature's interval holds a time step"):
        cut_series(dated, [("2030-01-01", "2030-02-01")], None)
    with pytest.raises(DltsError, match="--steps 5 is more than the 4 time steps"):
        cut_series(dated, [("2020-01-01", "2020-02-01")], 5)


@pytest.mark.parametrize(("start", "end"), [("2020-02-01", "2020-01-01"), ("soon", "2020-01-01")])
def test_intervals_are_checked(start: str, end: str):
    with pytest.raises(ValueError):
        check_interval(start, end)


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        ("2018-01-01", "2018-12-31T06:30:00", ("2018-01-01", "2018-12-31T06:30:00")),
        ("20180101", "20181231T0630", ("2018-01-01", "2018-12-31T06:30:00")),
        ("2018-01-01T00:00:00", "2018-12-31 00:00", ("2018-01-01", "2018-12-31")),
    ],
)
def test_an_interval_has_one_spelling(start: str, end: str, told: tuple[str, str]):
    assert check_interval(start, end) == told
    assert check_interval(*told) == told
