"""The training loop: many updates in one call of the graph, on one device or several.

Keras' ``fit`` comes back to Python after every batch, which costs small models more time than their
arithmetic does, and it does not run under ``MultiWorkerMirroredStrategy``. Here the graph goes from batch to
batch by itself for about a second, sums what the history needs, and stops at the first loss that is not
finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from dlts_beam.errors import DltsError
from trainer.augment import Augment
from trainer.devices import Devices
from trainer.feed import FitData, steps_per_epoch, training_feed, validation_batches, validation_feed
from trainer.optimise import make_optimizer
from trainer.progress import assign_all, values_of
from trainer.settings import FitSettings

CALL_SECONDS = 1.0  # Ctrl-C is heard between two calls of the graph


class LossIsNanError(Exception):
    """Training cannot go on.

    Attributes:
        epoch: counted from 1.
        where: in it, such as ``batch 3``.
    """

    def __init__(self, epoch: int, where: str) -> None:
        super().__init__(epoch, where)
        self.epoch, self.where = epoch, where


class DivergedError(DltsError):
    """Training ended in NaN or infinity, and would again: with these settings it does on these samples."""


class Loop:
    """Trains one model, and others that differ from it in nothing but their weights.

    Building the graph takes longer than many a training, so branches of one kind share it: each is trained in
    the place of the first one. XLA is not used: on CPUs it took seconds to compile each branch of
    ``ltae_mlp``, and an update then took three times as long.

    Attributes:
        model: what is trained.
        optimizer: how.
    """

    def __init__(self, model: keras.Model, settings: FitSettings, updates: int, devices: Devices) -> None:
        self.model, self.settings, self.devices = model, settings, devices
        with devices.scope():
            self.optimizer = make_optimizer(settings, updates, devices.replicas)
            self.optimizer.build(model.trainable_variables)
        self._fresh = values_of(self.optimizer.variables)
        self._train = self._make_graph(training=True)
        self._test = self._make_graph(training=False)
        self._call = {True: 1, False: 1}  # steps in one call

    def fits(self, model: keras.Model) -> bool:
        """Whether that model differs in its weights alone."""
        return _kind(model) == _kind(self.model)

    def start(self, model: keras.Model) -> None:
        """Take over the model's weights and random states; the optimizer has seen nothing yet."""
        if model is not self.model:
            assign_all(self.model.variables, values_of(model.variables))
        assign_all(self.optimizer.variables, self._fresh)

    def epochs(
        self, data: FitData, first: int, last: int, seed: int, augment: Augment | None
    ) -> EpochsOfTraining:
        """What `EpochsOfTraining` says, from epoch ``first`` up to, not including, ``last``."""
        return EpochsOfTraining(self, data, first, last, seed, augment)

    def distribute(self, make: Callable[[range | None], tf.data.Dataset]) -> Any:
        """An iterator over a feed for the devices; ``make`` takes the replicas that are this process' own."""
        if self.devices.strategy is None:
            return iter(make(None))
        each = self.devices.replicas // self.devices.workers

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            start = context.input_pipeline_id * each
            return make(range(start, start + each))

        return iter(self.devices.strategy.distribute_datasets_from_function(of_worker))

    def run(self, batches: Any, steps: int, training: bool) -> tuple[dict[str, float], float]:
        """Mean loss and accuracy over so many batches, and the learning rate after them.

        Raises:
            LossIsNanError: with the number of the batch, and epoch 0.
        """
        graph = self._train if training else self._test
        done, sums = 0, tf.zeros(3, tf.float64)
        while True:
            began = time.perf_counter()
            size = min(self._call[training], steps - done)
            went, sums, rate = graph(batches, tf.constant(size), sums)
            done += int(went)
            seconds = time.perf_counter() - began
            # Workers know each other's sums by the number of the step in its call, so all must make the same
            # calls: one for each step, since their clocks differ.
            if seconds > CALL_SECONDS:
                self._call[training] = max(1, size // 2)
            elif seconds < CALL_SECONDS / 4 and self.devices.workers == 1:
                self._call[training] = max(2 * size, self._call[training])
            if not math.isfinite(float(sums[0])):
                raise LossIsNanError(0, f"batch {done}")
            if done == steps:
                loss, hits, count = (float(value) for value in sums)
                return {"loss": loss / count, "accuracy": hits / count}, float(rate)

    def average_moving(self) -> None:
        """Give all replicas the mean of what each measured: the moving statistics of normalisation layers."""
        strategy = self.devices.strategy
        if self.devices.replicas == 1:
            return
        for variable in self.model.non_trainable_weights:
            if "float" in variable.dtype:
                own = strategy.run(lambda one=variable: tf.identity(one.value))
                variable.assign(strategy.reduce(tf.distribute.ReduceOp.MEAN, own, axis=None))

    def _make_graph(self, training: bool) -> Any:
        """A function of (iterator, steps, sums) that gives (steps done, sums, learning rate).

        The sums are those of the loss, of the right answers and of the samples, over all replicas.
        """
        smoothing = self.settings.label_smoothing
        losses = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing, reduction=None)
        model, optimizer, devices = self.model, self.optimizer, self.devices
        trained = model.trainable_variables
        needs_mean = self.settings.clip_norm > 0 or self.settings.mixed_precision
        averages_first = needs_mean and devices.replicas > 1

        def replica(series: tf.Tensor, one_hot: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            size = tf.cast(tf.shape(series)[0], tf.float32)
            with tf.GradientTape() as tape:
                probabilities = model(series, training=training)
                total = tf.reduce_sum(losses(one_hot, probabilities) * weights)
                scaled = optimizer.scale_loss(total / (size * devices.replicas))
            if training:
                gradients = tape.gradient(scaled, trained)
                if averages_first:
                    # Each replica clips the same mean to its share, so that their sum is the clipped sum, and
                    # all skip an update whose gradients overflow anywhere: Keras asks the first one alone.
                    together = tf.distribute.get_replica_context()
                    gradients = together.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
                optimizer.apply(gradients, trained)
            right = tf.argmax(probabilities, -1) == tf.argmax(one_hot, -1)
            return tf.cast(tf.stack([total, tf.reduce_sum(tf.cast(right, tf.float32)), size]), tf.float64)

        def of_batch(batch: Any) -> tf.Tensor:
            if devices.strategy is None:
                return replica(*batch)
            found = devices.strategy.run(replica, args=batch)
            return devices.strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None)

        @tf.function(autograph=False)
        def graph(batches: Any, steps: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            done, sums = tf.while_loop(
                lambda number, so_far: (number < steps) & tf.math.is_finite(so_far[0]),
                lambda number, so_far: (number + 1, so_far + of_batch(next(batches))),
                (tf.constant(0), sums),
                parallel_iterations=1,
            )
            with tf.control_dependencies([done]):
                rate = tf.identity(optimizer.learning_rate)
            return done, sums, rate

        return graph


class EpochsOfTraining:
    """Runs one epoch after another; each gives its row of the history."""

    def __init__(
        self, loop: Loop, data: FitData, first: int, last: int, seed: int, augment: Augment | None
    ) -> None:
        size, replicas = loop.settings.batch_size, loop.devices.replicas
        self.loop, self.next = loop, first
        self.steps, self.tests = steps_per_epoch(data, size, replicas), validation_batches(data, replicas)
        self.batches = loop.distribute(
            lambda pieces: training_feed(data, seed, size, first, last, augment, replicas, pieces)
        )
        if self.tests:
            self.validation = loop.distribute(
                lambda pieces: validation_feed(data, replicas, pieces).repeat()
            )

    def run(self) -> dict[str, float]:
        """``loss``, ``accuracy``, ``learning_rate``, and ``val_loss`` and ``val_accuracy`` with a split.

        Raises:
            LossIsNanError: the loss is not finite.
        """
        self.next += 1
        try:
            found, rate = self.loop.run(self.batches, self.steps, training=True)
        except LossIsNanError as stop:
            raise LossIsNanError(self.next, stop.where) from None
        self.loop.average_moving()
        if self.tests:
            try:
                measured, _ = self.loop.run(self.validation, self.tests, training=False)
            except LossIsNanError:
                raise LossIsNanError(self.next, "the validation split") from None
            found |= {f"val_{name}": value for name, value in measured.items()}
        return {**found, "learning_rate": rate}


def _kind(model: keras.Model) -> dict[str, Any]:
    return {**model.get_config(), "name": None}
