"""Training by several processes, on one machine or many, that share each batch.

Keras' own ``fit`` does not run under ``MultiWorkerMirroredStrategy``, so this is a loop of our own. Every
worker makes all batches and takes its share of each, so the samples of an update are those that one device
would have had, and every worker holds the same weights at all times.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from dlts_beam.errors import DltsError
from trainer.augment import Augment
from trainer.devices import Devices
from trainer.feed import FitData, steps_per_epoch, training_feed, validation_feed
from trainer.settings import FitSettings

if TYPE_CHECKING:
    from trainer.fit import Keeper


class LossIsNanError(Exception):
    """Training cannot go on; epoch and batch count from 1."""

    def __init__(self, epoch: int, batch: int | None) -> None:
        super().__init__(epoch, batch)
        self.epoch, self.batch = epoch, batch


def fit_with_workers(
    branch: keras.Model,
    data: FitData,
    settings: FitSettings,
    keeper: Keeper,
    devices: Devices,
    seed: int,
    augment: Augment | None,
    log_folder: str,
) -> None:
    """Train the compiled branch from the end of its history on; ``keeper`` hears of every epoch.

    Raises:
        LossIsNanError: the loss is not finite.
        DltsError: another worker was lost.
    """
    first = len(keeper.progress.history)
    steps = steps_per_epoch(data, settings.batch_size, devices.replicas)
    each = devices.replicas // devices.workers

    def train_feed(context: tf.distribute.InputContext) -> tf.data.Dataset:
        start = context.input_pipeline_id * each
        pieces = range(start, start + each)
        return training_feed(
            data, seed, settings.batch_size, first, keeper.epochs, augment, devices.replicas, pieces
        )

    step = _make_step(branch, settings, devices, training=True)
    test = _make_step(branch, settings, devices, training=False)
    batches = iter(devices.strategy.distribute_datasets_from_function(train_feed))
    writer = (
        tf.summary.create_file_writer(log_folder) if devices.is_chief else tf.summary.create_noop_writer()
    )
    keeper.set_model(branch)
    try:
        for epoch in range(first, keeper.epochs):
            keeper.on_epoch_begin(epoch)
            logs = _epoch(step, (next(batches) for _ in range(steps)), epoch)
            _average_moving(branch, devices)
            if len(data.validation):
                # Every worker measures the whole split: it is small, and nothing need be gathered.
                whole = devices.strategy.distribute_datasets_from_function(lambda _: validation_feed(data))
                measured = _epoch(test, whole, epoch)
                logs |= {f"val_{name}": value for name, value in measured.items()}
            keeper.on_epoch_end(epoch, logs)
            with writer.as_default():
                for name, value in logs.items():
                    tf.summary.scalar(f"epoch_{name}", value, step=epoch)
            if branch.stop_training:
                return
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise _lost(error) from error
    except tf.errors.InternalError as error:
        if "ollective" not in str(error):
            raise
        raise _lost(error) from error


def _average_moving(branch: keras.Model, devices: Devices) -> None:
    """Give all workers the mean of what each measured: the moving statistics of normalisation layers."""
    for variable in branch.non_trainable_weights:
        if "float" in variable.dtype:
            own = devices.strategy.run(lambda one=variable: tf.identity(one.value))
            variable.assign(devices.strategy.reduce(tf.distribute.ReduceOp.MEAN, own, axis=None))


def _no_writer(_: str) -> Any:
    return tf.summary.create_noop_writer()


def _lost(error: tf.errors.OpError) -> DltsError:
    reason = str(error.message).strip().partition("\n")[0]
    return DltsError(
        f"another worker was lost ({reason[:200]}): start all workers again with the same command, and the "
        "training goes on after the last checkpoint"
    )


def _epoch(step: Any, batches: Iterable[Any], epoch: int) -> dict[str, float]:
    """Mean loss and accuracy over batches."""
    loss, hits, count = 0.0, 0.0, 0.0
    for number, batch in enumerate(batches, start=1):
        sums = [float(value) for value in step(batch)]
        if not math.isfinite(sums[0]):
            raise LossIsNanError(epoch + 1, number)
        loss, hits, count = loss + sums[0], hits + sums[1], count + sums[2]
    return {"loss": loss / count, "accuracy": hits / count}


def _make_step(branch: keras.Model, settings: FitSettings, devices: Devices, training: bool) -> Any:
    """A function of a distributed batch: sums of loss, right answers and samples over all replicas."""
    losses = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing, reduction=None)

    def replica(series: tf.Tensor, one_hot: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        size = tf.cast(tf.shape(series)[0], tf.float32)
        with tf.GradientTape() as tape:
            probabilities = branch(series, training=training)
            total = tf.reduce_sum(losses(one_hot, probabilities) * weights)
            share = total / (size * devices.replicas)
        if training:
            gradients = tape.gradient(share, branch.trainable_variables)
            branch.optimizer.apply_gradients(zip(gradients, branch.trainable_variables, strict=True))
        right = tf.argmax(probabilities, -1) == tf.argmax(one_hot, -1)
        return total, tf.reduce_sum(tf.cast(right, tf.float32)), size

    @tf.function
    def step(batch: Any) -> list[tf.Tensor]:
        sums = devices.strategy.run(replica, args=batch)
        return [devices.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in sums]

    return step


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of all weights: workers that trained together must agree on it."""
    parts = hashlib.sha256()
    for weights in model.get_weights():
        parts.update(np.ascontiguousarray(weights).tobytes())
    return parts.hexdigest()
