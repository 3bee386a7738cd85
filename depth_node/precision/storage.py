"""How a graph stores its weights: int8 where they are quantised, float16 elsewhere; what it computes stays the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from depth_node.precision.graph import initializers, remove_unused_initializers, replace_nodes
from depth_node.precision.quantization import INT8_MAX

SMALLEST_HALF_TENSOR = 1024  # elements; biases and batch norms stay in float32


def store_weights_as_half(model: ModelProto) -> None:
    """Replace large float32 initializers by float16 ones with a Cast, in place; backends fold the Cast on loading."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_HALF_TENSOR:
            continue
        name, stored = tensor.name, f"{tensor.name}.half"
        with np.errstate(over="ignore"):  # who calls this compares what the graph computes
            half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    replace_nodes(model.graph, [*casts, *model.graph.node])


def store_quantized_weights(model: ModelProto) -> None:
    """Keep the integers of quantised weights, and DequantizeLinear alone, in place of floats and a pair; in place."""
    stored = initializers(model)
    kept: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in stored:
            weights, scales = (numpy_helper.to_array(stored[name]) for name in node.input[:2])
            steps = np.rint(weights / _along_axis(scales, weights.ndim, node))
            integers = np.clip(steps, -INT8_MAX - 1, INT8_MAX).astype(np.int8)
            model.graph.initializer.append(numpy_helper.from_array(integers, node.output[0]))
        else:
            kept.append(node)
    replace_nodes(model.graph, kept)
    remove_unused_initializers(model.graph)


def restore_quantized_weights(model: ModelProto) -> None:
    """Floats and a pair in place of stored integers: TensorRT 8.6 takes no weights in int8; in place.

    The pair gives the same integers again.
    """
    stored = initializers(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            integers, *parameters = node.input
            values, scales = (numpy_helper.to_array(stored[name]) for name in (integers, parameters[0]))
            weights = values.astype(np.float32) * _along_axis(scales, values.ndim, node)
            model.graph.initializer.append(numpy_helper.from_array(weights, f"{integers}.weights"))
            attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            quantized = [f"{integers}.quantized"]
            nodes.append(
                helper.make_node(
                    "QuantizeLinear", [f"{integers}.weights", *parameters], quantized, f"{node.name}.Q", **attributes
                )
            )
            node.input[0] = quantized[0]
        nodes.append(node)
    replace_nodes(model.graph, nodes)
    remove_unused_initializers(model.graph)


def _along_axis(scales: NDArray[np.float32], dimensions: int, node: NodeProto) -> NDArray[np.float32]:
    """Scales as they are broadcast over the tensor of a Q or DQ node."""
    if not scales.ndim:
        return scales
    shape = [1] * dimensions
    shape[next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)] = -1
    return scales.reshape(shape)
