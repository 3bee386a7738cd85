"""Images as TensorRT takes them: cast to floats before anything else is done with them.

Of an input in bytes, TensorRT knows nothing but the cast to float32 or float16 (`DataType.UINT8` in its reference);
exporters put the transposition to channels first in front of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, NodeProto, TensorProto, helper

from depth_node.errors import ModelFileError

# Operators that move numbers about without looking at them; all but the first input is where to.
_MOVING_OPS = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice"})


def cast_images_first(model: ModelProto) -> ModelProto:
    """A copy whose inputs in bytes are cast first, and moved about as floats; it computes exactly the same.

    Raises:
        ModelFileError: something is computed with bytes.
    """
    cast_first = ModelProto()
    cast_first.CopyFrom(model)
    for value in model.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            _cast_first(cast_first, value.name)
    return cast_first


def _cast_first(model: ModelProto, image: str) -> None:
    graph = model.graph
    moved, casts = _until_cast(graph.node, image)
    if moved == {image}:
        return
    targets = {cast.attribute[0].i for cast in casts}
    target = targets.pop() if len(targets) == 1 else TensorProto.FLOAT
    as_floats = f"{image}_as_floats"
    for node in graph.node:
        node.input[:] = [as_floats if name == image else name for name in node.input]
    graph.node.insert(0, helper.make_node("Cast", [image], [as_floats], f"cast_{image}", to=target))
    stated = [value for value in graph.value_info if value.name not in moved]  # the others are bytes no more
    del graph.value_info[:]
    graph.value_info.extend(stated)


def _until_cast(nodes: Iterable[NodeProto], image: str) -> tuple[set[str], list[NodeProto]]:
    """Tensors that hold the image in bytes, and the casts that end it."""
    moved, casts = {image}, []
    for node in nodes:
        if not moved.intersection(node.input):
            continue
        if node.op_type == "Cast":
            casts.append(node)
        elif node.op_type in _MOVING_OPS and node.input[0] in moved:
            moved.update(node.output)
        else:
            raise ModelFileError(
                f"{node.op_type} '{node.name}' works on bytes; TensorRT takes them as floats: cast first"
            )
    return moved, casts
