"""The serving graphs of ``ltae``, ``mlp`` and their averages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlts_beam.spec import ServingSpec
from trainer.models.shape import ModelShape
from trainer.serving.graph import Graph
from trainer.serving.strips import Normalisation, Weights, affine_of, centred_strip, serving_spec

if TYPE_CHECKING:
    import keras
    import onnx


def fold_branches(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    """The ONNX model of a trained ``ltae``, ``mlp`` or ``ltae_mlp`` for strips (T, 1, batch, B)."""
    from trainer.models import branches_of

    spec = serving_spec(shape, batch)
    graph = Graph()
    answers = []
    for branch in branches_of(model):
        logits = (_ltae if branch.name.startswith("ltae") else _mlp)(graph, branch, spec)
        answers.append(graph.add("Softmax", logits, axis=1))
    mean = answers[0]
    for answer in answers[1:]:
        mean = graph.add("Add", mean, answer)
    if len(answers) > 1:
        mean = graph.add("Mul", mean, graph.weights(np.array(1 / len(answers))))
    return graph.finish(mean, spec, model.name)


def _by_pixel(graph: Graph, strip: str, spec: ServingSpec) -> str:
    """(T, 1, N, B) as (N, T, B)."""
    by_pixel = graph.add("Transpose", strip, perm=[2, 0, 1, 3])
    return graph.reshape(by_pixel, spec.batch, spec.time_steps, spec.bands)


def _mlp(graph: Graph, model: keras.Model, spec: ServingSpec) -> str:
    """Logits of an ``mlp``: one product for each dense layer, with scales and batch norms in the weights."""
    normalisation = Normalisation.of(model.get_layer("standardise"))
    strip = centred_strip(graph, normalisation, spec)
    values = graph.reshape(_by_pixel(graph, strip, spec), spec.batch, spec.time_steps * spec.bands)
    scale = 1 / normalisation.scale.reshape(-1)
    layer = 0
    while f"dense{layer}" in {part.name for part in model.layers}:
        values = _dense_norm_relu(graph, values, model, f"dense{layer}", f"norm{layer}", scale)
        scale = np.ones(1)
        layer += 1
    return graph.dense(values, model.get_layer("probabilities"))


def _ltae(graph: Graph, model: keras.Model, spec: ServingSpec) -> str:
    """Logits of an ``ltae``.

    Two products are never made for all dates. Scores follow from the first embedding at once, with both dense
    layers multiplied beforehand (their biases are the same for all dates, so the softmax drops them). And a
    head's average of the second embedding is the second embedding of its average, because attention sums to
    1.
    """
    batch, steps, bands = spec.batch, spec.time_steps, spec.bands
    normalisation = Normalisation.of(model.get_layer("standardise"))
    strip = centred_strip(graph, normalisation, spec)
    series = _by_pixel(graph, strip, spec)
    if steps > 1:
        first = graph.slice(series, 1, 0, 1)
        before = graph.add("Concat", first, graph.slice(series, 1, 0, steps - 1), axis=1)
    else:
        before = series
    both = graph.reshape(graph.add("Concat", series, before, axis=2), batch * steps, 2 * bands)

    kernel, bias = _weights(model, "embed")
    of_value, of_change = kernel[:bands], kernel[bands:]
    per_unit = 1 / normalisation.scale[:, None]
    kernel = np.concatenate([(of_value + of_change) * per_unit, -of_change * per_unit])
    embedded = graph.add("Gemm", both, graph.weights(kernel), graph.weights(bias))
    norm = model.get_layer("embed_norm")
    gamma, beta = (graph.weights(weight) for weight in norm.get_weights())
    embedded = graph.add("LayerNormalization", embedded, gamma, beta, axis=-1, epsilon=float(norm.epsilon))
    kernel, bias = _weights(model, "values")
    width = kernel.shape[0]
    days = graph.weights(model.get_layer("days").encoding(width))
    embedded = graph.add("Add", graph.reshape(embedded, batch, steps, width), days)

    query, _ = _weights(model, "scores")
    heads = query.shape[1]
    scores = graph.add("MatMul", embedded, graph.weights(kernel @ query))
    scores = graph.add("Transpose", scores, perm=[0, 2, 1])
    attention = graph.add("Softmax", scores, axis=2)
    averages = graph.add("MatMul", attention, embedded)  # (N, heads, width)
    by_head = graph.add("Transpose", averages, perm=[1, 0, 2])
    own = kernel.reshape(width, heads, width // heads).transpose(1, 0, 2)
    pooled = graph.add("MatMul", by_head, graph.weights(own))
    pooled = graph.reshape(graph.add("Transpose", pooled, perm=[1, 0, 2]), batch, width)
    pooled = _dense_norm_relu(graph, pooled, model, "dense", "norm", np.ones(1), bias)
    return graph.dense(pooled, model.get_layer("probabilities"))


def _weights(model: keras.Model, name: str) -> tuple[Weights, Weights]:
    """Kernel and bias of a dense layer, as float64."""
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer(name).get_weights())
    return kernel, bias


def _dense_norm_relu(
    graph: Graph,
    values: str,
    model: keras.Model,
    dense: str,
    norm: str,
    scale: Weights,
    offset: Weights | None = None,
) -> str:
    """Dense layer, batch norm and ReLU as one product, for inputs scale * (values + offset)."""
    kernel, bias = _weights(model, dense)
    kernel = scale[:, None] * kernel
    if offset is not None:
        bias = bias + offset @ kernel
    gain, shift = affine_of(model.get_layer(norm))
    product = graph.add("Gemm", values, graph.weights(kernel * gain), graph.weights(bias * gain + shift))
    return graph.add("Relu", product)
