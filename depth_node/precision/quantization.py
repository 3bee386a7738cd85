"""Explicit int8 quantisation: Q/DQ pairs placed by TensorRT's rules for explicitly quantised networks.

Weights per output channel, activations per tensor; both symmetric (zero point 0). A pair stands before every input of a
layer with weights, none behind it: what follows fuses with the layer. Where an Add follows, its other input, the
residual, is quantised as well, since an Add in int8 fuses with the layer only then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from depth_node.precision.graph import WEIGHTED_OPS, consumers, initializers, outer_nodes, producers, replace_nodes

INT8_MAX = 127
# The axis of a weight's output channels, by operator; MatMul's and Gemm's are columns (B is not transposed).
_CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}
_SMALLEST_HALF, _LARGEST_HALF = float(np.finfo(np.float16).smallest_subnormal), float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class QuantizedInput:
    """One place for a Q/DQ pair: input number `index` of the node `consumer`; `layer` is the layer that it is for."""

    layer: str
    consumer: str
    index: int
    tensor: str


def quantizable_layers(model: ModelProto) -> tuple[str, ...]:
    """Names of the layers with stored weights, in their order; not those of `outer_nodes`.

    model: cleaned (`clean_graph`).
    """
    outer, weights = outer_nodes(model), initializers(model)
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in WEIGHTED_OPS and node.name not in outer and _is_plain(node) and node.input[1] in weights
    )


def quantized_inputs(model: ModelProto, layers: Collection[str]) -> tuple[QuantizedInput, ...]:
    """Every activation that is quantised when these layers are: their inputs, and residuals added to their outputs."""
    return tuple(_quantized_inputs(model, frozenset(layers)))


def quantize(model: ModelProto, limits: Mapping[str, float], layers: Collection[str]) -> ModelProto:
    """A copy with Q/DQ pairs at `quantized_inputs` and at the weights of these layers; valid in opset 17.

    model: cleaned (`clean_graph`). limits: largest absolute value that int8 reaches, by tensor; one for every tensor of
    `quantized_inputs`. What lies beyond is clipped. One pair serves all that take a tensor.
    """
    quantized = ModelProto()
    quantized.CopyFrom(model)
    del quantized.graph.value_info[:]
    stored, nodes = initializers(model), {node.name: node for node in quantized.graph.node}
    pairs: dict[str, list[NodeProto]] = {}  # by the tensor that they quantise

    def add_pair(tensor: str, scale: NDArray[np.float32], **axis: Any) -> None:
        quantized.graph.initializer.append(numpy_helper.from_array(scale, f"{tensor}.scale"))
        quantized.graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{tensor}.zero"))
        parameters = [f"{tensor}.scale", f"{tensor}.zero"]
        integers, floats = f"{tensor}.int8", _dequantized(tensor)
        pairs[tensor] = [
            helper.make_node("QuantizeLinear", [tensor, *parameters], [integers], f"{tensor}.Q", **axis),
            helper.make_node("DequantizeLinear", [integers, *parameters], [floats], f"{tensor}.DQ", **axis),
        ]

    places = quantized_inputs(model, layers)
    for tensor in dict.fromkeys(place.tensor for place in places):
        add_pair(tensor, _representable(np.array(limits[tensor] / INT8_MAX)))
    for place in places:
        nodes[place.consumer].input[place.index] = _dequantized(place.tensor)
    for node in (nodes[name] for name in layers):
        weights = numpy_helper.to_array(stored[node.input[1]])
        axis = _CHANNEL_AXES[node.op_type] % weights.ndim
        if node.input[1] not in pairs:
            add_pair(node.input[1], _channel_scales(weights, axis), axis=axis)
        node.input[1] = _dequantized(node.input[1])
    replace_nodes(quantized.graph, _in_order(quantized.graph.node, pairs))
    return quantized


def _dequantized(tensor: str) -> str:
    return f"{tensor}.dequantized"


def _in_order(nodes: Iterable[NodeProto], pairs: Mapping[str, list[NodeProto]]) -> Iterator[NodeProto]:
    """The nodes, with each pair before the first of them that takes what it gives."""
    waiting = {_dequantized(tensor): pair for tensor, pair in pairs.items()}
    for node in nodes:
        for name in node.input:
            yield from waiting.pop(name, ())
        yield node


def _quantized_inputs(model: ModelProto, layers: frozenset[str]) -> Iterator[QuantizedInput]:
    made_by, stored = producers(model), initializers(model)
    for node in model.graph.node:
        if node.name in layers:
            yield QuantizedInput(node.name, node.name, 0, node.input[0])
        elif node.op_type == "Add" and not stored.keys() & set(node.input):
            index = _fused_input(model, node)
            if index is not None and made_by[node.input[index]].name in layers:
                residual = 1 - index
                yield QuantizedInput(made_by[node.input[index]].name, node.name, residual, node.input[residual])


def _fused_input(model: ModelProto, add: NodeProto) -> int | None:
    """The input whose layer the Add fuses with: the last one computed of those that only the Add waits for."""
    used_by, positions = consumers(model), {}
    for position, node in enumerate(model.graph.node):
        if node.op_type in WEIGHTED_OPS and node.output[0] in add.input and len(used_by[node.output[0]]) == 1:
            positions[position] = list(add.input).index(node.output[0])
    return positions[max(positions)] if positions else None


def _channel_scales(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    others = tuple(dimension for dimension in range(weights.ndim) if dimension != axis)
    return _representable(np.abs(weights).max(axis=others) / INT8_MAX)


def _representable(scales: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The next larger numbers of float16, so that the grid is the same where the scales are stored in float16."""
    half = np.clip(scales, _SMALLEST_HALF, _LARGEST_HALF).astype(np.float16)
    larger = np.where(half < scales, np.nextafter(half, np.float16(np.inf)), half)
    return np.minimum(larger, np.float16(_LARGEST_HALF)).astype(np.float32)


def _is_plain(node: NodeProto) -> bool:
    """Not a Gemm with factors or transposed inputs, which Q/DQ pairs would not fuse with."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return node.op_type != "Gemm" or not (attributes.get("transA") or attributes.get("transB"))
