"""The serving graphs of ``ltae``, ``mlp`` and their averages, with or without a forest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlts_beam.spec import ServingSpec
from trainer.forest import is_forest
from trainer.models.shape import ModelShape
from trainer.serving.forest import forest
from trainer.serving.graph import INPUT, Graph
from trainer.serving.strips import Normalisation, Weights, affine_of, serving_spec

if TYPE_CHECKING:
    import keras
    import onnx


def fold_branches(
    model: keras.Model, shape: ModelShape, batch: int, forest_share: float = 0.0
) -> onnx.ModelProto:
    """The ONNX model of a trained ``ltae``, ``mlp`` or mean of them for strips (T, 1, batch, B).

    Args:
        model: the trained model.
        shape: what it was built for.
        batch: pixels in a strip.
        forest_share: what the branch with the trees counts in the mean; all others count alike.
    """
    from trainer.models import branches_of

    spec = serving_spec(shape, batch)
    graph = Graph()
    answers, forests = [], []
    for branch in branches_of(model):
        if is_forest(branch):
            pixels = _pixels(graph, spec)
            forests.append(forest(graph, pixels, branch.get_layer("trees"), spec, forest_share))
            continue
        logits = (_ltae if branch.name.startswith("ltae") else _mlp)(graph, branch, spec)
        answers.append(graph.add("Softmax", logits, axis=1))
    mean = answers[0]
    for answer in answers[1:]:
        mean = graph.add("Add", mean, answer)
    if len(answers) > 1 or forests:
        each = (1 - forest_share) / len(answers)
        mean = graph.add("Mul", mean, graph.weights(np.array(each)))
    for answer in forests:
        mean = graph.add("Add", mean, answer)
    return graph.finish(mean, spec, model.name)


def _pixels(graph: Graph, spec: ServingSpec) -> str:
    """The pixels of a strip, as (N, B * T).

    Bands come first, because (T, N * B) to (N * B, T) is a plain transposition, for which the runtime has
    fast code; it takes ten times longer to bring pixels to the front and keep the bands last.
    """
    flat = graph.reshape(INPUT, spec.time_steps, spec.batch * spec.bands)
    flat = graph.add("Transpose", flat, perm=[1, 0])
    return graph.reshape(flat, spec.batch, spec.bands * spec.time_steps)


def _centred_pixels(graph: Graph, normalisation: Normalisation, spec: ServingSpec) -> str:
    """The clipped pixels minus the mean of each band (or band and time step), as (N, B * T)."""
    pixels = _pixels(graph, spec)

    def wide(values: Weights) -> str:
        by_step = np.broadcast_to(values, (spec.time_steps, spec.bands))
        return graph.weights(by_step.T.reshape(-1))

    if np.isfinite(normalisation.lower).any():
        pixels = graph.add("Max", pixels, wide(np.maximum(normalisation.lower, np.finfo(np.float32).min)))
    if np.isfinite(normalisation.upper).any():
        pixels = graph.add("Min", pixels, wide(np.minimum(normalisation.upper, np.finfo(np.float32).max)))
    return graph.add("Sub", pixels, wide(normalisation.mean))


def _mlp(graph: Graph, model: keras.Model, spec: ServingSpec) -> str:
    """Logits of an ``mlp``: one product for each dense layer, with scales and batch norms in the weights."""
    normalisation = Normalisation.of(model.get_layer("standardise"))
    steps, bands = spec.time_steps, spec.bands
    values = _centred_pixels(graph, normalisation, spec)
    kernel, bias = _weights(model, "dense0")
    by_step = (
        kernel.reshape(steps, bands, -1) / np.broadcast_to(normalisation.scale, (steps, bands))[..., None]
    )
    kernel = by_step.transpose(1, 0, 2).reshape(kernel.shape)
    values = _dense_norm_relu(graph, values, kernel, bias, model.get_layer("norm0"))
    layer = 1
    while f"dense{layer}" in {part.name for part in model.layers}:
        values = _dense_norm_relu(
            graph, values, *_weights(model, f"dense{layer}"), model.get_layer(f"norm{layer}")
        )
        layer += 1
    return graph.dense(values, model.get_layer("probabilities"))


def _ltae(graph: Graph, model: keras.Model, spec: ServingSpec) -> str:
    """Logits of an ``ltae``, without ever making an embedding.

    The first embedding e = z K + b of a date is linear in its 2 B + 1 numbers z (bands, bands of the date
    before, one), and so is e minus its mean. With an orthonormal basis Q of its range, e = u Q', where u has
    only 2 B + 1 numbers, and the layer normalisation's variance is the mean square of u. All that follows up
    to the ReLU is linear again, save the attention: scores come from the normalised u with all kernels
    between multiplied beforehand; biases that are the same for all dates drop out of the softmax; a head's
    average of the second embedding is the second embedding of its average of u and of the days' encodings,
    because attention sums to 1; and the dense layer behind the heads is multiplied into that too.
    """
    batch, steps, bands = spec.batch, spec.time_steps, spec.bands
    normalisation = Normalisation.of(model.get_layer("standardise"))
    series = graph.reshape(_centred_pixels(graph, normalisation, spec), batch, bands, steps)
    before = series
    if steps > 1:
        before = graph.add(
            "Concat", graph.slice(series, 2, 0, 1), graph.slice(series, 2, 0, steps - 1), axis=2
        )
    ones = graph.weights(np.ones((batch, 1, steps)))
    seen = graph.add("Concat", series, before, ones, axis=1)

    kernel, bias = _weights(model, "embed")
    of_value, of_change = kernel[:bands], kernel[bands:]
    per_unit = 1 / normalisation.scale[:, None]
    embedding = np.concatenate([(of_value + of_change) * per_unit, -of_change * per_unit, bias[None]])
    embedding -= embedding.mean(axis=1, keepdims=True)
    basis, of_seen = np.linalg.qr(embedding.T)  # (width, rank), (rank, 2 B + 1)
    rank = len(of_seen)
    norm = model.get_layer("embed_norm")
    gamma, beta = (np.asarray(weight, np.float64) for weight in norm.get_weights())
    reduced = graph.add("MatMul", graph.weights(of_seen), seen)  # (N, rank, T)
    squares = graph.add("ReduceSum", graph.add("Mul", reduced, reduced), graph.axes(1), keepdims=1)
    width = len(gamma)
    squares = graph.add("Add", squares, graph.weights(np.array(norm.epsilon * width)))
    deviation = graph.add("Mul", graph.add("Sqrt", squares), graph.weights(np.array(width**-0.5)))
    reduced = graph.add("Div", reduced, deviation)

    kernel, bias = _weights(model, "values")
    query, _ = _weights(model, "scores")
    heads = query.shape[1]
    days = np.asarray(model.get_layer("days").encoding(width), np.float64)
    of_reduced = basis.T @ (gamma[:, None] * kernel)  # (rank, width): from u to the second embedding
    of_days = (days + beta) @ kernel  # (T, width)
    scores = graph.add("MatMul", graph.weights((of_reduced @ query).T), reduced)
    scores = graph.add("Add", scores, graph.weights((days @ kernel @ query).T))
    attention = graph.add("Softmax", scores, axis=2)  # (N, heads, T)
    averages = graph.add("MatMul", attention, graph.add("Transpose", reduced, perm=[0, 2, 1]))
    both = graph.add(
        "Concat",
        graph.reshape(averages, batch, heads * rank),
        graph.reshape(attention, batch, heads * steps),
        axis=1,
    )
    own = np.kron(np.eye(heads), np.ones((1, width // heads)))  # (heads, width): whose channel is whose
    pooling = np.concatenate(
        [
            (own[:, None, :] * of_reduced[None]).reshape(heads * rank, width),
            (own[:, None, :] * of_days[None]).reshape(heads * steps, width),
        ]
    )
    pooled = graph.add("Gemm", both, graph.weights(pooling), graph.weights(bias))
    pooled = _dense_norm_relu(graph, pooled, *_weights(model, "dense"), model.get_layer("norm"))
    return graph.dense(pooled, model.get_layer("probabilities"))


def _weights(model: keras.Model, name: str) -> tuple[Weights, Weights]:
    """Kernel and bias of a dense layer, as float64."""
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer(name).get_weights())
    return kernel, bias


def _dense_norm_relu(
    graph: Graph, values: str, kernel: Weights, bias: Weights, norm: keras.layers.BatchNormalization
) -> str:
    """Dense layer, batch norm and ReLU as one product."""
    gain, shift = affine_of(norm)
    product = graph.add("Gemm", values, graph.weights(kernel * gain), graph.weights(bias * gain + shift))
    return graph.add("Relu", product)
