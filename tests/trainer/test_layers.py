from __future__ import annotations

import keras
import numpy as np
import pytest

from dlts_beam.errors import DltsError
from trainer.layers import Standardise, Statistics, set_statistics


def make_series(samples: int = 50) -> np.ndarray:
    generator = np.random.default_rng(3)
    return generator.normal([1000, 0.3], [200, 0.1], (samples, 4, 3, 3, 2)).astype(np.float32)


def test_as_built_it_changes_nothing() -> None:
    series = make_series()
    np.testing.assert_array_equal(np.asarray(Standardise()(series)), series)


@pytest.mark.parametrize("per_step", [False, True])
def test_values_are_clipped_then_standardised(per_step: bool) -> None:
    series = make_series()
    statistics = Statistics.measure(series)
    layer = Standardise(per_step=per_step)
    layer.build(series.shape)
    layer.set_statistics(statistics)
    clipped = np.clip(series, statistics.lower, statistics.upper)
    mean, scale = statistics.mean, statistics.scale
    if per_step:
        mean, scale = statistics.step_mean[:, None, None], statistics.step_scale[:, None, None]
    np.testing.assert_allclose(np.asarray(layer(series)), (clipped - mean) / scale, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(layer(series)).mean((0, 1, 2, 3)), 0, atol=1e-4)


def test_mixed_precision_keeps_it_in_float32() -> None:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        out = Standardise()(np.full((1, 1, 1, 1, 1), 1e6, np.float32))
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert np.asarray(out).dtype == np.float32
    assert float(np.asarray(out).item()) == 1e6


def test_only_valid_values_count() -> None:
    series = make_series()
    valid = np.ones(series.shape, bool)
    valid[:, 2, ..., 1] = False
    dirty = np.where(valid, series, -9999).astype(np.float32)
    statistics = Statistics.measure(dirty, valid)
    assert statistics.lower[1] > -1
    assert statistics.step_mean[2, 1] == statistics.mean[1]
    assert statistics.step_scale[2, 1] == statistics.scale[1]


def test_constant_and_empty_bands_get_scale_one() -> None:
    series = np.full((5, 2, 1, 1, 2), 7, np.float32)
    valid = np.ones(series.shape, bool)
    valid[..., 1] = False
    statistics = Statistics.measure(series, valid)
    np.testing.assert_array_equal(statistics.mean, [7, 0])
    np.testing.assert_array_equal(statistics.scale, [1, 1])


def test_a_model_without_the_layer_is_refused() -> None:
    model = keras.Sequential([keras.Input((2, 1, 1, 2)), keras.layers.Flatten()])
    with pytest.raises(DltsError, match="no Standardise layer"):
        set_statistics(model, Statistics.measure(make_series()))
