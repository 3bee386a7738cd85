"""What every precision starts from: the model's graph in float32, cleaned; and small helpers to read ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from depth_node.model_graph import QDQ_OPS

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def clean_graph(model: ModelProto) -> ModelProto:
    """A copy in which every constant is an initializer: weights stored as float16 are float32, shapes are numbers.

    Weights stored as int8 stay so, with their DequantizeLinear. Casts to the type that a tensor has already are gone,
    too, and every node has a name of its own.
    """
    cleaned = ModelProto()
    cleaned.CopyFrom(model)
    _fold_constants(cleaned)
    _remove_needless_casts(cleaned)
    _name_nodes(cleaned.graph)
    return cleaned


def element_types(model: ModelProto) -> dict[str, int]:
    """TensorProto data type by tensor name, of all that the graph computes or stores.

    Raises:
        onnx.shape_inference.InferenceError: the graph contradicts itself.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def initializers(model: ModelProto) -> dict[str, TensorProto]:
    """Initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def producers(model: ModelProto) -> dict[str, NodeProto]:
    """The node that computes a tensor, by the tensor's name."""
    return {output: node for node in model.graph.node for output in node.output}


def consumers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """The nodes that take a tensor, by the tensor's name."""
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found


def outer_nodes(model: ModelProto) -> frozenset[str]:
    """Names of the nodes before the first layers with weights, of the last such layers, and of what follows them.

    That is where the numbers have a meaning (bytes, disparities, angles) and their precision is the result's: the
    normalisation of the image, the head and the transform of what it gives. Q/DQ pairs belong to their layers.
    """
    after: set[str] = set()  # tensors that depend on a weighted layer
    names = set()
    for node in model.graph.node:
        if node.op_type in WEIGHTED_OPS or after.intersection(node.input):
            after.update(node.output)
        elif node.op_type not in QDQ_OPS:
            names.add(node.name)
    before: set[str] = set()  # tensors that a weighted layer depends on
    for node in reversed(model.graph.node):
        if not before.intersection(node.output):
            names.add(node.name)
        if node.op_type in WEIGHTED_OPS or before.intersection(node.output):
            before.update(node.input)
    return frozenset(names)


def opset(model: ModelProto) -> int:
    """Version of ONNX's own operators."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Put other nodes into the graph, in the order of their computation."""
    copies = [_copy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def remove_unused_initializers(graph: GraphProto) -> None:
    """Drop the stored tensors that no node takes any more."""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _fold_constants(model: ModelProto) -> None:
    constant = set(initializers(model))
    outputs = {value.name for value in model.graph.output}  # stay with a node that computes them
    folded: list[NodeProto] = []
    kept: list[NodeProto] = []
    for node in model.graph.node:
        is_constant = all(name in constant for name in node.input if name) and node.op_type not in QDQ_OPS
        if is_constant and not outputs.intersection(node.output):
            constant.update(node.output)
            folded.append(node)
        else:
            kept.append(node)
    needed = {name for node in kept for name in node.input}
    values = _evaluate(model, folded, [name for node in folded for name in node.output if name in needed])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    replace_nodes(model.graph, kept)
    remove_unused_initializers(model.graph)


def _evaluate(model: ModelProto, nodes: list[NodeProto], outputs: list[str]) -> Mapping[str, NDArray[np.generic]]:
    if not outputs:
        return {}
    values = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "constants", [], values, list(model.graph.initializer))
    constants = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    results = ReferenceEvaluator(constants).run(None, {})
    return {name: np.asarray(value) for name, value in zip(outputs, results, strict=True)}


def _remove_needless_casts(model: ModelProto) -> None:
    types = element_types(model)
    outputs = {value.name for value in model.graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        is_needless = node.op_type == "Cast" and _cast_target(node) == types.get(node.input[0])
        if is_needless and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    replace_nodes(model.graph, kept)


def _cast_target(node: NodeProto) -> int:
    (target,) = (attribute.i for attribute in node.attribute if attribute.name == "to")
    return int(target)


def _name_nodes(graph: GraphProto) -> None:
    taken: set[str] = set()
    for node, name in zip(graph.node, _free_names(graph.node, taken), strict=True):
        node.name = name


def _free_names(nodes: Iterable[NodeProto], taken: set[str]) -> Iterator[str]:
    for node in nodes:
        name = node.name or f"{node.op_type}_{node.output[0]}"
        while name in taken:
            name += "_"
        taken.add(name)
        yield name


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied
