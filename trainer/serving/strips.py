"""What every folded graph does first: clip and centre the strip, pick the centre pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dlts_beam.spec import ServingSpec
from trainer.models.shape import ModelShape
from trainer.serving.graph import INPUT, Graph

if TYPE_CHECKING:
    import keras

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Normalisation:
    """The weights of a Standardise layer, float64: bounds (B,), mean and scale (B,) or (T, B)."""

    lower: Weights
    upper: Weights
    mean: Weights
    scale: Weights

    @classmethod
    def of(cls, layer: keras.layers.Layer) -> Normalisation:
        """Reads them from the layer; infinite where there is no bound."""
        lower, upper, mean, scale = (np.asarray(weight, np.float64) for weight in layer.get_weights())
        if mean.ndim > 1:  # (T, 1, 1, B)
            mean, scale = mean[:, 0, 0], scale[:, 0, 0]
        huge = float(np.finfo(np.float32).max)
        return cls(
            np.where(lower <= -huge, -np.inf, lower), np.where(upper >= huge, np.inf, upper), mean, scale
        )


def serving_spec(shape: ModelShape, batch: int) -> ServingSpec:
    """The spec of a serving model of this shape for strips of ``batch`` pixels.

    Raises:
        ValueError: unless ``batch`` is a multiple of 8. Runtimes work on vectors of 8 numbers and treat what
        is
            left over by another code, which may round otherwise: a pixel's answer would depend on its place.
    """
    if batch < 1 or batch % 8:
        raise ValueError(f"the batch of a serving model must be a multiple of 8; got {batch}")
    return ServingSpec(
        batch=batch, halo=shape.halo, time_steps=shape.time_steps, bands=shape.bands, classes=shape.classes
    )


def centred_strip(graph: Graph, normalisation: Normalisation, spec: ServingSpec) -> str:
    """The strip (T, 1 + 2h, N + 2h, B), clipped, minus the mean of each band (or band and time step).

    The division by the scale goes into the weights. The subtraction stays here: the zeros that pad a
    convolution in time stand for the mean, and large means would cost digits in a bias.
    """
    columns = spec.strip_shape[2]

    def wide(values: Weights) -> str:
        # Repeated for all columns: the runtime is slow where it broadcasts over a last axis of few bands.
        repeated = np.broadcast_to(values[..., None, :], (*values.shape[:-1], columns, values.shape[-1]))
        return graph.weights(repeated if values.ndim == 1 else repeated[:, None])

    strip = INPUT
    if np.isfinite(normalisation.lower).any():
        strip = graph.add("Max", strip, wide(np.maximum(normalisation.lower, np.finfo(np.float32).min)))
    if np.isfinite(normalisation.upper).any():
        strip = graph.add("Min", strip, wide(np.minimum(normalisation.upper, np.finfo(np.float32).max)))
    return graph.add("Sub", strip, wide(normalisation.mean))


def centre_steps(graph: Graph, strip: str, spec: ServingSpec) -> list[str]:
    """The centre pixels of each time step with a column of ones: T values of shape (N, B + 1).

    With the ones, a bias is a row of the weights and costs no pass of its own.
    """
    halo, batch, steps = spec.halo, spec.batch, spec.time_steps
    if halo:
        strip = graph.slice(graph.slice(strip, 1, halo, halo + 1), 2, halo, halo + batch)
    pixels = graph.reshape(strip, steps, batch, spec.bands)
    ones = graph.constant(np.ones((steps, batch, 1), np.float32))
    pixels = graph.add("Concat", pixels, ones, axis=2)
    return [graph.reshape(step, batch, spec.bands + 1) for step in graph.split(pixels, steps)]


def affine_of(norm: keras.layers.BatchNormalization) -> tuple[Weights, Weights]:
    """A trained batch norm as gain and offset: gain * x + offset."""
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in norm.get_weights())
    gain = gamma / np.sqrt(variance + norm.epsilon)
    return gain, beta - gain * mean
