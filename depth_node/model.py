"""A model file: one ONNX graph that describes itself (docs/architecture.md); read, checked and written here.

A foreign ONNX file (float input, no metadata) is used through a YAML sidecar beside it: `NAME.yaml` for `NAME.onnx`,
or `model.yaml`, with the same keys plus `input.layout`, `input.mean` and `input.std` (see `FloatInput`), and
`output.confidence`, the name of its confidence output, if it has one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, ValueInfoProto
from onnx.external_data_helper import uses_external_data

from depth_node.errors import ModelFileError
from depth_node.model_spec import (
    CHECKSUM_KEY,
    CONFIDENCE_KEY,
    CONFIDENCE_OUTPUT,
    FORMAT_KEY,
    FloatInput,
    ModelSpec,
    check_format,
    parse_float_input,
    parse_metadata,
    read_sidecar,
    to_metadata,
)

__all__ = ["FloatInput", "ModelFile", "ModelSpec", "read_model", "write_model"]

MAX_FILE_BYTES = 2**31  # the limit of a protobuf message
IMAGE_INPUT = "image"
_NAME_CONFIDENCE = f"and a confidence in 0..1 only if the sidecar names it ({CONFIDENCE_KEY})"


@dataclass(frozen=True)
class ModelFile:
    """A checked model file. checksum: SHA-256 (hexadecimal) of the model without its `checksum` entry."""

    path: Path
    spec: ModelSpec
    checksum: str


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file; weights are not kept in memory.

    Raises:
        ModelFileError: the file is missing, damaged or outside the contract; says what was found and expected.
    """
    path = Path(path)
    try:
        model = _load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        if FORMAT_KEY in metadata:
            spec = _native_spec(model, metadata)
        else:
            metadata = _sidecar_metadata(path)
            spec = _foreign_spec(model, metadata)
        for entry in [entry for entry in model.metadata_props if entry.key == CHECKSUM_KEY]:
            model.metadata_props.remove(entry)
        checksum = _checksum(model)
        if metadata.get(CHECKSUM_KEY, checksum) != checksum:
            raise ModelFileError(
                f"checksum is {checksum}, but its metadata says {metadata[CHECKSUM_KEY]}: "
                "the file was damaged or changed after its export; copy or export it again"
            )
    except ModelFileError as error:
        raise ModelFileError(f"model file {path}: {error}") from error
    return ModelFile(path, spec, checksum)


def write_model(model: ModelProto, spec: ModelSpec, path: str | os.PathLike[str]) -> ModelFile:
    """Write a graph of our own contract with its metadata and checksum, all at once or not at all.

    Raises:
        ModelFileError: the graph does not follow the contract, or is not what the spec says. Sizes of the outputs that
            the graph only names are taken from the spec.
    """
    path = Path(path)
    if spec.float_input is not None:
        raise ModelFileError(f"model file {path}: normalisation belongs inside the graph; expected float_input = None")
    stamped = ModelProto()
    stamped.CopyFrom(model)
    _declare_output_sizes(stamped, spec)
    width, height = _check_native_graph(stamped, spec.output)
    if (width, height) != (spec.input_width, spec.input_height):
        size = f"{spec.input_width}x{spec.input_height}"
        raise ModelFileError(f"model file {path}: the graph's input is {width}x{height}, but its spec says {size}")
    confidence_output = _native_confidence(stamped)
    if confidence_output != spec.confidence_output:
        raise ModelFileError(
            f"model file {path}: the graph's confidence output is {confidence_output}, "
            f"but its spec says {spec.confidence_output}"
        )
    onnx.checker.check_model(stamped)
    metadata = to_metadata(spec)
    onnx.helper.set_model_props(stamped, metadata)
    checksum = _checksum(stamped)
    onnx.helper.set_model_props(stamped, {**metadata, CHECKSUM_KEY: checksum})

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(stamped.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return ModelFile(path, spec, checksum)


def _checksum(model: ModelProto) -> str:
    """SHA-256 of a model that has no `checksum` entry, serialised deterministically."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _load(path: Path) -> ModelProto:
    if not path.is_file():
        raise ModelFileError("no such file; expected an ONNX file made by `python -m training export`")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"has {size} bytes; expected an ONNX file of at most {MAX_FILE_BYTES}")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        model = ModelProto()
    if not model.HasField("graph"):
        raise ModelFileError(f"{size} bytes that are not a complete ONNX model: not ONNX, or truncated; copy it again")
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise ModelFileError("keeps weights in other files; expected one file: save it again with its weights inside")
    return model


def _native_spec(model: ModelProto, metadata: Mapping[str, str]) -> ModelSpec:
    check_format(metadata)
    if CHECKSUM_KEY not in metadata:
        raise ModelFileError(f"metadata lacks {CHECKSUM_KEY}; export the model again")
    width, height = _check_native_graph(model, metadata.get("output", "disparity"))
    return parse_metadata(metadata, width, height, confidence_output=_native_confidence(model))


def _foreign_spec(model: ModelProto, metadata: Mapping[str, str]) -> ModelSpec:
    check_format(metadata)
    float_input, confidence_output = parse_float_input(metadata), metadata.get(CONFIDENCE_KEY)
    width, height = _check_foreign_graph(model, float_input.layout, confidence_output)
    return parse_metadata(metadata, width, height, float_input, confidence_output)


def _sidecar_metadata(path: Path) -> dict[str, str]:
    for sidecar in (path.with_suffix(".yaml"), path.with_name("model.yaml")):
        if sidecar.is_file():
            return read_sidecar(sidecar)
    raise ModelFileError(
        f"metadata lacks {FORMAT_KEY}, and there is no {path.with_suffix('.yaml').name} or model.yaml beside it; "
        "export the model with `python -m training export`, or describe a foreign one in such a sidecar"
    )


def _declare_output_sizes(model: ModelProto, spec: ModelSpec) -> None:
    """Put numbers in place of the names that exporters give to sizes which they cannot infer."""
    for output in model.graph.output:
        sizes = output.type.tensor_type.shape.dim
        for dim, size in zip(sizes, (1, spec.input_height, spec.input_width), strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_value = size


def _native_confidence(model: ModelProto) -> str | None:
    return CONFIDENCE_OUTPUT if any(output.name == CONFIDENCE_OUTPUT for output in model.graph.output) else None


def _check_native_graph(model: ModelProto, output_name: str) -> tuple[int, int]:
    """Width and height of the input of a graph: uint8 [1, H, W, 3] in, one or two float32 [1, H, W] out."""
    image, (output, confidence) = _only_input(model), _outputs(model, CONFIDENCE_OUTPUT)
    shape = _shape(image)
    expected = f"'{IMAGE_INPUT}' uint8 [1, H, W, 3]"
    is_image = len(shape) == 4 and shape[0] == 1 and shape[3] == 3 and _is_fixed(shape)
    if image.name != IMAGE_INPUT or _elem_type(image) != TensorProto.UINT8 or not is_image:
        raise ModelFileError(f"input is {_describe(image)}; expected {expected} with fixed H and W")
    height, width = int(shape[1]), int(shape[2])
    for value, name in ((output, output_name), (confidence, CONFIDENCE_OUTPUT)):
        if value is None:
            continue
        if value.name != name or _elem_type(value) != TensorProto.FLOAT or _shape(value) != [1, height, width]:
            raise ModelFileError(f"output is {_describe(value)}; expected '{name}' float32 [1, {height}, {width}]")
    return width, height


def _check_foreign_graph(model: ModelProto, layout: str, confidence_output: str | None) -> tuple[int, int]:
    """Width and height of the input of a graph: float32 [1, 3, H, W] (or NHWC) in, float32 [1, h, w] (or NCHW) out."""
    inferred = onnx.shape_inference.infer_shapes(model)
    image, (output, confidence) = _only_input(inferred), _outputs(inferred, confidence_output)
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


def _only_input(model: ModelProto) -> ValueInfoProto:
    # Files of IR version 3 list their weights among the inputs.
    weights = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in weights]
    if len(values) != 1:
        raise ModelFileError(f"has {len(values)} inputs ({_list(values)}); expected one")
    return values[0]


def _outputs(model: ModelProto, confidence_name: str | None) -> tuple[ValueInfoProto, ValueInfoProto | None]:
    """The disparity or depth output, and the confidence output if there is one."""
    values = list(model.graph.output)
    confidence = [value for value in values if value.name == confidence_name]
    others = [value for value in values if value.name != confidence_name]
    if len(others) != 1 or len(confidence) > 1:
        advice = f"and at most '{confidence_name}' beside it" if confidence_name else _NAME_CONFIDENCE
        raise ModelFileError(
            f"has {len(values)} outputs ({_list(values)}); expected one of disparity or depth, {advice}"
        )
    return others[0], confidence[0] if confidence else None


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
