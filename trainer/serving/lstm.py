"""The serving graph of ``lstm``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.models.shape import ModelShape
from trainer.serving.graph import Graph
from trainer.serving.recurrent import input_weights, unroll_lstm
from trainer.serving.strips import Normalisation, centre_steps, centred_strip, serving_spec

if TYPE_CHECKING:
    import keras
    import onnx


def fold_lstm(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    """The ONNX model of a trained ``lstm`` for strips (T, 1, batch, B)."""
    spec = serving_spec(shape, batch)
    graph = Graph()
    normalisation = Normalisation.of(model.get_layer("standardise"))
    steps = centre_steps(graph, centred_strip(graph, normalisation, spec), spec)
    inputs, recurrent = input_weights(
        model.get_layer("lstm"), 1 / normalisation.scale, 0 * normalisation.scale
    )
    state = unroll_lstm(graph, steps, inputs, recurrent)[-1]
    logits = graph.dense(state, model.get_layer("probabilities"))
    return graph.finish(graph.add("Softmax", logits, axis=1), spec, "lstm")
