from __future__ import annotations

import numpy as np
import pytest

from dlts_beam.postprocess import LEVELS, label_pixels, map_values, quantise
from dlts_beam.spec import ClassRow, ClassTable


def make_table(*values: int) -> ClassTable:
    return ClassTable(tuple(ClassRow(k, value, f"c{k}", "#000000") for k, value in enumerate(values)))


def test_quantised_probabilities_are_levels():
    probabilities = np.array([[0.0, 1.0], [0.5, 0.25]], np.float32)
    quantised = quantise(probabilities)
    assert quantised.dtype == np.uint16
    assert quantised.tolist() == [[0, LEVELS], [LEVELS // 2, round(LEVELS / 4)]]


def test_every_level_survives_its_own_round_trip():
    levels = np.arange(LEVELS + 1)
    assert (quantise((levels / LEVELS).astype(np.float32)) == levels).all()


def test_order_is_kept():
    probabilities = np.sort(np.random.default_rng(0).random(1000).astype(np.float32))
    assert (np.diff(quantise(probabilities).astype(int)) >= 0).all()


def test_rounding_errors_of_a_softmax_are_taken():
    assert quantise(np.array([-1e-7, 1 + 5e-7], np.float32)).tolist() == [0, LEVELS]


@pytest.mark.parametrize("bad", [np.nan, -0.01, 1.01, np.inf])
def test_what_is_no_probability_is_refused(bad: float):
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1 and not be NaN"):
        quantise(np.array([0.5, bad], np.float32))


def test_ties_go_to_the_lowest_id():
    """Also ties that only quantisation makes: a difference below a level is luck."""
    assert label_pixels(quantise(np.array([[0.25, 0.5, 0.25], [0.2, 0.4, 0.4]], np.float32))).tolist() == [
        1,
        1,
    ]
    nearly = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)
    assert nearly[1] > nearly[0]
    assert label_pixels(quantise(nearly)) == 0


def test_no_probability_is_rounded_before_argmax():
    assert label_pixels(quantise(np.array([0.3, 0.4, 0.3], np.float32))) == 1


def test_map_holds_the_users_values_and_nodata():
    ids, labelled = np.array([[0, 1], [2, 0]]), np.array([[True, True], [True, False]])
    values = map_values(ids, labelled, make_table(7, 0, 254))
    assert values.dtype == np.uint8
    assert values.tolist() == [[7, 0], [254, 255]]
    wide = map_values(ids, labelled, make_table(7, 0, 255))
    assert wide.dtype == np.uint16
    assert wide.tolist() == [[7, 0], [255, 65535]]
