from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from dlts_beam.spec import Band, Reading
from dlts_beam.tensors.reading import apply_reading, apply_reading_to, dilate, holds, stored_valid


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [
        ("uint8", 3.0, [True, True, False]),
        ("uint8", None, [True, True, True]),
        ("uint8", 259.0, [True, True, True]),
        ("uint8", -9999.0, [True, True, True]),
        ("uint8", 2.5, [True, True, True]),
        ("int16", 3.0, [True, True, False]),
        ("float32", 3.0, [True, True, False]),
        ("float64", 3.0, [True, True, False]),
        ("float64", 2.5, [True, True, True]),
    ],
)
def test_stored_valid(dtype: str, nodata: float | None, expected: list[bool]):
    assert stored_valid(np.array([1, 2, 3], dtype), nodata).tolist() == expected
    assert holds(np.dtype(dtype), nodata) == (
        nodata is not None and nodata in (2.5, 3.0) and (nodata == 3.0 or dtype.startswith("float"))
    )


def test_large_nodata_is_compared_in_the_type_of_the_band():
    stored = np.array([-3.4028235e38, 1.0, np.nan], np.float32)
    assert stored_valid(stored, -3.402823466e38).tolist() == [False, True, False]
    assert stored_valid(np.array([-np.inf, 1.0], np.float32), -1.7e308).tolist() == [False, True]
    assert stored_valid(np.array([-1.7e308, 1.0]), -1.7e308).tolist() == [False, True]


def test_integer_extremes():
    stored = np.array([-(2**63), 0, 2**63 - 1])
    assert stored_valid(stored, float(-(2**63))).tolist() == [False, True, True]


ALL_BANDS = {
    "plain": [Band(1, "a", "int16"), Band(2, "b", "int16")],
    "one scale": [Band(1, "a", "int16", scale=0.0001), Band(2, "b", "int16", scale=0.0001)],
    "scales": [Band(1, "a", "int16", scale=0.0001), Band(2, "b", "int16", scale=-3.0)],
    "offsets": [Band(1, "a", "int16", scale=2.75e-5, offset=-0.2), Band(2, "b", "int16")],
    "huge": [Band(1, "a", "int16", scale=1e36), Band(2, "b", "int16")],
}


@pytest.mark.parametrize("kind", ALL_BANDS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize(
    "reading", [Reading(), Reading(0.0, 0.5), Reading(valid_max=1.0), Reading(valid_min=-1.0)]
)
def test_reading_against_one_value_at_a_time(kind: str, dtype: str, reading: Reading):
    bands = ALL_BANDS[kind]
    random = np.random.default_rng(3)
    stored = random.integers(0 if dtype[0] == "u" else -300, 255, (3, 5, 7, 2)).astype(dtype)
    if dtype[0] == "f":
        stored[0, 0, :4, 0] = [np.nan, np.inf, -np.inf, np.finfo(dtype).max]
    covered = random.random(stored.shape) < 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values, valid = apply_reading(stored, covered, bands, reading)
    assert (values.dtype, valid.dtype) == (np.float32, np.bool_)
    for place in np.ndindex(stored.shape):
        band = bands[place[-1]]
        with np.errstate(all="ignore"):
            value = np.float32(float(stored[place]) * band.scale + band.offset)
        usable = bool(covered[place]) and bool(np.isfinite(value))
        usable &= reading.valid_min is None or value >= np.float32(reading.valid_min)
        usable &= reading.valid_max is None or value <= np.float32(reading.valid_max)
        assert valid[place] == usable
        assert values[place] == (value if usable else 0)


def test_nothing_given_is_changed():
    stored, covered = np.full((2, 2, 1), 900, np.int16), np.ones((2, 2, 1), bool)
    _, valid = apply_reading(stored, covered, [Band(1, "a", "int16")], Reading(valid_max=1.0))
    assert not valid.any()
    assert covered.all()
    assert (stored == 900).all()


@pytest.mark.parametrize("kind", ALL_BANDS)
def test_bits_do_not_depend_on_shape_layout_or_neighbours(kind: str):
    bands = ALL_BANDS[kind]
    random = np.random.default_rng(4)
    stored = random.integers(-3000, 3000, (400, 61, 2)).astype(np.int16)
    covered = random.random(stored.shape) < 0.7
    values, valid = apply_reading(stored, covered, bands, Reading(-0.1, 0.5))
    views = (
        np.s_[7:8, 3:4],
        np.s_[::3, ::2],
        np.s_[::-1],
        np.s_[100:300, 5:50],
    )
    for view in views:
        part_values, part_valid = apply_reading(stored[view], covered[view], bands, Reading(-0.1, 0.5))
        assert part_values.tobytes() == np.ascontiguousarray(values[view]).tobytes()
        assert (part_valid == valid[view]).all()
    fortran = apply_reading(np.asfortranarray(stored), np.asfortranarray(covered), bands, Reading(-0.1, 0.5))
    assert (fortran[0] == values).all()


def test_zeroed_spares_a_pass_only():
    random = np.random.default_rng(5)
    covered = random.random((9, 9, 2)) < 0.5
    stored = np.where(covered, random.integers(1, 99, covered.shape), 0).astype(np.int16)
    for bands in ALL_BANDS.values():
        for reading in (Reading(), Reading(valid_min=0.001)):
            values, valid = np.empty(stored.shape, np.float32), covered.copy()
            apply_reading_to(stored, values, valid, bands, reading, zeroed=True)
            expected = apply_reading(stored, covered, bands, reading)
            assert values.tobytes() == expected[0].tobytes()
            assert (valid == expected[1]).all()


def test_dilation_against_every_pair_of_pixels():
    for seed, reach in itertools.product(range(3), (0, 1, 2, 5)):
        drop = np.random.default_rng(seed).random((6, 8)) < 0.06
        expected = np.zeros(drop.shape, bool)
        for row, col in np.argwhere(drop):
            expected[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1] = True
        np.testing.assert_array_equal(dilate(drop, reach), expected)
