"""The serving graph of ``conv_bilstm``: both convolutions and the batch norms as linear maps of the strip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dlts_beam.spec import ServingSpec
from trainer.models.shape import ModelShape
from trainer.serving.graph import Graph
from trainer.serving.recurrent import input_weights, unroll_lstm
from trainer.serving.strips import (
    Normalisation,
    Weights,
    affine_of,
    centre_steps,
    centred_strip,
    serving_spec,
)

if TYPE_CHECKING:
    import keras
    import onnx


@dataclass(frozen=True)
class ColumnMap:
    """The folded convolutions for one column of output positions.

    Attributes:
        first, last: the patch columns that it sees, ``last`` included.
        kernel: float64 (columns, D, P, B, P - 2, F), from patch column, date, row and band to row and filter.
    """

    first: int
    last: int
    kernel: Weights


def fold_convolutions(conv1: Weights, conv2: Weights, patch: int) -> list[ColumnMap]:
    """Two convolutions with nothing between them, as one linear map for each output position.

    ``conv1`` (D, 3, 3, B, C) pads a patch with zeros in space, so that positions near its border see another
    kernel than those inside; ``conv2`` (3, 3, C, F) does not pad. What lies between the output row r and the
    patch row i is every pair (u, p) of kernel rows with ``i = r + u + p - 1``; the same holds for columns.

    Returns:
        One map for each of the P - 2 columns of output positions.
    """
    depth, bands, filters = conv1.shape[0], conv1.shape[3], conv2.shape[3]
    # pairs[u, v, d, p, q, b, f]: the product of one kernel position of conv2 and one of conv1.
    pairs = np.einsum("dpqbc,uvcf->uvdpqbf", conv1, conv2, optimize=True)
    maps = []
    for column in range(patch - 2):
        first, last = max(0, column - 1), min(patch - 1, column + 3)
        kernel = np.zeros((last - first + 1, depth, patch, bands, patch - 2, filters))
        for row in range(patch - 2):
            for u, v, p, q in np.ndindex(3, 3, 3, 3):
                i, j = row + u + p - 1, column + v + q - 1
                if 0 <= i < patch and first <= j <= last:
                    kernel[j - first, :, i, :, row, :] += pairs[u, v, :, p, q]
        maps.append(ColumnMap(first, last, kernel))
    return maps


def fold_conv_bilstm(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    """The ONNX model of a trained ``conv_bilstm`` for strips (T, P, batch + P - 1, B).

    The first dense layer is a sum over dates, so neither the concatenation nor the states of all steps are
    kept: each date's filters and hidden states are multiplied by their own rows of its kernel and added up.
    """
    spec = serving_spec(shape, batch)
    graph = Graph()
    normalisation = Normalisation.of(model.get_layer("standardise"))
    strip = centred_strip(graph, normalisation, spec)

    steps, positions = spec.time_steps, spec.patch - 2
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer("dense1").get_weights())
    filters, units = model.get_layer("convolutions").filters, model.get_layer("bilstm").forward_layer.units
    from_conv = kernel[: steps * positions**2 * filters]
    from_conv = from_conv.reshape(steps, positions, positions, filters, -1)
    from_lstm = kernel[steps * positions**2 * filters :].reshape(steps, 2, units, -1)

    total = graph.weights(bias)
    for step, columns in enumerate(_filters(graph, model, strip, normalisation, spec)):
        for column, value in enumerate(columns):
            rows = from_conv[step, :, column].reshape(positions * filters, -1)
            total = graph.add("Gemm", value, graph.weights(rows), total)
    series = centre_steps(graph, strip, spec)
    gain, offset = affine_of(model.get_layer("pixel_norm"))
    bilstm = model.get_layer("bilstm")
    for direction, layer in enumerate((bilstm.forward_layer, bilstm.backward_layer)):
        order = range(steps) if direction == 0 else range(steps - 1, -1, -1)
        inputs, recurrent = input_weights(layer, gain / normalisation.scale, offset)
        states = unroll_lstm(graph, [series[step] for step in order], inputs, recurrent)
        for step, state in zip(order, states, strict=True):
            total = graph.add("Gemm", state, graph.weights(from_lstm[step, direction]), total)

    hidden = graph.dense(graph.add("Relu", total), model.get_layer("dense2"))
    logits = graph.dense(graph.add("Relu", hidden), model.get_layer("probabilities"))
    return graph.finish(graph.add("Softmax", logits, axis=1), spec, "conv_bilstm")


def _filters(
    graph: Graph, model: keras.Model, strip: str, normalisation: Normalisation, spec: ServingSpec
) -> Iterator[list[str]]:
    """The convolution branch: per date, for each column of positions, a value (N, (P - 2) * F), rows first.

    Made date by date, so that the runtime, which keeps the order of the nodes, holds few of them at once.
    """
    weights_of = model.get_layer("convolutions").get_weights()
    conv1, conv1_bias, conv2, conv2_bias = (np.asarray(weight, np.float64) for weight in weights_of)
    gain, offset = affine_of(model.get_layer("conv_norm"))
    bias = gain * (conv2_bias + np.einsum("c,uvcf->f", conv1_bias, conv2[0])) + offset
    # Centred values are divided by the scale here. Zeros that pad in space or time stay zeros.
    conv1 = conv1 / normalisation.scale[:, None]
    maps = fold_convolutions(conv1, conv2[0] * gain, spec.patch)
    positions, depth = spec.patch - 2, conv1.shape[0]
    biases = graph.weights(np.tile(bias, positions))
    kernels = [graph.weights(each.kernel.reshape(-1, positions * bias.size)) for each in maps]

    for date in _dates_side_by_side(graph, strip, depth, spec):
        pixels = [graph.slice(date, 0, column, column + spec.batch) for column in range(spec.patch)]
        columns = []
        for each, weights in zip(maps, kernels, strict=True):
            seen = graph.add("Concat", *pixels[each.first : each.last + 1], axis=1)
            columns.append(graph.add("Relu", graph.add("Gemm", seen, weights, biases)))
        yield columns


def _dates_side_by_side(graph: Graph, strip: str, depth: int, spec: ServingSpec) -> list[str]:
    """For each date, what the ``depth`` dates around it hold per strip column: T values (N + 2h, D * P * B).

    Dates outside the series are zero; of an even number of dates one more lies after than before, as in
    Keras.
    """
    steps, rows, columns, bands = spec.strip_shape
    by_column = graph.reshape(graph.add("Transpose", strip, perm=[0, 2, 1, 3]), steps, columns, rows * bands)
    dates = [graph.reshape(date, columns, rows * bands) for date in graph.split(by_column, steps)]
    nothing = graph.weights(np.zeros((columns, rows * bands)))
    before = (depth - 1) // 2
    around = [nothing] * before + dates + [nothing] * (depth - 1 - before)
    return [graph.add("Concat", *around[step : step + depth], axis=1) for step in range(steps)]
