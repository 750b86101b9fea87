from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import IndexSpec, PreparationSpec, Timeline
from dlts_beam.tensors import preparation
from dlts_beam.tensors.preparation import (
    append_indices,
    band_positions,
    count_observations,
    count_observed,
    fill_gaps,
    prepare,
)

FILL = np.array([0.25, -3.0, 40.0], np.float32)


def irregular_days(steps: int, seed: int = 0) -> np.ndarray:
    """Days since 1970 with fractions, 1 to 40 apart."""
    return 16_000.25 + np.cumsum(np.random.default_rng(seed).integers(1, 40, steps)).astype(np.float64)


def make_values(steps: int, pixels: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 30, (steps, pixels, bands)).astype(np.float32)


def make_valid(kind: str, steps: int, pixels: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    share = random.random((1, pixels, 1))
    valid = random.random((steps, pixels, bands)) < share
    if kind == "shared":
        valid[:] = valid[..., :1]
    if kind == "some":
        valid[:, ::2] = True
    if kind == "all":
        valid[:] = True
    if kind == "none":
        valid[:] = False
    return valid


def fill_naively(values: np.ndarray, valid: np.ndarray, days: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """numpy.interp, one pixel and band at a time, in float64."""
    out = values.astype(np.float64)
    for pixel, band in np.ndindex(values.shape[1:]):
        at = days if days.ndim == 1 else days[:, pixel]
        seen = valid[:, pixel, band]
        if not seen.any():
            out[:, pixel, band] = fill[band]
            continue
        filled = np.interp(at, at[seen], values[seen, pixel, band])
        out[:, pixel, band] = np.where(seen, values[:, pixel, band], filled)
    return out


@pytest.mark.parametrize("kind", ["shared", "apart", "some", "all", "none"])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 24])
def test_fill_gaps_against_numpy_interp(kind: str, steps: int):
    values, valid = make_values(steps, 60), make_valid(kind, steps, 60)
    days = irregular_days(steps)
    kept, kept_valid = values.copy(), valid.copy()
    filled = fill_gaps(values, valid, days, FILL)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled, fill_naively(values, valid, days, FILL), rtol=2e-6, atol=1e-5)
    # Observations pass through untouched, and so does the input.
    assert filled[valid].tobytes() == values[valid].tobytes()
    np.testing.assert_array_equal(values, kept)
    np.testing.assert_array_equal(valid, kept_valid)


def test_every_pattern_of_five_steps():
    patterns = np.array(list(itertools.product((False, True), repeat=5))).T[..., None]
    values = make_values(5, 32, 1)
    days = irregular_days(5)
    filled = fill_gaps(values, patterns, days, FILL[:1])
    np.testing.assert_allclose(filled, fill_naively(values, patterns, days, FILL[:1]), rtol=2e-6)


def test_linear_in_days_not_in_steps():
    values = np.array([10.0, 0.0, 0.0, 50.0], np.float32)[:, None, None]
    valid = np.array([True, False, False, True])[:, None, None]
    filled = fill_gaps(values, valid, np.array([0.0, 10.0, 30.0, 40.0]), FILL[:1])
    assert filled[:, 0, 0].tolist() == [10.0, 20.0, 40.0, 50.0]


def test_ends_are_held():
    values = np.array([9.0, 20.0, 9.0, 50.0, 9.0], np.float32)[:, None, None]
    valid = np.array([False, True, False, True, False])[:, None, None]
    filled = fill_gaps(values, valid, np.arange(5.0), FILL[:1])
    assert filled[:, 0, 0].tolist() == [20.0, 20.0, 35.0, 50.0, 50.0]


def test_one_observation_fills_everything_exactly():
    for steps, seen in ((1, 0), (4, 0), (4, 2), (4, 3)):
        values = np.full((steps, 1, 1), 7.0, np.float32)
        values[seen] = np.float32(0.1)
        valid = np.zeros((steps, 1, 1), bool)
        valid[seen] = True
        filled = fill_gaps(values, valid, irregular_days(steps), FILL[:1])
        assert (filled == np.float32(0.1)).all()


def test_never_observed_takes_the_mean_of_its_band():
    values, valid = make_values(4, 5), make_valid("none", 4, 5)
    valid[2, 1, 0] = True
    filled = fill_gaps(values, valid, irregular_days(4), FILL)
    assert (filled[:, 1, 0] == values[2, 1, 0]).all()
    filled[:, 1, 0] = FILL[0]
    assert (filled == FILL).all()


def test_two_steps_of_one_day():
    """A gap on the day of an observation takes it, whichever of the two comes first."""
    days = np.array([0.0, 5.0, 5.0, 10.0])
    values = np.array([0.0, 8.0, 9.0, 20.0], np.float32)[:, None, None]
    for first, second in ((True, False), (False, True)):
        valid = np.array([True, first, second, True])[:, None, None]
        seen = 8.0 if first else 9.0
        assert fill_gaps(values, valid, days, FILL[:1])[:, 0, 0].tolist() == [0.0, seen, seen, 20.0]
    both = fill_gaps(values, np.array([True, False, False, True])[:, None, None], days, FILL[:1])
    assert both[:, 0, 0].tolist() == [0.0, 10.0, 10.0, 20.0]


def test_all_steps_on_one_day():
    values = np.array([1.0, 2.0, 3.0], np.float32)[:, None, None]
    for pattern in itertools.product((False, True), repeat=3):
        valid = np.array(pattern)[:, None, None]
        filled = fill_gaps(values, valid, np.full(3, 17000.0), FILL[:1])[:, 0, 0]
        assert np.isfinite(filled).all()
        allowed = {float(v) for v, seen in zip(values[:, 0, 0], pattern, strict=True) if seen} or {0.25}
        assert all(value in allowed for value in filled.tolist())


def test_values_between_lie_between_their_neighbours():
    values, valid = make_values(24, 500), make_valid("apart", 24, 500)
    days = irregular_days(24)
    filled = fill_gaps(values, valid, days, FILL)
    masked = np.where(valid, values, np.nan)
    seen = valid.any(axis=0)
    low = np.nanmin(np.where(seen, masked, 0), axis=0)
    high = np.nanmax(np.where(seen, masked, 0), axis=0)
    slack = 1e-5 * np.abs(values).max()
    assert ((filled >= low - slack) & (filled <= high + slack))[:, seen].all()


def test_what_is_not_valid_may_hold_anything():
    valid = make_valid("apart", 6, 200)
    values = make_values(6, 200)
    other = np.where(valid, values, np.float32(1e30))
    days = irregular_days(6)
    assert fill_gaps(values, valid, days, FILL).tobytes() == fill_gaps(other, valid, days, FILL).tobytes()


def test_epoch_days_keep_their_precision():
    """Days since 1970 have five digits: half an hour must not be lost in float32."""
    values, valid = make_values(9, 50), make_valid("apart", 9, 50)
    near = np.array([0.0, 0.02, 0.05, 1.0, 1.25, 7.125, 7.25, 30.5, 31.0])
    far = near + 20_000.0
    near_filled, far_filled = (fill_gaps(values, valid, days, FILL) for days in (near, far))
    np.testing.assert_allclose(near_filled, far_filled, rtol=1e-5)
    np.testing.assert_allclose(far_filled, fill_naively(values, valid, far, FILL), rtol=1e-5)


PREPARATIONS = {
    "plain": PreparationSpec(("a", "b", "c"), (1.0, 2.0, 3.0)),
    "indices": PreparationSpec(
        ("a", "b", "c"),
        (1.0, 2.0, 3.0, 0.1, 0.2),
        indices=(IndexSpec("ab", "a", "b"), IndexSpec("ca", "c", "a")),
    ),
    **{
        f"{method}, {'relative' if relative else 'day of year'}": PreparationSpec(
            ("a", "b", "c"),
            (1.0, 2.0, 3.0, 0.1),
            indices=(IndexSpec("ab", "a", "b"),),
            timeline=Timeline(
                0.0 if relative else 290.0,
                16.0,
                7,
                relative=relative,
                method=method,
                by="ab" if method == "max" else None,
            ),
        )
        for method in ("interpolate", "median", "max")
        for relative in (True, False)
    },
}


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.parametrize("kind", ["shared", "apart", "some", "all", "none"])
def test_own_days_and_shared_days_give_the_same_bits(name: str, kind: str):
    values, valid, days = make_values(8, 90), make_valid(kind, 8, 90), irregular_days(8)
    shared = prepare(values, valid, days, PREPARATIONS[name])
    own = prepare(values, valid, np.repeat(days[:, None], 90, axis=1), PREPARATIONS[name])
    assert shared.dtype == np.float32
    assert np.isfinite(shared).all()
    assert shared.tobytes() == own.tobytes()


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.parametrize("kind", ["shared", "apart", "some", "all"])
def test_bits_do_not_depend_on_the_pixels_beside(name: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    """One pixel alone, a few in another order, other strips, other layouts: always the same bits."""
    spec = PREPARATIONS[name]
    values, valid, days = make_values(8, 90), make_valid(kind, 8, 90), irregular_days(8)
    whole = prepare(values, valid, days, spec)
    for pixel in range(0, 90, 7):
        part = slice(pixel, pixel + 1)
        alone = prepare(values[:, part], valid[:, part], days, spec)
        assert alone.tobytes() == np.ascontiguousarray(whole[:, part]).tobytes()
    order = np.random.default_rng(9).permutation(90)[:50]
    some = prepare(values[:, order], valid[:, order], days, spec)
    assert some.tobytes() == np.ascontiguousarray(whole[:, order]).tobytes()
    turned = prepare(np.asfortranarray(values), np.asfortranarray(valid), days, spec)
    assert (turned == whole).all()
    monkeypatch.setattr(preparation, "STRIP", 16)
    assert prepare(values, valid, days, spec).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", PREPARATIONS)
def test_own_days_differ_from_pixel_to_pixel(name: str):
    """A batch of samples from several years gives each what it would get alone."""
    spec = PREPARATIONS[name]
    values, valid = make_values(8, 30), make_valid("apart", 8, 30)
    days = np.stack([irregular_days(8, seed) + 365 * (seed % 4) for seed in range(30)], axis=1)
    together = prepare(values, valid, days, spec)
    for pixel in range(30):
        part = slice(pixel, pixel + 1)
        alone = prepare(values[:, part], valid[:, part], days[:, pixel], spec)
        assert alone.tobytes() == np.ascontiguousarray(together[:, part]).tobytes()


@pytest.mark.parametrize("name", PREPARATIONS)
def test_prepare_changes_nothing_it_is_given(name: str):
    values, valid, days = make_values(8, 40), make_valid("apart", 8, 40), irregular_days(8)
    kept = values.copy(), valid.copy(), days.copy()
    out = prepare(values, valid, days, PREPARATIONS[name])
    assert not np.shares_memory(out, values)
    for array, copy in zip((values, valid, days), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_prepare_of_no_pixels():
    for spec in PREPARATIONS.values():
        out = prepare(make_values(8, 0), make_valid("all", 8, 0), irregular_days(8), spec)
        assert out.shape[1:] == (0, len(spec.names))


def test_prepare_wants_the_bands_of_its_spec():
    with pytest.raises(ValueError, match="the 3 bands of the spec; got 2"):
        prepare(make_values(4, 3, 2), make_valid("all", 4, 3, 2), irregular_days(4), PREPARATIONS["plain"])


def test_indices_are_made_before_gaps_are_filled():
    values = np.array([[3.0, 1.0], [0.0, 0.0], [1.0, 1.0]], np.float32)[:, None]
    valid = np.array([[True, True], [True, False], [True, True]])[:, None]
    spec = PreparationSpec(("n", "r"), (0.0, 0.0, 0.0), indices=(IndexSpec("i", "n", "r"),))
    out = prepare(values, valid, np.array([0.0, 1.0, 2.0]), spec)
    assert out[:, 0, 2].tolist() == [0.5, 0.25, 0.0]
    assert out[1, 0].tolist() == [0.0, 1.0, 0.25]


def test_index_needs_both_bands_and_a_sum():
    values = np.array([[3.0, 1.0], [2.0, -2.0], [5.0, 7.0], [1.0, 3.0]], np.float32)
    valid = np.array([[True, True], [True, True], [True, False], [False, True]])
    made, usable = append_indices(values, valid, ("n", "r"), [IndexSpec("i", "n", "r")])
    assert made.dtype == np.float32
    assert made[:, 2].tolist() == [0.5, 0.0, 0.0, 0.0]
    assert usable[:, 2].tolist() == [True, False, False, False]
    np.testing.assert_array_equal(made[:, :2], values)


def test_a_step_is_observed_when_any_band_is():
    valid = np.array([[True, False], [False, False], [True, True]])[:, None]
    observed = count_observed(valid)
    assert observed.dtype == np.int32
    assert observed.tolist() == [2]
    assert count_observed(np.ones((4, 2, 3, 5), bool)).tolist() == [[4, 4, 4]] * 2


def test_observations_outside_the_timeline_do_not_count():
    days = np.array([0.0, 13.0, 26.0, 39.0])
    valid = np.ones((4, 2, 3, 1), bool)
    valid[:2, 0] = False
    assert count_observations(valid, days, None).tolist() == [[2, 2, 2], [4, 4, 4]]
    median = Timeline(0.0, 13.0, 2, method="median")
    assert count_observations(valid, days, median).tolist() == [[0, 0, 0], [2, 2, 2]]
    later = Timeline(500.0, 13.0, 2, method="median")
    assert count_observations(valid, days, later).tolist() == [[0, 0, 0], [0, 0, 0]]
    # Every pixel with its own days: the second one begins 13 days later, a timeline follows each of them.
    own = np.stack([days, days + 13], axis=1)
    seen = np.array([[False, True], [False, False], [True, False], [True, True]])[..., None]
    assert count_observations(seen, own, median).tolist() == [0, 1]
    absolute = Timeline(13.0, 13.0, 2, relative=False, method="median")
    assert count_observations(seen, own, absolute).tolist() == [1, 1]


def test_band_positions_names_what_is_missing():
    assert band_positions(("a", "b", "c"), ("c", "a")) == [2, 0]
    with pytest.raises(DltsError, match="the series has no band x, y; it has a, b"):
        band_positions(("a", "b"), ("a", "x", "y"))
