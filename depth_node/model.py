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
from onnx import ModelProto, ValueInfoProto
from onnx.external_data_helper import uses_external_data

from depth_node.errors import ModelFileError
from depth_node.model_graph import (
    MOTION_INPUTS,
    MOTION_OUTPUTS,
    check_depth_graph,
    check_foreign_graph,
    check_motion_graph,
    depth_outputs,
    is_quantized,
    only_input,
)
from depth_node.model_spec import (
    CHECKSUM_KEY,
    CONFIDENCE_KEY,
    CONFIDENCE_OUTPUT,
    FORMAT_KEY,
    FloatInput,
    ModelSpec,
    MotionSpec,
    check_format,
    parse_float_input,
    parse_metadata,
    parse_motion_metadata,
    read_sidecar,
    to_metadata,
)

__all__ = [
    "FloatInput",
    "ModelFile",
    "ModelSpec",
    "MotionModelFile",
    "MotionSpec",
    "read_any_model",
    "read_model",
    "read_motion_model",
    "write_model",
    "write_motion_model",
]

MAX_FILE_BYTES = 2**31  # the limit of a protobuf message


@dataclass(frozen=True)
class ModelFile:
    """A checked file of a depth model.

    checksum: SHA-256 (hexadecimal) of the model without its `checksum` entry.
    inputs, outputs: names in the graph; the outputs are disparity or depth, and then the confidence if there is one.
    is_quantized: whether the graph says itself what is int8 (Q/DQ pairs).
    """

    path: Path
    spec: ModelSpec
    checksum: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_quantized: bool = False


@dataclass(frozen=True)
class MotionModelFile:
    """A checked file of a motion model; see `ModelFile`."""

    path: Path
    spec: MotionSpec
    checksum: str
    inputs: tuple[str, ...] = MOTION_INPUTS
    outputs: tuple[str, ...] = tuple(MOTION_OUTPUTS)
    is_quantized: bool = False


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check the file of a depth model; weights are not kept in memory.

    Raises:
        ModelFileError: the file is missing, damaged or outside the contract; says what was found and expected.
    """
    model = read_any_model(path)
    if isinstance(model, MotionModelFile):
        raise ModelFileError(f"model file {path}: kind is 'motion'; expected a model of depth")
    return model


def read_motion_model(path: str | os.PathLike[str]) -> MotionModelFile:
    """Read and check the file of a motion model; see `read_model`."""
    model = read_any_model(path)
    if isinstance(model, ModelFile):
        raise ModelFileError(f"model file {path}: kind is 'depth'; expected a model of motion")
    return model


def read_any_model(path: str | os.PathLike[str]) -> ModelFile | MotionModelFile:
    """Read and check a model file of either kind; see `read_model`."""
    path = Path(path)
    try:
        model = _load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        spec: ModelSpec | MotionSpec
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
    return _model_file(path, model, spec, checksum)


def write_model(model: ModelProto, spec: ModelSpec, path: str | os.PathLike[str]) -> ModelFile:
    """Write a depth graph of our own contract with its metadata and checksum, all at once or not at all.

    Raises:
        ModelFileError: the graph does not follow the contract, or is not what the spec says. Sizes of the outputs that
            the graph only names are taken from the spec.
    """
    path, stamped = Path(path), _copy(model)
    if spec.float_input is not None:
        raise ModelFileError(f"model file {path}: normalisation belongs inside the graph; expected float_input = None")
    for output in stamped.graph.output:
        _declare_sizes(output, (1, spec.input_height, spec.input_width))
    _expect_size(path, check_depth_graph(stamped, spec.output), spec)
    confidence_output = _native_confidence(stamped)
    if confidence_output != spec.confidence_output:
        raise ModelFileError(
            f"model file {path}: the graph's confidence output is {confidence_output}, "
            f"but its spec says {spec.confidence_output}"
        )
    checksum = _write(stamped, spec, path)
    return ModelFile(path, spec, checksum, *_depth_names(stamped, spec), is_quantized(stamped))


def write_motion_model(model: ModelProto, spec: MotionSpec, path: str | os.PathLike[str]) -> MotionModelFile:
    """Write a motion graph of our own contract; as `write_model`."""
    path, stamped = Path(path), _copy(model)
    for output in stamped.graph.output:
        _declare_sizes(output, (1, MOTION_OUTPUTS.get(output.name, 0)))
    _expect_size(path, check_motion_graph(stamped), spec)
    return MotionModelFile(path, spec, _write(stamped, spec, path), is_quantized=is_quantized(stamped))


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _declare_sizes(output: ValueInfoProto, sizes: tuple[int, ...]) -> None:
    """Put numbers in place of the names that exporters give to sizes which they cannot infer."""
    for dim, size in zip(output.type.tensor_type.shape.dim, sizes, strict=False):
        if not dim.HasField("dim_value"):
            dim.dim_value = size


def _expect_size(path: Path, found: tuple[int, int], spec: ModelSpec | MotionSpec) -> None:
    if found != (spec.input_width, spec.input_height):
        size = f"{spec.input_width}x{spec.input_height}"
        raise ModelFileError(f"model file {path}: the graph's input is {found[0]}x{found[1]}, but its spec says {size}")


def _write(model: ModelProto, spec: ModelSpec | MotionSpec, path: Path) -> str:
    """Write a checked graph with its metadata; gives its checksum."""
    onnx.checker.check_model(model)
    metadata = to_metadata(spec)
    onnx.helper.set_model_props(model, metadata)
    checksum = _checksum(model)
    onnx.helper.set_model_props(model, {**metadata, CHECKSUM_KEY: checksum})
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return checksum


def _model_file(
    path: Path, model: ModelProto, spec: ModelSpec | MotionSpec, checksum: str
) -> ModelFile | MotionModelFile:
    if isinstance(spec, MotionSpec):
        return MotionModelFile(path, spec, checksum, is_quantized=is_quantized(model))
    return ModelFile(path, spec, checksum, *_depth_names(model, spec), is_quantized(model))


def _depth_names(model: ModelProto, spec: ModelSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the input, and of the outputs: disparity or depth, confidence."""
    outputs = depth_outputs(model, spec.confidence_output)
    return (only_input(model).name,), tuple(output.name for output in outputs if output is not None)


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


def _native_spec(model: ModelProto, metadata: Mapping[str, str]) -> ModelSpec | MotionSpec:
    check_format(metadata)
    if CHECKSUM_KEY not in metadata:
        raise ModelFileError(f"metadata lacks {CHECKSUM_KEY}; export the model again")
    if metadata.get("kind") == "motion":
        return parse_motion_metadata(metadata, *check_motion_graph(model))
    width, height = check_depth_graph(model, metadata.get("output", "disparity"))
    return parse_metadata(metadata, width, height, confidence_output=_native_confidence(model))


def _foreign_spec(model: ModelProto, metadata: Mapping[str, str]) -> ModelSpec:
    check_format(metadata)
    float_input, confidence_output = parse_float_input(metadata), metadata.get(CONFIDENCE_KEY)
    width, height = check_foreign_graph(model, float_input.layout, confidence_output)
    return parse_metadata(metadata, width, height, float_input, confidence_output)


def _sidecar_metadata(path: Path) -> dict[str, str]:
    for sidecar in (path.with_suffix(".yaml"), path.with_name("model.yaml")):
        if sidecar.is_file():
            return read_sidecar(sidecar)
    raise ModelFileError(
        f"metadata lacks {FORMAT_KEY}, and there is no {path.with_suffix('.yaml').name} or model.yaml beside it; "
        "export the model with `python -m training export`, or describe a foreign one in such a sidecar"
    )


def _native_confidence(model: ModelProto) -> str | None:
    return CONFIDENCE_OUTPUT if any(output.name == CONFIDENCE_OUTPUT for output in model.graph.output) else None
