"""Keras layers of our own, each registered so that safe loading finds it.

Import this module before loading a saved model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from dlts_beam.errors import DltsError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Statistics:
    """What normalisation needs to know, measured on the training split alone.

    Attributes:
        lower, upper: float32 (B,), values outside are clipped; infinite where there is no bound.
        mean, scale: float32 (B,), of the clipped values; scale is positive.
        step_mean, step_scale: float32 (T, B), the same per time step.
    """

    lower: Array
    upper: Array
    mean: Array
    scale: Array
    step_mean: Array
    step_scale: Array

    @classmethod
    def measure(
        cls,
        series: ArrayLike,
        valid: ArrayLike | None = None,
        percentiles: tuple[float, float] | None = (0.5, 99.5),
    ) -> Statistics:
        """Statistics of prepared training series.

        Args:
            series: float (n, T, P, P, B), in physical units.
            valid: bool of the same shape; only valid values count, and all of them by default. A band without
                any valid value gets mean 0 and scale 1.
            percentiles: where to clip each band; None for no clipping.

        The scale is a standard deviation, 1 where a band is constant; per time step it is at least 5 % of the
        band's, so that a date without spread does not blow up noise.

        Raises:
            DltsError: if there is no series.
        """
        values = np.asarray(series, np.float64)
        if values.ndim != 5 or not values.shape[0]:
            raise DltsError(
                f"statistics need series of shape (n, T, P, P, B) with n of at least 1; got {values.shape}"
            )
        used = np.ones(values.shape, bool) if valid is None else np.asarray(valid, bool)
        used = used & np.isfinite(values)
        steps, bands = values.shape[1], values.shape[4]
        lower, upper = np.full(bands, -np.inf), np.full(bands, np.inf)
        mean, scale = np.zeros(bands), np.ones(bands)
        step_mean, step_scale = np.zeros((steps, bands)), np.ones((steps, bands))
        for band in range(bands):
            band_used = used[..., band]
            kept = values[..., band][band_used]
            if kept.size and percentiles is not None:
                lower[band], upper[band] = np.percentile(kept, percentiles)
            clipped = np.clip(values[..., band], lower[band], upper[band])
            mean[band], scale[band] = _mean_and_scale(clipped[band_used], 0.0, 1.0)
            for step in range(steps):
                at_step = clipped[:, step][band_used[:, step]]
                middle, spread = _mean_and_scale(at_step, mean[band], scale[band])
                step_mean[step, band], step_scale[step, band] = middle, max(spread, 0.05 * scale[band])
        single = [np.asarray(part, np.float32) for part in (lower, upper, mean, scale, step_mean, step_scale)]
        return cls(*single)


def _mean_and_scale(values: NDArray[np.float64], mean: float, scale: float) -> tuple[float, float]:
    """Mean and standard deviation; the given ones where there are no values, scale 1 where they are equal."""
    if not values.size:
        return mean, scale
    spread = float(values.std())
    return float(values.mean()), spread if spread > 1e-12 * max(1.0, abs(float(values.mean()))) else 1.0


@keras.saving.register_keras_serializable(package="dlts_beam")
class Standardise(keras.layers.Layer):
    """Clip each band, subtract its mean, divide by its scale.

    Takes and gives ``(..., T, P, P, B)``, float32 in any precision policy, because physical units do not fit
    float16. The statistics are weights that are not trained, so they travel with the model.

    Args:
        per_step: whether mean and scale are per time step and band, or per band.
    """

    def __init__(self, per_step: bool = False, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(trainable=False, **kwargs)
        self.per_step = bool(per_step)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights; as built they change nothing."""
        steps, bands = input_shape[1], input_shape[-1]
        wide = (steps, 1, 1, bands) if self.per_step else (bands,)
        huge = float(np.finfo(np.float32).max)
        weights = (
            ("lower", (bands,), -huge),
            ("upper", (bands,), huge),
            ("mean", wide, 0.0),
            ("scale", wide, 1.0),
        )
        for name, shape, value in weights:
            fill = keras.initializers.Constant(value)
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer=fill, trainable=False))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """float32 standardised values, of the inputs' shape."""
        clipped = ops.minimum(ops.maximum(inputs, self.lower), self.upper)
        return (clipped - self.mean) / self.scale

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The inputs' shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The layer's settings; its statistics are weights."""
        config = super().get_config()
        config.pop("trainable", None)
        config.pop("dtype", None)
        return {**config, "per_step": self.per_step}

    def set_statistics(self, statistics: Statistics) -> None:
        """Takes the statistics over; infinite bounds become the largest float32."""
        huge = np.finfo(np.float32).max
        mean, scale = statistics.mean, statistics.scale
        if self.per_step:
            mean, scale = statistics.step_mean[:, None, None, :], statistics.step_scale[:, None, None, :]
        lower = np.clip(statistics.lower, -huge, huge)
        upper = np.clip(statistics.upper, -huge, huge)
        self.set_weights([lower, upper, mean, scale])


def set_statistics(model: keras.Model, statistics: Statistics) -> None:
    """Gives the statistics to every Standardise layer of a model, nested models included.

    Raises:
        DltsError: if the model has no such layer.
    """
    found = [layer for layer in model._flatten_layers() if isinstance(layer, Standardise)]
    if not found:
        raise DltsError(
            f"the model {model.name} has no Standardise layer, so its inputs cannot be normalised"
        )
    for layer in found:
        layer.set_statistics(statistics)


@keras.saving.register_keras_serializable(package="dlts_beam")
class WithDifferences(keras.layers.Layer):
    """Puts the change since the time step before beside each value: (batch, T, C) to (batch, T, 2C).

    The first step has no step before it; its change is 0.
    """

    def call(self, inputs: Any) -> Any:
        """(batch, T, C) to (batch, T, 2C)."""
        before = ops.concatenate([inputs[:, :1], inputs[:, :-1]], axis=1)
        return ops.concatenate([inputs, inputs - before], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Twice the channels."""
        return (*input_shape[:-1], 2 * int(input_shape[-1] or 0))


@keras.saving.register_keras_serializable(package="dlts_beam")
class AddDays(keras.layers.Layer):
    """Adds sine and cosine of each step's day, at wavelengths from 2 pi to 2 pi times ``base`` days.

    Args:
        days: days since the first time step, one for each step.
        base: the longest wavelength divided by 2 pi.
    """

    def __init__(self, days: tuple[float, ...], base: float = 1000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.days = tuple(float(day) for day in days)
        self.base = float(base)

    def encoding(self, channels: int) -> Array:
        """What is added: float32 (T, channels), sines in the even channels, cosines in the odd ones."""
        wave = self.base ** (-2 * np.arange(channels // 2) / channels)
        angle = np.asarray(self.days)[:, None] * wave
        return (
            np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(len(self.days), -1).astype(np.float32)
        )

    def call(self, inputs: Any) -> Any:
        """(batch, T, C) of the same shape; C is even."""
        return inputs + ops.convert_to_tensor(self.encoding(inputs.shape[-1]), dtype=inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The inputs' shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "days": list(self.days), "base": self.base}


@keras.saving.register_keras_serializable(package="dlts_beam")
class HeadAverage(keras.layers.Layer):
    """Each head averages its own channels over time: (batch, T, C) and attention (batch, T, H) to (batch, C).

    Channels h * C / H to (h + 1) * C / H belong to head h.
    """

    def call(self, inputs: list[Any]) -> Any:
        """[(batch, T, C), (batch, T, H)] to (batch, C)."""
        values, attention = inputs
        steps, channels, heads = values.shape[1], values.shape[2], attention.shape[2]
        by_head = ops.reshape(values, (-1, steps, heads, channels // heads))
        return ops.reshape(ops.einsum("nthc,nth->nhc", by_head, attention), (-1, channels))

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """(batch, C)."""
        return (input_shape[0][0], input_shape[0][2])


@keras.saving.register_keras_serializable(package="dlts_beam")
class Trees(keras.layers.Layer):
    """Mean, over decision trees, of the shares of the classes in a series' leaf: (batch, F) to (batch, K).

    Every tree is laid out as a full binary tree: split n is followed by split 2n + 1, for values up to its
    threshold, or by 2n + 2. Where a tree has no split, the layout has one that every value passes to the
    left. Features, thresholds and shares are weights that are not trained by gradients, so they travel with
    the model; as built, every share is the same. Compares the values as they come, in float32 in any
    precision policy, so that every engine takes the same branches.

    Args:
        trees: how many.
        depth: of the longest path; every tree has room for 2 ** depth leaves.
        classes: K.
    """

    def __init__(self, trees: int, depth: int, classes: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(trainable=False, **kwargs)
        self.trees, self.depth, self.classes = int(trees), int(depth), int(classes)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights."""
        splits, leaves = (self.trees, 2**self.depth - 1), (self.trees, 2**self.depth, self.classes)
        highest = keras.initializers.Constant(float(np.finfo(np.float32).max))
        even = keras.initializers.Constant(1 / self.classes)
        # Whole numbers as float32: TensorFlow keeps no int32 variables on GPUs.
        self.feature = self.add_weight(name="feature", shape=splits, initializer="zeros", trainable=False)
        self.threshold = self.add_weight(name="threshold", shape=splits, initializer=highest, trainable=False)
        self.share = self.add_weight(name="share", shape=leaves, initializer=even, trainable=False)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """(batch, F) to float32 (batch, K)."""
        splits, leaves = 2**self.depth - 1, 2**self.depth
        tree = ops.arange(self.trees, dtype="int32")[None]
        feature = ops.cast(ops.reshape(self.feature, (-1,)), "int32")
        threshold = ops.reshape(self.threshold, (-1,))
        place = ops.zeros_like(inputs[:, :1], dtype="int32") + ops.zeros_like(tree)
        for _ in range(self.depth):
            at = place + tree * splits
            seen = ops.take_along_axis(inputs, ops.take(feature, at), axis=1)
            place = 2 * place + 1 + ops.cast(seen > ops.take(threshold, at), "int32")
        shares = ops.reshape(self.share, (-1, self.classes))
        return ops.mean(ops.take(shares, place - splits + tree * leaves, axis=0), axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, K)."""
        return (input_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings; its splits and leaves are weights."""
        config = super().get_config()
        config.pop("trainable", None)
        config.pop("dtype", None)
        return {**config, "trees": self.trees, "depth": self.depth, "classes": self.classes}
