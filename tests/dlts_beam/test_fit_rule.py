from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.fit_rule import check_fit, day_of_year_distance, keep_steps, select_interval
from dlts_beam.grid import Grid
from dlts_beam.spec import (
    Band,
    MaskRule,
    ModelSpec,
    PreparationSpec,
    Reading,
    SeriesSpec,
    ServingSpec,
    Source,
    SourceFile,
    Timeline,
    TimeStep,
)
from tests.fakes import model_spec

GRID = Grid("EPSG:32721", (30.0, 0.0, 0.0, 0.0, -30.0, 0.0), 10, 10)


def series_of(dates: list[str | None], names: tuple[str, ...] = ("red", "nir")) -> SeriesSpec:
    files = tuple(SourceFile(f"/{n}.tif", 0, 0, 10, 10, 1, str(n)) for n in range(len(dates)))
    return SeriesSpec(
        grid=GRID,
        steps=tuple(TimeStep(n, date) for n, date in enumerate(dates)),
        bands=tuple(Band(n + 1, name, "uint16") for n, name in enumerate(names)),
        files=files,
        sources=tuple(tuple((Source(n, b + 1),) for b in range(len(names))) for n in range(len(dates))),
    )


def every(first: str, days: int, count: int) -> list[str | None]:
    start = dt.date.fromisoformat(first)
    return [str(start + dt.timedelta(days=days * n)) for n in range(count)]


def model_of(series: SeriesSpec, timeline: Timeline | None = None) -> ModelSpec:
    names = tuple(band.name for band in series.bands)
    preparation = PreparationSpec(names, (0.0,) * len(names), timeline=timeline)
    steps = len(series.steps) if timeline is None else timeline.count
    return model_spec(series, ServingSpec(64, 0, steps, len(names), 2), preparation)


SERIES = series_of(every("2020-10-01", 16, 6))


@pytest.mark.parametrize("shift", [-8, 0, 5, 8, 365, 366 + 365, -365 - 3])
def test_another_year_within_the_tolerance_fits(shift: int) -> None:
    first = dt.date(2020, 10, 1) + dt.timedelta(days=shift)
    assert check_fit(series_of(every(str(first), 16, 6)), model_of(SERIES)) == []


@pytest.mark.parametrize("shift", [-9, 10, 40, 180])
def test_another_season_does_not_fit(shift: int) -> None:
    first = dt.date(2021, 10, 1) + dt.timedelta(days=shift)
    with pytest.raises(DltsError, match="days apart in the year"):
        check_fit(series_of(every(str(first), 16, 6)), model_of(SERIES), tolerance=8)


def test_bands_are_found_by_name() -> None:
    more = series_of(every("2020-10-01", 16, 6), ("swir", "nir", "red"))
    assert check_fit(more, model_of(SERIES)) == []
    with pytest.raises(DltsError, match="it needs band nir, and the series has red, swir"):
        check_fit(series_of(every("2020-10-01", 16, 6), ("red", "swir")), model_of(SERIES))


@pytest.mark.parametrize("count", [5, 7])
def test_the_number_of_time_steps_counts(count: int) -> None:
    with pytest.raises(DltsError, match=f"trained on 6 time steps, and the series has {count}"):
        check_fit(series_of(every("2020-10-01", 16, count)), model_of(SERIES))


def test_without_dates_the_count_alone_decides_and_the_user_is_told() -> None:
    undated = series_of([None] * 6)
    assert check_fit(undated, model_of(SERIES)) == [
        "the series has no dates: only the number of time steps was compared with the other's"
    ]
    assert len(check_fit(SERIES, model_of(undated))) == 1
    with pytest.raises(DltsError, match="6 time steps"):
        check_fit(series_of([None] * 5), model_of(SERIES))


@pytest.mark.parametrize("relative", [True, False])
def test_a_timeline_fits_any_series_that_covers_it(relative: bool) -> None:
    timeline = Timeline(start=0.0 if relative else 274.0, step=10, count=8, relative=relative)
    model = model_of(SERIES, timeline)
    assert check_fit(series_of(every("2023-10-03", 5, 20)), model) == []
    with pytest.raises(DltsError, match="its timeline runs from"):
        check_fit(series_of(every("2023-10-03", 5, 8)), model)
    with pytest.raises(DltsError, match="the series has no dates"):
        check_fit(series_of([None] * 8), model)


@pytest.mark.parametrize("count", range(2, 40))
def test_a_timeline_that_was_made_for_the_series_fits_it(count: int) -> None:
    timeline = Timeline(start=0.0, step=80 / (count - 1), count=count, method="median")
    assert check_fit(SERIES, model_of(SERIES, timeline), tolerance=0) == []


def test_a_timeline_beyond_all_calendars_is_told() -> None:
    with pytest.raises(DltsError, match="days after 1970-01-01"):
        check_fit(SERIES, model_of(SERIES, Timeline(start=0.0, step=1e6, count=23)))


def test_a_relative_timeline_must_begin_in_the_same_season() -> None:
    model = model_of(SERIES, Timeline(start=0.0, step=10, count=8))
    with pytest.raises(DltsError, match="the series begins at 2023-04-01"):
        check_fit(series_of(every("2023-04-01", 5, 40)), model)


def test_distance_ignores_the_year() -> None:
    for first in range(0, 366 * 4, 37):
        for second in range(0, 366 * 4, 41):
            apart = day_of_year_distance(first, second)
            assert 0 <= apart <= 183
            assert apart == pytest.approx(day_of_year_distance(second, first))
            assert abs(day_of_year_distance(first, second + 1461) - apart) < 1e-9


def test_an_interval_is_cut_out_of_a_long_series() -> None:
    long = series_of(every("2018-01-05", 16, 80))
    chosen = select_interval(long, model_of(SERIES), dt.date(2020, 9, 28))
    assert len(chosen.steps) == 6
    assert chosen.steps[0].time >= "2020-09-28"
    assert [step.number for step in chosen.steps] == list(range(6))
    assert len(chosen.files) == 6
    assert check_fit(chosen, model_of(SERIES), tolerance=16) == []
    with pytest.raises(DltsError, match="choose an earlier --start"):
        select_interval(long, model_of(SERIES), dt.date(2021, 6, 1))
    with pytest.raises(DltsError, match="no time step on or after"):
        select_interval(long, model_of(SERIES), dt.date(2031, 6, 1))
    assert select_interval(long, model_of(SERIES), dt.date(2017, 12, 21)).steps[0].time == "2018-01-05"
    with pytest.raises(DltsError, match="begins at 2018-01-05, 127 days after --start 2017-08-31: it does"):
        select_interval(long, model_of(SERIES), dt.date(2017, 8, 31))
    with pytest.raises(DltsError, match="needs a series with dates"):
        select_interval(series_of([None] * 9), model_of(SERIES), dt.date(2020, 1, 1))


def test_an_interval_for_a_timeline_spans_it() -> None:
    long = series_of(every("2018-01-05", 16, 80))
    model = model_of(SERIES, Timeline(start=0.0, step=10, count=10))
    chosen = select_interval(long, model, dt.date(2020, 9, 28))
    assert check_fit(chosen, model, tolerance=16) == []
    assert len(chosen.steps) < 10


@pytest.mark.parametrize(("method", "last"), [("interpolate", "2020-12-31"), ("median", "2020-12-20")])
def test_an_interval_keeps_the_observation_that_interpolation_ends_on(method: str, last: str) -> None:
    """The last target is 2020-12-22, the last time step within a step of it 2020-12-20."""
    dates = ["2018-06-01", "2020-10-03", "2020-11-10", "2020-12-20", "2020-12-31", "2021-01-03", "2021-03-01"]
    model = model_of(SERIES, Timeline(start=0.0, step=5, count=17, method=method))
    chosen = select_interval(series_of(dates), model, dt.date(2020, 10, 1))
    assert (chosen.steps[0].time, chosen.steps[-1].time) == ("2020-10-03", last)
    if method == "interpolate":
        assert check_fit(chosen, model, tolerance=0) == []


def test_an_interval_needs_no_more_than_one_observation_after_its_timeline() -> None:
    model = model_of(SERIES, Timeline(start=0.0, step=20, count=5))  # to 2020-12-22
    dates = ["2020-10-03", "2020-12-20", "2020-12-28", "2021-01-11", "2021-01-12"]
    chosen = select_interval(series_of(dates), model, dt.date(2020, 10, 1))
    assert chosen.steps[-1].time == "2021-01-11"  # within a step of the end, as ever
    ended = select_interval(series_of(dates[:2]), model, dt.date(2020, 10, 1))
    assert ended.steps[-1].time == "2020-12-20"


def test_kept_steps_keep_their_sources_and_masks() -> None:
    rule = MaskRule(3, (1,))
    masked = dataclasses.replace(
        SERIES,
        reading=Reading(mask=rule),
        mask_sources=tuple((Source(n, 3),) for n in range(6)),
    )
    kept = keep_steps(masked, [1, 3, 5])
    assert [kept.files[layer[0].file].path for (layer, _) in kept.sources] == ["/1.tif", "/3.tif", "/5.tif"]
    assert [kept.files[layer[0].file].path for layer in kept.mask_sources] == ["/1.tif", "/3.tif", "/5.tif"]
    np.testing.assert_array_equal(kept.days, masked.days[[1, 3, 5]])
