from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import SamplesSpec, Timeline, TimeStep
from tests.trainer.helpers import make_fake
from trainer.dates import check_dates


def samples_from(first: str | None, every: int = 16, interval: bool = False) -> SamplesSpec:
    """Six time steps from a day on; numbered ones from None."""
    dates = [None if first is None else str(np.datetime64(first) + every * k) for k in range(6)]
    steps = tuple(TimeStep(k, date) for k, date in enumerate(dates))
    return replace(make_fake().spec, steps=steps, interval=interval)


JANUARY = samples_from("2011-01-26")


@pytest.mark.parametrize("first", ["2011-01-26", "2012-01-26", "2019-02-03", "2004-01-20"])
@pytest.mark.parametrize("timeline", [None, Timeline(0.0, 16.0, 6), Timeline(30.0, 16.0, 4, False)])
def test_seasons_of_several_years_train_together(first: str, timeline: Timeline | None) -> None:
    check_dates([JANUARY, samples_from(first)], ["a", "b"], timeline, 8)


def test_other_seasons_do_not() -> None:
    text = (
        "the samples in b and in a cannot train one model: their time step 0 is of 2011-07-26, those in a of "
        r"2011-01-26, 18\d days apart in the year, and --date-tolerance allows 8; .*--timeline"
    )
    summer = samples_from("2011-07-26")
    with pytest.raises(DltsError, match=text):
        check_dates([JANUARY, summer], ["a", "b"], None, 8)
    with pytest.raises(DltsError, match="their series begins at 2011-07-26, those in a at 2011-01-26"):
        check_dates([JANUARY, summer], ["a", "b"], Timeline(0.0, 16.0, 6), 8)
    check_dates([JANUARY, summer], ["a", "b"], None, 183)


@pytest.mark.parametrize("timeline", [None, Timeline(0.0, 16.0, 6)])
def test_the_season_of_samples_with_own_intervals_is_not_that_of_their_folder(
    timeline: Timeline | None,
) -> None:
    own = samples_from("2011-07-26", interval=True)
    check_dates([own, samples_from("2011-01-26", interval=True)], ["a", "b"], timeline, 8)
    check_dates([own, JANUARY], ["a", "b"], timeline, 8)
    check_dates([JANUARY, own], ["a", "b"], timeline, 8)


def test_a_timeline_must_be_covered_by_samples_with_own_intervals_too() -> None:
    own, undated = samples_from("2011-07-26", interval=True), samples_from(None)
    with pytest.raises(DltsError, match="--timeline does not fit the samples in b"):
        check_dates([JANUARY, replace(own, steps=own.steps[:3])], ["a", "b"], Timeline(0.0, 16.0, 6), 8)
    with pytest.raises(DltsError, match="the timeline counts in days, and they have no dates"):
        check_dates([own, undated], ["a", "b"], Timeline(0.0, 1.0, 6), 8)


def test_dates_that_drift_are_for_a_timeline() -> None:
    drifting = samples_from("2012-01-26", every=19)
    with pytest.raises(DltsError, match="their time step 3 is of"):
        check_dates([JANUARY, drifting], ["a", "b"], None, 8)
    check_dates([JANUARY, drifting], ["a", "b"], Timeline(0.0, 16.0, 6), 8)


def test_a_timeline_must_be_covered_by_every_folder() -> None:
    text = "--timeline does not fit the samples in a: it runs from 2011-01-26 to .*, and their series from"
    with pytest.raises(DltsError, match=text):
        check_dates([JANUARY], ["a"], Timeline(0.0, 160.0, 23), 8)
    short = samples_from("2012-01-26", every=10)
    with pytest.raises(DltsError, match="--timeline does not fit the samples in b"):
        check_dates([JANUARY, short], ["a", "b"], Timeline(0.0, 16.0, 6), 8)
    with pytest.raises(DltsError, match="days after 1970"):
        check_dates([JANUARY], ["a"], Timeline(0.0, 1e6, 23), 8)


@pytest.mark.parametrize("count", range(2, 40))
@pytest.mark.parametrize("method", ["interpolate", "median"])
def test_a_number_of_steps_is_always_covered(count: int, method: str) -> None:
    check_dates([JANUARY], ["a"], Timeline(0.0, 80 / (count - 1), count, True, method), 0)


def test_without_dates_there_is_nothing_to_compare() -> None:
    undated = samples_from(None)
    check_dates([JANUARY, undated], ["a", "b"], None, 8)
    check_dates([undated, undated], ["a", "b"], Timeline(0.0, 1.0, 6), 8)
    with pytest.raises(DltsError, match="the timeline counts in days, and they have no dates"):
        check_dates([JANUARY, undated], ["a", "b"], Timeline(0.0, 1.0, 6), 8)
