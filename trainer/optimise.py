"""Optimizers and learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from trainer.settings import PLATEAU_EPOCHS, PLATEAU_FACTOR, FitSettings


class OneStepAdamW(keras.optimizers.AdamW):
    """Keras' AdamW with one operation for each variable where Keras takes ten."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates the variable and its moments."""
        number = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].value.handle,
            v=self._velocities[number].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def make_optimizer(
    settings: FitSettings, updates: int, replicas: int = 1
) -> keras.optimizers.Optimizer:
    """Nadam, as the parent project trained, or AdamW.

    Keras clips in every replica, before it sums over these: each takes its share of the largest norm. Its
    scaled loss asks the first replica alone whether the gradients are finite: give all of them the mean.
    """
    rate = settings.learning_rate
    if settings.lr_decay == "cosine":
        warm = round(settings.warmup * updates)
        # Keras counts the decay from the end of the warm-up.
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warm else rate,
            decay_steps=max(1, updates - warm),
            warmup_target=rate if warm else None,
            warmup_steps=warm,
        )
    clip = settings.clip_norm / replicas or None
    if settings.optimizer == "nadam":
        optimizer = keras.optimizers.Nadam(rate, global_clipnorm=clip)
    else:
        optimizer = OneStepAdamW(
            rate, weight_decay=settings.weight_decay, beta_2=0.99, global_clipnorm=clip
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # Gradients of float16 would vanish: the loss is scaled up, the gradients down again.
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.mixed_precision else optimizer


def plateau_rate(settings: FitSettings, history: Sequence[Mapping[str, float]], watched: str) -> float:
    """The learning rate after these epochs: halved whenever ``watched`` did not fall for some epochs.

    A function of the history alone, so training that is taken up again goes on as it would have.
    """
    rate, best, waited = settings.learning_rate, float("inf"), 0
    for row in history:
        if row[watched] < best:
            best, waited = row[watched], 0
            continue
        waited += 1
        if waited >= PLATEAU_EPOCHS:
            rate, waited = rate * PLATEAU_FACTOR, 0
    return rate


def is_stopped(settings: FitSettings, history: Sequence[Mapping[str, float]], watched: str) -> bool:
    """Whether early stopping ends the training after these epochs."""
    if not settings.early_stopping or not history:
        return False
    losses = [row[watched] for row in history]
    return len(losses) - 1 - losses.index(min(losses)) >= settings.early_stopping
