"""What the graph of a model file must look like: its inputs and outputs (docs/architecture.md)."""

from __future__ import annotations

import math

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from depth_node.errors import ModelFileError
from depth_node.model_spec import CONFIDENCE_KEY, CONFIDENCE_OUTPUT

IMAGE_INPUT = "image"
MOTION_INPUTS = ("image_a", "image_b")
# Name of each output, and how many numbers it has.
MOTION_OUTPUTS = {"axis_angle": 3, "translation": 3, "intrinsics": 4}
QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})

_WEIGHT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8)
_NAME_CONFIDENCE = f"and a confidence in 0..1 only if the sidecar names it ({CONFIDENCE_KEY})"


def is_quantized(model: ModelProto) -> bool:
    """Whether the graph says itself what is int8 (Q/DQ pairs)."""
    return any(node.op_type in QDQ_OPS for node in model.graph.node)


def weight_count(model: ModelProto) -> int:
    """How many weights the graph stores, in whatever type; not what says how they are quantised, and no sizes."""
    parameters = {name for node in model.graph.node if node.op_type in QDQ_OPS for name in node.input[1:]}
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.dims and tensor.data_type in _WEIGHT_TYPES and tensor.name not in parameters
    )


def check_depth_graph(model: ModelProto, output_name: str) -> tuple[int, int]:
    """Width and height of the input of a graph: uint8 [1, H, W, 3] in, one or two float32 [1, H, W] out."""
    image, (output, confidence) = only_input(model), depth_outputs(model, CONFIDENCE_OUTPUT)
    if image.name != IMAGE_INPUT or not _is_image(image):
        raise ModelFileError(
            f"input is {_describe(image)}; expected '{IMAGE_INPUT}' uint8 [1, H, W, 3] with fixed H and W"
        )
    height, width = (int(size) for size in _shape(image)[1:3])
    for value, name in ((output, output_name), (confidence, CONFIDENCE_OUTPUT)):
        if value is None:
            continue
        if value.name != name or _elem_type(value) != TensorProto.FLOAT or _shape(value) != [1, height, width]:
            raise ModelFileError(f"output is {_describe(value)}; expected '{name}' float32 [1, {height}, {width}]")
    return width, height


def check_foreign_graph(model: ModelProto, layout: str, confidence_output: str | None) -> tuple[int, int]:
    """Width and height of the input of a graph: float32 [1, 3, H, W] (or NHWC) in, float32 [1, h, w] (or NCHW) out."""
    inferred = onnx.shape_inference.infer_shapes(model)
    image, (output, confidence) = only_input(inferred), depth_outputs(inferred, confidence_output)
    if confidence_output is not None and confidence is None:
        raise ModelFileError(f"{CONFIDENCE_KEY} is '{confidence_output}', but the only output is {_describe(output)}")
    shape = _shape(image)
    channel_axis = layout.find("C")
    is_image = len(shape) == 4 and shape[0] == 1 and shape[channel_axis] == 3 and _is_fixed(shape)
    if _elem_type(image) != TensorProto.FLOAT or not is_image:
        expected = "[1, 3, H, W]" if layout == "NCHW" else "[1, H, W, 3]"
        raise ModelFileError(
            f"input is {_describe(image)}; expected float32 {expected} ({layout}) with fixed H and W; "
            "`python -m onnxruntime.tools.make_dynamic_shape_fixed` fixes dynamic ones"
        )
    out_shape = _shape(output)
    is_map = len(out_shape) in (3, 4) and _is_fixed(out_shape) and all(size == 1 for size in out_shape[:-2])
    if _elem_type(output) != TensorProto.FLOAT or not is_map:
        raise ModelFileError(f"output is {_describe(output)}; expected float32 [1, h, w] or [1, 1, h, w], fixed")
    if confidence is not None and (_elem_type(confidence) != TensorProto.FLOAT or _shape(confidence) != out_shape):
        sizes = ", ".join(str(size) for size in out_shape)
        raise ModelFileError(f"confidence is {_describe(confidence)}; expected float32 [{sizes}] like the other output")
    height, width = (int(size) for axis, size in enumerate(shape) if axis not in (0, channel_axis))
    return width, height


def check_motion_graph(model: ModelProto) -> tuple[int, int]:
    """Width and height of the inputs of a motion graph: two images uint8 [1, H, W, 3] in, `MOTION_OUTPUTS` out."""
    images = {value.name: value for value in model.graph.input}
    expected = f"{' and '.join(repr(name) for name in MOTION_INPUTS)} uint8 [1, H, W, 3]"
    if set(images) != set(MOTION_INPUTS):
        raise ModelFileError(f"inputs are {_list(list(model.graph.input))}; expected {expected}")
    first, second = (images[name] for name in MOTION_INPUTS)
    if not _is_image(first) or not _is_image(second) or _shape(first) != _shape(second):
        raise ModelFileError(
            f"inputs are {_list([first, second])}; expected {expected} with fixed H and W, the same for both"
        )
    outputs = {value.name: value for value in model.graph.output}
    wanted = ", ".join(f"'{name}' float32 [1, {size}]" for name, size in MOTION_OUTPUTS.items())
    if set(outputs) != set(MOTION_OUTPUTS) or not all(
        _elem_type(outputs[name]) == TensorProto.FLOAT and _shape(outputs[name]) == [1, size]
        for name, size in MOTION_OUTPUTS.items()
    ):
        raise ModelFileError(f"outputs are {_list(list(model.graph.output))}; expected {wanted}")
    _, height, width, _ = _shape(first)
    return int(width), int(height)


def only_input(model: ModelProto) -> ValueInfoProto:
    """The input of a depth graph.

    Raises:
        ModelFileError: it has none or several.
    """
    # Files of IR version 3 list their weights among the inputs.
    weights = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in weights]
    if len(values) != 1:
        raise ModelFileError(f"has {len(values)} inputs ({_list(values)}); expected one")
    return values[0]


def depth_outputs(model: ModelProto, confidence_name: str | None) -> tuple[ValueInfoProto, ValueInfoProto | None]:
    """The disparity or depth output of a depth graph, and the confidence output if there is one.

    Raises:
        ModelFileError: it has none or several, beside the confidence.
    """
    values = list(model.graph.output)
    confidence = [value for value in values if value.name == confidence_name]
    others = [value for value in values if value.name != confidence_name]
    if len(others) != 1 or len(confidence) > 1:
        advice = f"and at most '{confidence_name}' beside it" if confidence_name else _NAME_CONFIDENCE
        raise ModelFileError(
            f"has {len(values)} outputs ({_list(values)}); expected one of disparity or depth, {advice}"
        )
    return others[0], confidence[0] if confidence else None


def _is_image(value: ValueInfoProto) -> bool:
    """Whether it is one uint8 [1, H, W, 3] of fixed size."""
    shape = _shape(value)
    return (
        _elem_type(value) == TensorProto.UINT8
        and len(shape) == 4
        and shape[0] == 1
        and shape[3] == 3
        and _is_fixed(shape)
    )


def _list(values: list[ValueInfoProto]) -> str:
    return ", ".join(_describe(value) for value in values) or "none"


def _elem_type(value: ValueInfoProto) -> int:
    return value.type.tensor_type.elem_type


def _shape(value: ValueInfoProto) -> list[int | str]:
    """Sizes of a tensor; a name or '?' where the size is dynamic."""
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in value.type.tensor_type.shape.dim]


def _is_fixed(shape: list[int | str]) -> bool:
    return all(isinstance(size, int) and size > 0 for size in shape)


def _describe(value: ValueInfoProto) -> str:
    elem_type = TensorProto.DataType.Name(_elem_type(value)).lower() if _elem_type(value) else "undefined"
    dtype = "float32" if elem_type == "float" else elem_type
    return f"'{value.name}' {dtype} [{', '.join(str(size) for size in _shape(value))}]"
