"""From arrays to the device: batches by tf.data, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

EVALUATION_BATCH = 256


@dataclass(frozen=True, eq=False)
class FitData:
    """All that training reads.

    Attributes:
        series: float32 (n, T, P, P, B), prepared; an array or a mapped scratch file.
        class_ids: int64 (n,).
        classes: K.
        training, validation: places in ``series``, ascending; validation may be empty.
        weights: float32 (n,), weight of each sample in the loss.
    """

    series: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    classes: int
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    weights: NDArray[np.float32]


def steps_per_epoch(data: FitData, batch_size: int) -> int:
    """Batches in one epoch, the last and smaller one included."""
    return -(-len(data.training) // batch_size)


def training_feed(
    data: FitData, seed: int, batch_size: int, first_epoch: int, epochs: int
) -> tf.data.Dataset:
    """Batches (series, one-hot classes, weights) of all epochs from ``first_epoch`` on, one after another.

    Every epoch is a new permutation made from the seed and the epoch's number, so training that is taken up
    at epoch 7 sees what an uninterrupted one would have seen.
    """
    places = tf.constant(data.training)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            places, tf.stack([tf.constant(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(of_epoch)
    return _with_series(batches, data)


def validation_feed(data: FitData) -> tf.data.Dataset | None:
    """Batches of the validation split in order; None where it is empty."""
    if not len(data.validation):
        return None
    return _with_series(tf.data.Dataset.from_tensor_slices(data.validation).batch(EVALUATION_BATCH), data)


def _with_series(batches: tf.data.Dataset, data: FitData) -> tf.data.Dataset:
    shape = data.series.shape[1:]
    in_memory = not isinstance(data.series, np.memmap)
    # Kept off the accelerator: batches travel there, not the whole set.
    with tf.device("CPU"):
        one_hot = tf.one_hot(tf.constant(data.class_ids), data.classes)
        weights = tf.constant(data.weights)
        series = tf.constant(data.series) if in_memory else None

    def read(places: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(data.series[places])

    def look_up(places: tf.Tensor) -> tuple[Any, Any, Any]:
        if series is not None:
            found = tf.gather(series, places)
        else:
            found = tf.ensure_shape(tf.numpy_function(read, [places], tf.float32), (None, *shape))
        return found, tf.gather(one_hot, places), tf.gather(weights, places)

    options = tf.data.Options()
    # The batches are made the same on every replica's behalf; there are no files to share out.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.deterministic = True
    return batches.map(look_up, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE).with_options(options)
