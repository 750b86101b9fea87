"""Summaries of samples against plain numpy, with values that nobody observed among them."""

from __future__ import annotations

import numpy as np
import pytest

from dlts_beam.centres import Centres
from dlts_beam.statistics import LEVELS, Summary

CLASSES, STEPS, BANDS = 3, 4, 2


def centres_of(values: np.ndarray, valid: np.ndarray, class_id: np.ndarray) -> Centres:
    numbers = np.arange(len(values))
    ids = np.array([b"%016x" % number for number in numbers])
    days = np.tile(np.arange(STEPS, dtype=np.float64), (len(values), 1))
    return Centres(ids, class_id, numbers, numbers, numbers, values, valid, days)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_that_one_class_never_saw_is_not_a_number(parts: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((300, STEPS, BANDS), dtype=np.float32)
    class_id = np.arange(300) % CLASSES
    valid = rng.random(values.shape) < 0.8
    valid[class_id == 1, 2] = False  # every sample of a class under cloud at one time step
    whole = Summary(CLASSES, STEPS, BANDS, 300)
    for chosen in np.array_split(np.arange(300), parts):
        one = Summary(CLASSES, STEPS, BANDS, 300)
        one.add(centres_of(values, valid, class_id).take(chosen), 300)
        whole.merge(one)
    found = whole.quantiles()
    assert np.isnan(found[1, 2]).all()
    for each in range(CLASSES):
        for step in range(STEPS):
            for band in range(BANDS):
                seen = values[class_id == each, step, band][valid[class_id == each, step, band]]
                if len(seen):
                    np.testing.assert_allclose(found[each, step, band], np.quantile(seen, LEVELS), atol=0.06)
