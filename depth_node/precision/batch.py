"""A model's graph for several images at once. The robot has one; evaluation has thousands."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from depth_node.errors import ModelFileError
from depth_node.precision.graph import initializers

# Operators with a stored shape, whose first number is the batch; by the position of that input.
_SHAPED_OPS = {"Reshape": 1, "Expand": 1}


def with_batch(model: ModelProto, batch: int) -> ModelProto:
    """A copy that takes and gives `batch` in place of 1 along the first axis of its inputs and outputs.

    model: cleaned (`clean_graph`).

    Raises:
        ModelFileError: the graph has the number 1 built in elsewhere.
    """
    batched = ModelProto()
    batched.CopyFrom(model)
    if batch == 1:
        return batched
    del batched.graph.value_info[:]
    stored = initializers(batched)
    weights = set(stored)
    for value in (*batched.graph.input, *batched.graph.output):
        if value.name not in weights:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    for name in {node.input[_SHAPED_OPS[node.op_type]] for node in batched.graph.node if node.op_type in _SHAPED_OPS}:
        if name in stored:
            shape = numpy_helper.to_array(stored[name]).copy()
            if shape.size and shape[0] == 1:
                shape[0] = batch
                stored[name].CopyFrom(numpy_helper.from_array(np.asarray(shape), name))
    for node in batched.graph.node:
        if node.op_type == "Concat" and onnx.helper.get_attribute_value(node.attribute[0]) != 0:
            _repeat_stored(batched, node, batch)  # such as a transformer's class token
    try:
        onnx.shape_inference.infer_shapes(batched, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelFileError(
            f"the model takes one image at a time, not {batch}: {' '.join(str(error).split())}"
        ) from error
    return batched


def _repeat_stored(model: ModelProto, node: NodeProto, batch: int) -> None:
    """Give every image of the batch its copy of the stored tensors that the node takes beside computed ones."""
    stored = initializers(model)
    for index, name in enumerate(node.input):
        if name in stored and stored[name].dims[0] == 1:
            repeated = f"{name}.batch"
            if repeated not in stored:
                values = np.repeat(numpy_helper.to_array(stored[name]), batch, axis=0)
                model.graph.initializer.append(numpy_helper.from_array(values, repeated))
                stored = initializers(model)
            node.input[index] = repeated
