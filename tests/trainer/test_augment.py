from __future__ import annotations

import numpy as np
import tensorflow as tf

from trainer.augment import drop_dates, make_augment, shift_time
from trainer.settings import FitSettings

SEED = tf.constant([2, 7], tf.int64)


def ramp(count: int = 200, steps: int = 6) -> np.ndarray:
    """Series that rise by 1 each step, two bands, patch 3."""
    line = np.arange(steps, dtype=np.float32)[None, :, None, None, None]
    return np.broadcast_to(line, (count, steps, 3, 3, 2)).copy()


def test_nothing_is_changed_unless_asked() -> None:
    assert make_augment(FitSettings(), np.ones(2, np.float32)) is None


def test_dropped_dates_lie_between_their_neighbours() -> None:
    series = ramp()
    changed = np.asarray(drop_dates(tf.constant(series), 0.3, SEED))
    # On a straight line the mean of the neighbours is the value itself; only the ends show the drop.
    np.testing.assert_array_equal(changed[:, 1:-1], series[:, 1:-1])
    assert 0.2 < (changed[:, 0] == 1).mean() < 0.4
    assert 0.2 < (changed[:, -1] == 4).mean() < 0.4
    one = np.ones((4, 1, 1, 1, 1), np.float32)
    np.testing.assert_array_equal(drop_dates(tf.constant(one), 0.9, SEED), one)


def test_shifted_series_hold_their_ends() -> None:
    changed = np.asarray(shift_time(tf.constant(ramp()), 2, SEED))[:, :, 1, 1, 0]
    wanted = [np.clip(np.arange(6) + shift, 0, 5) for shift in range(-2, 3)]
    kinds = [int((changed == one).all(axis=1).sum()) for one in wanted]
    assert sum(kinds) == 200
    assert min(kinds) > 20


def test_jitter_is_measured_in_the_bands_own_spread() -> None:
    augment = make_augment(FitSettings(jitter=0.1), np.array([1, 100], np.float32))
    assert augment is not None
    noise = np.asarray(augment(tf.constant(ramp()), SEED)) - ramp()
    np.testing.assert_allclose(noise.std(axis=(0, 1, 2, 3)), [0.1, 10], rtol=0.05)


def test_the_seed_decides() -> None:
    augment = make_augment(FitSettings(jitter=0.1, time_shift=1, drop_dates=0.2), np.ones(2, np.float32))
    assert augment is not None
    one, same = augment(tf.constant(ramp()), SEED), augment(tf.constant(ramp()), SEED)
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(augment(tf.constant(ramp()), SEED + 1)) != np.asarray(one)).any()
