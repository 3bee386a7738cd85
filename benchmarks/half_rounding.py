"""float16 as tensor cores compute it, on a CPU: sums in float32, and every float16 tensor rounded to float16.

ONNX Runtime has few float16 kernels for CPUs: it computes in float32 and drops casts between neighbours, so that a
float16 graph gives float32's numbers there. Here the rounding is arithmetic, which it cannot drop.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from depth_node.precision.graph import element_types, replace_nodes

# Veltkamp's splitting: with c = (2^13 + 1) x, c - (c - x) is x rounded to its 24 - 13 = 11 leading bits.
_SPLITTER = np.float32(2**13 + 1)


def rounded_like_half(half: ModelProto) -> ModelProto:
    """A float32 graph with the numbers of a float16 graph (`to_half`, opset 17), but for overflow and subnormals."""
    types = element_types(half)
    rounded = ModelProto()
    rounded.CopyFrom(half)
    del rounded.graph.value_info[:]
    for tensor in rounded.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    rounded.graph.initializer.append(numpy_helper.from_array(_SPLITTER, "splitter"))
    replace_nodes(rounded.graph, [node for original in half.graph.node for node in _rounded(original, types)])
    return rounded


def _rounded(node: NodeProto, types: dict[str, int]) -> Iterator[NodeProto]:
    copy = NodeProto()
    copy.CopyFrom(node)
    if node.op_type == "Cast" and types[node.input[0]] in (TensorProto.FLOAT, TensorProto.FLOAT16):
        copy = helper.make_node("Identity", list(node.input), list(node.output), node.name)
    (output,) = node.output
    if types[output] != TensorProto.FLOAT16:
        yield copy
        return
    exact, scaled, low = f"{output}.exact", f"{output}.scaled", f"{output}.low"
    copy.output[0] = exact
    yield copy
    yield helper.make_node("Mul", [exact, "splitter"], [scaled])
    yield helper.make_node("Sub", [scaled, exact], [low])
    yield helper.make_node("Sub", [scaled, low], [output])
