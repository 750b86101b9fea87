from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest

from dlts_beam.spec import Timeline, TimeStep
from dlts_beam.tensors.timeline import composite, counted_steps, interpolate_at, timeline_days


def day(date: str) -> float:
    return TimeStep(0, date).day


def as_date(days: float) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=days)).isoformat()


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None, None]


def seen(*values: int) -> np.ndarray:
    return np.array(values, bool)[:, None, None]


# Target days


def test_relative_timeline_starts_with_the_series():
    days = np.array([day("2016-09-05T12:00:00"), day("2016-09-20")])
    targets = timeline_days(Timeline(3.0, 10.0, 3), days)
    assert (targets - days[0]).tolist() == [3.0, 13.0, 23.0]


@pytest.mark.parametrize(
    ("first", "start", "expected"),
    [
        ("2015-03-01", 0.0, "2015-01-01"),
        ("2015-01-01", 0.0, "2015-01-01"),
        ("2015-12-31T23:59:59", 0.0, "2015-01-01"),
        ("2016-03-01", 59.0, "2016-02-29"),
        ("2015-03-01", 59.0, "2015-03-01"),
        ("1969-12-31", 0.0, "1969-01-01"),
        ("2016-11-20", 365.0, "2016-12-31"),
        ("2015-11-20", 365.0, "2016-01-01"),
        ("2000-02-29", 244.0, "2000-09-01"),
        ("1900-06-01", 59.0, "1900-03-01"),
    ],
)
def test_day_of_year_counts_from_1_january_of_the_first_year(first: str, start: float, expected: str):
    targets = timeline_days(Timeline(start, 1.0, 1, relative=False), np.array([day(first), day(first) + 400]))
    assert as_date(targets[0]) == expected


def test_composite_targets_are_the_middles_of_the_periods():
    targets = timeline_days(Timeline(0.0, 10.0, 3, method="median"), np.array([100.0, 101.0]))
    assert targets.tolist() == [105.0, 115.0, 125.0]


@pytest.mark.parametrize("relative", [True, False])
def test_targets_of_pixels_with_their_own_days(relative: bool):
    timeline = Timeline(5.0, 16.0, 4, relative=relative)
    starts = [day("2015-03-01"), day("2016-01-01"), day("2017-12-31")]
    days = np.array([starts, [s + 20.0 for s in starts]])
    targets = timeline_days(timeline, days)
    assert targets.shape == (4, 3)
    for pixel in range(3):
        np.testing.assert_array_equal(targets[:, pixel], timeline_days(timeline, days[:, pixel]))


# Interpolation


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_interpolation_against_numpy(steps: int):
    random = np.random.default_rng(steps)
    days = 17_000 + np.cumsum(random.integers(1, 30, steps)).astype(np.float64)
    values = random.normal(10, 5, (steps, 7, 2)).astype(np.float32)
    targets = np.concatenate([days, np.linspace(days[0] - 20, days[-1] + 20, 40)])
    targets.sort()
    shared = interpolate_at(values, days, targets)
    assert shared.dtype == np.float32
    for pixel, band in np.ndindex(7, 2):
        expected = np.interp(targets, days, values[:, pixel, band])
        np.testing.assert_allclose(shared[:, pixel, band], expected, rtol=1e-6, atol=1e-5)
    own = interpolate_at(values, np.repeat(days[:, None], 7, 1), np.repeat(targets[:, None], 7, 1))
    assert own.tobytes() == shared.tobytes()


def test_targets_on_observations_are_exact_and_ends_are_held():
    days = np.array([10.0, 13.0, 20.0])
    values = column(0.1, 0.7, 0.3)
    assert interpolate_at(values, days, days).tobytes() == values.tobytes()
    held = interpolate_at(values, days, np.array([-5.0, 10.0, 20.0, 99.0]))
    assert held[:, 0, 0].tolist() == [values[0, 0, 0], values[0, 0, 0], values[2, 0, 0], values[2, 0, 0]]


def test_two_steps_of_one_day_give_finite_values_between_them():
    days = np.array([0.0, 5.0, 5.0, 10.0])
    out = interpolate_at(column(0.0, 10.0, 20.0, 30.0), days, np.array([2.5, 5.0, 7.5]))
    assert out[0, 0, 0] == 5.0
    assert 10.0 <= out[1, 0, 0] <= 20.0
    assert out[2, 0, 0] == 25.0


# Composites


def compose(
    values: np.ndarray,
    valid: np.ndarray,
    days: np.ndarray,
    timeline: Timeline,
    names: tuple[str, ...] = ("a",),
) -> tuple[list[float], list[bool]]:
    targets = timeline_days(timeline, days)
    out, usable = composite(values, valid, days, targets, timeline, names)
    assert (out.dtype, usable.dtype) == (np.float32, np.bool_)
    return out[:, 0, 0].tolist(), usable[:, 0, 0].tolist()


MEDIAN = Timeline(0.0, 10.0, 3, method="median")


def test_median_of_odd_even_one_and_no_observations():
    days = np.array([0.0, 1.0, 9.0, 10.0, 12.0, 15.0, 19.0])
    values = column(5.0, 1.0, 4.0, 1.0, 8.0, 2.0, 4.0)
    assert compose(values, seen(1, 1, 1, 1, 1, 1, 1), days, MEDIAN) == ([4.0, 3.0, 0.0], [True, True, False])
    assert compose(values, seen(1, 0, 1, 0, 0, 1, 0), days, MEDIAN) == ([4.5, 2.0, 0.0], [True, True, False])
    assert compose(values, seen(0, 0, 0, 0, 1, 0, 0), days, MEDIAN) == ([0.0, 8.0, 0.0], [False, True, False])


def test_a_period_holds_its_start_and_not_its_end():
    days = np.array([0.0, 10.0, 20.0, 30.0])
    assert compose(column(1.0, 2.0, 3.0, 4.0), seen(1, 1, 1, 1), days, MEDIAN)[0] == [1.0, 2.0, 3.0]


def test_median_against_numpy_over_all_patterns():
    values = column(3.0, -1.0, 7.5, 2.0, 2.0)
    days = np.arange(5.0)
    timeline = Timeline(0.0, 10.0, 1, method="median")
    for pattern in itertools.product((0, 1), repeat=5):
        out, usable = compose(values, seen(*pattern), days, timeline)
        chosen = values[seen(*pattern)]
        assert usable == [bool(len(chosen))]
        assert out == [float(np.median(chosen)) if len(chosen) else 0.0]


def test_each_band_has_its_own_median():
    values = np.array([[1.0, 30.0], [3.0, 10.0], [9.0, 20.0]], np.float32)[:, None]
    valid = np.array([[True, True], [True, False], [False, True]])[:, None]
    timeline = Timeline(0.0, 10.0, 1, method="median")
    out, usable = composite(values, valid, np.arange(3.0), np.array([5.0]), timeline, ("a", "b"))
    assert out[0, 0].tolist() == [2.0, 25.0]
    assert usable.all()


def test_maximum_takes_all_bands_of_the_best_date():
    values = np.array([[1.0, 0.2], [2.0, 0.9], [3.0, 0.9], [4.0, 0.99]], np.float32)[:, None]
    valid = np.array([[True, True], [True, True], [True, True], [True, False]])[:, None]
    timeline = Timeline(0.0, 10.0, 2, method="max", by="ndvi")
    targets = np.array([5.0, 15.0])
    out, usable = composite(values, valid, np.arange(4.0), targets, timeline, ("a", "ndvi"))
    # The earliest of equals; the brightest of all is not valid.
    assert out[0, 0].tolist() == [2.0, np.float32(0.9)]
    assert usable[:, 0].tolist() == [[True, True], [False, False]]


def test_maximum_leaves_other_bands_out_where_they_are_not_valid():
    values = np.array([[1.0, 0.2], [2.0, 0.9]], np.float32)[:, None]
    valid = np.array([[True, True], [False, True]])[:, None]
    timeline = Timeline(0.0, 10.0, 1, method="max", by="ndvi")
    out, usable = composite(values, valid, np.arange(2.0), np.array([5.0]), timeline, ("a", "ndvi"))
    assert out[0, 0].tolist() == [0.0, np.float32(0.9)]
    assert usable[0, 0].tolist() == [False, True]


def test_maximum_of_negative_values():
    timeline = Timeline(0.0, 10.0, 1, method="max", by="a")
    assert compose(column(-5.0, -2.0, -9.0), seen(1, 1, 1), np.arange(3.0), timeline) == ([-2.0], [True])


@pytest.mark.parametrize(("method", "by"), [("median", None), ("max", "b")])
def test_composites_of_pixels_with_their_own_days(method: str, by: str | None):
    random = np.random.default_rng(2)
    values = random.normal(0, 9, (9, 40, 2)).astype(np.float32)
    valid = random.random(values.shape) < 0.6
    days = np.sort(random.integers(0, 60, (9, 40)), axis=0).astype(np.float64)
    timeline = Timeline(-5.0, 16.0, 4, method=method, by=by)
    targets = timeline_days(timeline, days)
    out, usable = composite(values, valid, days, targets, timeline, ("a", "b"))
    for pixel in range(40):
        part = slice(pixel, pixel + 1)
        alone = composite(
            values[:, part], valid[:, part], days[:, pixel], targets[:, pixel], timeline, ("a", "b")
        )
        np.testing.assert_array_equal(out[:, part], alone[0])
        np.testing.assert_array_equal(usable[:, part], alone[1])


# Time steps that count


@pytest.mark.parametrize(
    ("method", "counted"),
    [
        # Periods [10, 20), [20, 30) and [30, 40); targets 10, 20 and 30, a step of 10 round them.
        ("median", [False, False, True, True, True, False, False]),
        ("interpolate", [False, True, True, True, True, True, False]),
    ],
)
def test_time_steps_outside_the_timeline_do_not_count(method: str, counted: list[bool]):
    days = np.array([-1.0, 0.0, 10.0, 25.0, 39.9, 40.0, 40.1])
    timeline = Timeline(11.0, 10.0, 3, method=method)
    assert counted_steps(timeline, days).tolist() == counted
    both = np.stack([days, days + 365], axis=1)
    assert counted_steps(timeline, both).tolist() == [[each, each] for each in counted]


@pytest.mark.parametrize("step", [0.7, 10.0, 365.25 / 23])
def test_what_counts_is_what_a_composite_sees(step: float):
    generator = np.random.default_rng(0)
    for _ in range(50):
        days = np.sort(generator.choice(np.arange(0, 40 * step, step / 4), 12, replace=False)) + 17000
        timeline = Timeline(float(generator.integers(0, 20)) * step / 4, step, 5, method="median")
        counted = counted_steps(timeline, days)
        for number in range(12):  # one observation alone
            valid = np.zeros((12, 1, 1), bool)
            valid[number] = True
            values, targets = np.ones(valid.shape, np.float32), timeline_days(timeline, days)
            _, usable = composite(values, valid, days, targets, timeline, ["b"])
            assert usable.any() == counted[number]
