"""From arrays to the device: batches by tf.data, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.augment import Augment

EVALUATION_BATCH = 256
_EPOCH_STRIDE = 2**32  # more batches than any epoch has


@dataclass(frozen=True, eq=False)
class FitData:
    """All that training reads.

    Attributes:
        series: float32 (n, T, P, P, B), prepared; an array or a mapped scratch file.
        class_ids: int64 (n,).
        classes: K.
        training, validation: places in ``series``, ascending; validation may be empty.
        weights: float32 (n,), weight of each sample in the training loss.
        scale: float32 (B,), standard deviations of the bands in the training split.
    """

    series: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    classes: int
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    weights: NDArray[np.float32]
    scale: NDArray[np.float32]


def steps_per_epoch(data: FitData, batch_size: int, replicas: int = 1) -> int:
    """Batches in one epoch; their sizes differ by one sample (of each replica) at most."""
    count = len(data.training) // replicas * replicas
    return -(-count // batch_size)


def training_feed(
    data: FitData,
    seed: int,
    batch_size: int,
    first_epoch: int,
    epochs: int,
    augment: Augment | None = None,
    replicas: int = 1,
    pieces: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Batches (series, one-hot classes, weights) of all epochs from ``first_epoch`` on, one after another.

    Every epoch is a new permutation made from the seed and the epoch's number, so training that is taken up
    at epoch 7 sees what an uninterrupted one would have seen. Its samples are dealt out evenly: a last batch
    of the one or two that are left over would have no spread of its own, and ruin batch normalisation. For
    several replicas, an epoch leaves out the few samples that cannot be shared out evenly; they are others
    each time. With ``pieces``, each batch is cut into one part per replica, and only the parts of these
    replicas come, one after another.
    """
    places = tf.constant(data.training)
    shares = len(data.training) // replicas  # samples of one replica
    count, steps = shares * replicas, steps_per_epoch(data, batch_size, replicas)
    bounds = tf.constant([number * shares // steps * replicas for number in range(steps + 1)], tf.int64)

    look_up = _look_up(data, data.weights)

    def example(batch: tf.Tensor, number: tf.Tensor) -> tuple[Any, Any, Any]:
        series, one_hot, weights = look_up(batch)
        if augment is not None:
            series = augment(series, tf.stack([tf.constant(seed, tf.int64), number]))
        return series, one_hot, weights

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        pair = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(places, pair)[:count]

        def batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return order[bounds[number] : bounds[number + 1]], epoch * _EPOCH_STRIDE + number

        numbers = tf.data.Dataset.range(steps)
        if pieces is None:
            # Each further step of tf.data would cost a few per cent of a small model's batch.
            return numbers.map(lambda number: example(*batch(number)), num_parallel_calls=2)
        return _cut_up(numbers.map(batch), replicas, pieces).map(example, num_parallel_calls=2)

    return _finish(tf.data.Dataset.range(first_epoch, epochs).flat_map(of_epoch))


def validation_batches(data: FitData, replicas: int = 1) -> int:
    """Batches in the validation split; 0 where it is empty."""
    return -(-len(data.validation) // (EVALUATION_BATCH * replicas))


def validation_feed(
    data: FitData, replicas: int = 1, pieces: Sequence[int] | None = None
) -> tf.data.Dataset:
    """Batches (series, one-hot classes, weights of 1) of the validation split, once and in order.

    They are dealt out evenly, so that with ``pieces``, as in `training_feed`, no piece is empty; where there
    are fewer samples than replicas, each comes once for every replica, which leaves their mean as it is.
    """
    validation = data.validation
    if len(validation) < replicas:
        validation = np.tile(validation, replicas)
    places, count = tf.constant(validation), len(validation)
    steps = validation_batches(data, replicas)
    bounds = tf.constant([number * count // steps for number in range(steps + 1)], tf.int64)
    numbers = tf.data.Dataset.range(steps)
    batches = numbers.map(lambda number: (places[bounds[number] : bounds[number + 1]], number))
    numbered = _cut_up(batches, replicas, pieces)
    look_up = _look_up(data, np.ones(len(data.class_ids), np.float32))
    return _finish(numbered.map(lambda batch, _: look_up(batch), num_parallel_calls=2))


def _cut_up(numbered: tf.data.Dataset, replicas: int, pieces: Sequence[int] | None) -> tf.data.Dataset:
    """Batches (places, number), each cut into one part per replica; only the ``pieces`` come."""
    if pieces is None:
        return numbered

    def cut(batch: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        parts = [(batch[piece::replicas], number * replicas + piece) for piece in pieces]
        cut_up = tf.data.Dataset.from_tensors(parts[0])
        for part in parts[1:]:
            cut_up = cut_up.concatenate(tf.data.Dataset.from_tensors(part))
        return cut_up

    return numbered.flat_map(cut)


def _look_up(data: FitData, sample_weights: NDArray[np.float32]) -> Any:
    """A function from places to (series, one-hot classes, weights)."""
    shape = data.series.shape[1:]
    # Kept off the accelerator: batches travel there, not the whole set.
    with tf.device("CPU"):
        one_hot = tf.one_hot(tf.constant(data.class_ids), data.classes)
        weights = tf.constant(sample_weights)
        series = None if isinstance(data.series, np.memmap) else tf.constant(data.series)

    def read(places: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(data.series[places])

    def look_up(places: tf.Tensor) -> tuple[Any, Any, Any]:
        if series is not None:
            found = tf.gather(series, places)
        else:
            found = tf.ensure_shape(tf.numpy_function(read, [places], tf.float32), (None, *shape))
        return found, tf.gather(one_hot, places), tf.gather(weights, places)

    return look_up


def _finish(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Every worker makes all batches and takes its share of each; there are no files to share out.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.deterministic = True
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
