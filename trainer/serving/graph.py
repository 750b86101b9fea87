"""A thin builder of ONNX graphs: names are made up, constants become initialisers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam.spec import ServingSpec

if TYPE_CHECKING:
    import keras
    import onnx

OPSET = 18
TREES_DOMAIN, TREES_OPSET = "ai.onnx.ml", 3
IR_VERSION = 9  # the oldest that goes with the opset, so that older runtimes load it too
INPUT, OUTPUT = "strip", "probabilities"


class Graph:
    """Collects nodes and constants of a serving model and turns them into one ONNX model."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: NDArray[Any]) -> str:
        """The name of a constant with these values."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weights(self, values: NDArray[Any]) -> str:
        """The name of a constant with these values as float32."""
        return self.constant(np.asarray(values, np.float32))

    def axes(self, *values: int) -> str:
        """The name of an int64 constant, for shapes and axes."""
        return self.constant(np.array(values, np.int64))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of the only output of a new node."""
        return self.add_many(kind, 1, *inputs, **attributes)[0]

    def add_many(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """The names of all outputs of a new node."""
        from onnx import helper

        names = [f"v{len(self._nodes)}_{output}" for output in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def slice(self, name: str, axis: int, start: int, stop: int) -> str:
        """``name[start:stop]`` along an axis."""
        return self.add("Slice", name, self.axes(start), self.axes(stop), self.axes(axis))

    def reshape(self, name: str, *shape: int) -> str:
        """``name`` in another shape."""
        return self.add("Reshape", name, self.axes(*shape))

    def split(self, name: str, parts: int) -> list[str]:
        """Equal parts of ``name`` along the first axis, which is kept."""
        return self.add_many("Split", parts, name, axis=0, num_outputs=parts)

    def dense(self, name: str, layer: keras.layers.Dense) -> str:
        """What a Keras dense layer makes of ``name`` (N, U), without its activation."""
        kernel, bias = (self.weights(weight) for weight in layer.get_weights())
        return self.add("Gemm", name, kernel, bias)

    def finish(self, output: str, spec: ServingSpec, title: str) -> onnx.ModelProto:
        """The checked model: strip (T, 1 + 2h, N + 2h, B) in, ``output`` as probabilities (N, K) out."""
        import onnx
        from onnx import TensorProto, helper

        single = TensorProto.FLOAT
        used = {name for node in self._nodes for name in node.input}
        nodes = [*self._nodes, helper.make_node("Identity", [output], [OUTPUT])]
        graph = helper.make_graph(
            nodes,
            title,
            [helper.make_tensor_value_info(INPUT, single, list(spec.strip_shape))],
            [helper.make_tensor_value_info(OUTPUT, single, [spec.batch, spec.classes])],
            initializer=[constant for constant in self._constants if constant.name in used],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == TREES_DOMAIN for node in nodes):
            opsets.append(helper.make_opsetid(TREES_DOMAIN, TREES_OPSET))
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="dlts-beam",
        )
        onnx.checker.check_model(model)
        return model
