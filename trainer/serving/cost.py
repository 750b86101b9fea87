"""What a serving graph costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def count_flops(model: onnx.ModelProto) -> int:
    """Floating-point operations of one run: two per multiply-add in products, convolutions and LSTMs.

    Element-wise work is left out, as it is in the peak that it is compared with; so are trees, which compare
    and do not multiply. Divide by the number of pixels in a strip for the cost of a pixel.
    """
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {constant.name: tuple(constant.dims) for constant in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            flipped = any(flag.name == "transA" and flag.i for flag in node.attribute)
            inner = shapes[node.input[0]][0 if flipped else -1]
            total += 2 * inner * math.prod(shapes[node.output[0]])
        elif node.op_type == "Conv":
            total += 2 * math.prod(shapes[node.input[1]][1:]) * math.prod(shapes[node.output[0]])
        elif node.op_type == "LSTM":
            steps, batch, _ = shapes[node.input[0]]
            weights = math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]])
            total += 2 * steps * batch * weights
    return total
