"""The graph in float16, with explicit casts: what a strongly typed TensorRT network takes its precisions from."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from depth_node.errors import ModelFileError
from depth_node.model_graph import QDQ_OPS
from depth_node.precision.graph import (
    element_types,
    initializers,
    opset,
    outer_nodes,
    remove_unused_initializers,
    replace_nodes,
)

# Inputs that ONNX has in float32 whatever the type of the data; by operator and position.
_ALWAYS_FLOAT = {("Resize", 2)}
# Sums of squares pass float16's 65504 soon; with ONNX's types, so do the sums that these operators make inside.
_FLOAT_OPS = frozenset(
    {"Pow", "Sqrt", "ReduceMean", "ReduceSum", "LayerNormalization", "InstanceNormalization", "GroupNormalization"}
)
_HALF_QDQ_OPSET = 19  # older ones have Q/DQ in float32 alone
_HALF_MAX = float(np.finfo(np.float16).max)


def to_half(model: ModelProto, keep: Collection[str] = ()) -> ModelProto:
    """Float32 arithmetic in float16, but for the outer nodes (`outer_nodes`), normalisations, and what `keep` names.

    model: cleaned (`clean_graph`). Its inputs and outputs keep their types. One with Q/DQ pairs
    becomes opset 19.

    Raises:
        ModelFileError: a weight is too large for float16.
    """
    normalizations = {node.name for node in model.graph.node if node.op_type in _FLOAT_OPS}
    float_nodes = outer_nodes(model) | normalizations | set(keep)
    if opset(model) < _HALF_QDQ_OPSET and any(node.op_type in QDQ_OPS for node in model.graph.node):
        model = version_converter.convert_version(model, _HALF_QDQ_OPSET)
    half = ModelProto()
    half.CopyFrom(model)
    del half.graph.value_info[:]
    writer = _HalfWriter(model, float_nodes)
    replace_nodes(half.graph, writer.nodes(model.graph.node))
    half.graph.initializer.extend(writer.stored)
    remove_unused_initializers(half.graph)
    return half


class _HalfWriter:
    """Follows the nodes in their order, and knows in which type each tensor is there already."""

    def __init__(self, model: ModelProto, float_nodes: Collection[str]) -> None:
        self.stored: list[TensorProto] = []
        self._float_nodes = float_nodes
        self._types = element_types(model)
        self._weights = initializers(model)
        self._outputs = {value.name for value in model.graph.output}
        self._in_half: set[str] = set()  # tensors computed in float16
        self._converted: dict[tuple[str, bool], str] = {}  # (tensor, is half) -> its name in that type
        self._casts: list[NodeProto] = []

    def nodes(self, nodes: Iterable[NodeProto]) -> list[NodeProto]:
        """The nodes with their inputs in the right types, and the casts that this needs."""
        written: list[NodeProto] = []
        for node in nodes:
            converted = self._convert(node)
            written += [*self._casts, converted]
            self._casts = []
        return written

    def _convert(self, node: NodeProto) -> NodeProto:
        takes_floats = any(self._types.get(name) == TensorProto.FLOAT for name in node.input)
        is_half = node.name not in self._float_nodes and takes_floats
        inputs = [
            self._as(name, is_half and (node.op_type, index) not in _ALWAYS_FLOAT)
            for index, name in enumerate(node.input)
        ]
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        if is_half:
            self._in_half.update(name for name in node.output if self._types.get(name) == TensorProto.FLOAT)
        return copy

    def _as(self, name: str, half: bool) -> str:
        """The tensor in the wanted type: itself, a stored copy, or a cast."""
        if self._types.get(name) != TensorProto.FLOAT or half == (name in self._in_half):
            return name
        if (name, half) not in self._converted:
            self._converted[name, half] = self._make(name, half)
        return self._converted[name, half]

    def _make(self, name: str, half: bool) -> str:
        converted = f"{name}.{'float16' if half else 'float32'}"
        if name in self._weights:
            values = numpy_helper.to_array(self._weights[name])
            if np.abs(values).max(initial=0.0) > _HALF_MAX:
                raise ModelFileError(
                    f"weights '{name}' reach {np.abs(values).max():g}, float16 ends at {_HALF_MAX:g}: use fp32 or tf32"
                )
            self.stored.append(numpy_helper.from_array(values.astype(np.float16), converted))
        else:
            target = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            self._casts.append(helper.make_node("Cast", [name], [converted], name=f"{converted}.cast", to=target))
        return converted
