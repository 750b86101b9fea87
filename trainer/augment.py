"""Mild changes of training series, so that a model does not learn them by heart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.settings import FitSettings

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def make_augment(settings: FitSettings, scale: NDArray[np.float32]) -> Augment | None:
    """A function of a batch (n, T, P, P, B) in physical units and a seed (2,); None where none is asked for.

    Args:
        settings: ``drop_dates``, ``time_shift`` and ``jitter``, applied in this order.
        scale: float32 (B,), standard deviations of the bands.

    The same seed gives the same changes, so training that is taken up again sees the same series.
    """
    if not settings.augments:
        return None

    def augment(series: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seeds = tf.unstack(tf.random.split(seed, 3))
        if settings.drop_dates:
            series = drop_dates(series, settings.drop_dates, seeds[0])
        if settings.time_shift:
            series = shift_time(series, settings.time_shift, seeds[1])
        if settings.jitter:
            noise = tf.random.stateless_normal(tf.shape(series), seeds[2])
            series = series + noise * (settings.jitter * scale)
        return series

    return augment


def drop_dates(series: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Replace dates by the mean of the dates before and after; at the ends by the neighbour."""
    if series.shape[1] == 1:
        return series
    before = tf.concat([series[:, 1:2], series[:, :-1]], axis=1)
    after = tf.concat([series[:, 1:], series[:, -2:-1]], axis=1)
    chosen = tf.random.stateless_uniform(tf.shape(series)[:2], seed) < probability
    return tf.where(chosen[:, :, None, None, None], (before + after) / 2, series)


def shift_time(series: tf.Tensor, most: int, seed: tf.Tensor) -> tf.Tensor:
    """Shift each series by -most to most time steps; its ends are held."""
    count, steps = tf.shape(series)[0], series.shape[1]
    shift = tf.random.stateless_uniform((count, 1), seed, -most, most + 1, tf.int32)
    places = tf.clip_by_value(tf.range(steps)[None, :] + shift, 0, steps - 1)
    return tf.gather(series, places, batch_dims=1)
