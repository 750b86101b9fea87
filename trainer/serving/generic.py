"""The serving graph of any architecture that is not folded by hand, through TensorFlow's graph."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trainer.models.shape import ModelShape
from trainer.serving.graph import INPUT, IR_VERSION, OPSET, OUTPUT
from trainer.serving.saved_model import strip_function
from trainer.serving.strips import serving_spec

if TYPE_CHECKING:
    import keras
    import onnx


def convert_model(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    """The ONNX model of a Keras model for strips (T, P, batch + P - 1, B).

    The way of Keras' own ``model.export(format="onnx")``, with the cutting of the strip inside and every
    shape fixed. All weights become constants, so a layer must hold what it needs as weights or in its
    settings.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    spec = serving_spec(shape, batch)
    signature = [tf.TensorSpec(spec.strip_shape, tf.float32, name=INPUT)]
    serve = tf.function(strip_function(model, spec), input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=OPSET)
    graph = converted.graph
    (given,), (answer,) = graph.input, graph.output
    _rename(graph, {given.name: INPUT, answer.name: OUTPUT})
    served = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="dlts-beam",
    )
    onnx.checker.check_model(served)
    return served


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Number all values anew: the converter counts per process, and equal weights shall give equal bytes."""

    def fresh(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}") if name else name

    def walk(part: Any) -> None:
        part.doc_string = ""
        named: Iterable[Any] = (*part.input, *part.initializer, *part.output)
        for value in named:
            value.name = fresh(value.name)
            value.doc_string = ""
        del part.value_info[:]
        for node in part.node:
            node.name, node.doc_string = "", ""
            node.input[:] = [fresh(name) for name in node.input]
            node.output[:] = [fresh(name) for name in node.output]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)

    graph.name = "model"
    walk(graph)
