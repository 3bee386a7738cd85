"""What a model file says about itself, and its text: ONNX `metadata_props`, or a YAML sidecar of a foreign file."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from depth_node.errors import ModelFileError

FORMAT_KEY, FORMAT_VERSION = "depth_node.format", "1"
CHECKSUM_KEY = "checksum"
SPEC_KEYS = (
    "kind",
    "input.color",
    "output",
    "min_depth",
    "max_depth",
    "metric",
    "intrinsics.prior",
    "dataset",
    "license",
    "recipe",
)
MOTION_SPEC_KEYS = ("kind", "input.color", "metric", "dataset", "license", "recipe")
SIDECAR_KEYS = ("input.layout", "input.mean", "input.std")
CONFIDENCE_KEY = "output.confidence"
OPTIONAL_SIDECAR_KEYS = (CONFIDENCE_KEY, CHECKSUM_KEY)

CONFIDENCE_OUTPUT = "confidence"

MAX_INPUT_SIDE = 8192
MAX_SIDECAR_BYTES = 64 * 1024


@dataclass(frozen=True)
class FloatInput:
    """How a foreign model wants its image: float32, (pixel / 255 - mean) / std per channel.

    layout: `NCHW` or `NHWC`; mean, std: one number per channel, in the order of `ModelSpec.color`.
    """

    layout: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        _expect_one_of("input.layout", self.layout, ("NCHW", "NHWC"))
        _expect_numbers("input.mean", self.mean, 3)
        _expect_numbers("input.std", self.std, 3)
        if min(self.std) <= 0:
            raise ModelFileError(f"input.std is {self.std}; expected positive numbers")


@dataclass(frozen=True)
class ModelSpec:
    """The contract of one depth model, see docs/architecture.md.

    input_width, input_height: pixels of the network's input.
    min_depth, max_depth: range that the model was made for; metres if `metric`, else its own unit.
    intrinsics_prior: (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H) of the camera it was trained on.
    float_input: None for a file of our own (uint8 [1, H, W, 3]); set for a foreign one.
    confidence_output: name of the graph's output that says how sure the model is of each pixel, 0 to 1 (sure), if it
        has one; always `confidence` in a file of our own.

    Raises:
        ModelFileError: a value is outside the contract.
    """

    input_width: int
    input_height: int
    min_depth: float
    max_depth: float
    metric: bool
    intrinsics_prior: tuple[float, float, float, float]
    dataset: str
    license: str
    recipe: str
    kind: str = "depth"
    color: str = "rgb"
    output: str = "disparity"
    float_input: FloatInput | None = None
    confidence_output: str | None = None

    def __post_init__(self) -> None:
        _expect_size(self.input_width, self.input_height)
        _expect_one_of("kind", self.kind, ("depth",))
        _expect_one_of("input.color", self.color, ("rgb", "bgr") if self.float_input else ("rgb",))
        _expect_one_of("output", self.output, ("disparity", "depth"))
        _expect_numbers("min_depth, max_depth", (self.min_depth, self.max_depth), 2)
        if not 0 < self.min_depth < self.max_depth:
            raise ModelFileError(
                f"min_depth is {self.min_depth} and max_depth is {self.max_depth}; expected 0 < min_depth < max_depth"
            )
        _expect_numbers("intrinsics.prior", self.intrinsics_prior, 4)
        if min(self.intrinsics_prior[:2]) <= 0:
            raise ModelFileError(f"intrinsics.prior is {self.intrinsics_prior}; expected positive focal lengths")
        if self.confidence_output is not None and self.float_input is None:
            _expect_one_of("the confidence output", self.confidence_output, (CONFIDENCE_OUTPUT,))

    @property
    def has_confidence(self) -> bool:
        """Whether the model says how sure it is of each pixel."""
        return self.confidence_output is not None


@dataclass(frozen=True)
class MotionSpec:
    """The contract of one motion model: the motion between two images of one camera, and its intrinsics.

    input_width, input_height: pixels of each of the network's two inputs.
    metric: whether its translations are metres; else they share one unknown factor.

    Raises:
        ModelFileError: a value is outside the contract.
    """

    input_width: int
    input_height: int
    metric: bool
    dataset: str
    license: str
    recipe: str
    kind: str = "motion"
    color: str = "rgb"

    def __post_init__(self) -> None:
        _expect_size(self.input_width, self.input_height)
        _expect_one_of("kind", self.kind, ("motion",))
        _expect_one_of("input.color", self.color, ("rgb",))


def to_metadata(spec: ModelSpec | MotionSpec) -> dict[str, str]:
    """The metadata of a file of our own, without its checksum."""
    if isinstance(spec, MotionSpec):
        return {
            FORMAT_KEY: FORMAT_VERSION,
            "kind": spec.kind,
            "input.color": spec.color,
            "metric": "true" if spec.metric else "false",
            "dataset": spec.dataset,
            "license": spec.license,
            "recipe": spec.recipe,
        }
    return {
        FORMAT_KEY: FORMAT_VERSION,
        "kind": spec.kind,
        "input.color": spec.color,
        "output": spec.output,
        "min_depth": repr(float(spec.min_depth)),
        "max_depth": repr(float(spec.max_depth)),
        "metric": "true" if spec.metric else "false",
        "intrinsics.prior": ", ".join(repr(float(value)) for value in spec.intrinsics_prior),
        "dataset": spec.dataset,
        "license": spec.license,
        "recipe": spec.recipe,
    }


def check_format(metadata: Mapping[str, str]) -> None:
    """Refuse metadata of another version of the contract."""
    if metadata[FORMAT_KEY] != FORMAT_VERSION:
        raise ModelFileError(
            f"{FORMAT_KEY} is '{metadata[FORMAT_KEY]}'; this version of depth_node reads '{FORMAT_VERSION}': "
            "export the model again with it, or install the version that wrote it"
        )


def parse_metadata(
    metadata: Mapping[str, str],
    width: int,
    height: int,
    float_input: FloatInput | None = None,
    confidence_output: str | None = None,
) -> ModelSpec:
    """The spec of a depth model with an input of `width` x `height` pixels; what the graph says is passed in."""
    _expect_keys(metadata, SPEC_KEYS)
    _expect_one_of("metric", metadata["metric"], ("true", "false"))
    prior = _numbers("intrinsics.prior", metadata["intrinsics.prior"], 4)
    return ModelSpec(
        input_width=width,
        input_height=height,
        min_depth=_numbers("min_depth", metadata["min_depth"], 1)[0],
        max_depth=_numbers("max_depth", metadata["max_depth"], 1)[0],
        metric=metadata["metric"] == "true",
        intrinsics_prior=(prior[0], prior[1], prior[2], prior[3]),
        dataset=metadata["dataset"],
        license=metadata["license"],
        recipe=metadata["recipe"],
        kind=metadata["kind"],
        color=metadata["input.color"],
        output=metadata["output"],
        float_input=float_input,
        confidence_output=confidence_output,
    )


def parse_motion_metadata(metadata: Mapping[str, str], width: int, height: int) -> MotionSpec:
    """The spec of a motion model with inputs of `width` x `height` pixels."""
    _expect_keys(metadata, MOTION_SPEC_KEYS)
    _expect_one_of("metric", metadata["metric"], ("true", "false"))
    return MotionSpec(
        input_width=width,
        input_height=height,
        metric=metadata["metric"] == "true",
        dataset=metadata["dataset"],
        license=metadata["license"],
        recipe=metadata["recipe"],
        kind=metadata["kind"],
        color=metadata["input.color"],
    )


def parse_float_input(metadata: Mapping[str, str]) -> FloatInput:
    """How a foreign model wants its image, from its sidecar."""
    mean = _numbers("input.mean", metadata["input.mean"], 3)
    return FloatInput(metadata["input.layout"], mean, _numbers("input.std", metadata["input.std"], 3))


def read_sidecar(path: Path) -> dict[str, str]:
    """Metadata of a foreign model from YAML: the keys of a model file, and how its float input is normalised."""
    if path.stat().st_size > MAX_SIDECAR_BYTES:
        raise ModelFileError(f"{path.name} has {path.stat().st_size} bytes; expected at most {MAX_SIDECAR_BYTES}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path.name} holds a {type(content).__name__}; expected a mapping of keys to values")
    required = (FORMAT_KEY, *SPEC_KEYS, *SIDECAR_KEYS)
    known = (*required, *OPTIONAL_SIDECAR_KEYS)
    for key in content:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ModelFileError(f"{path.name} has the unknown key '{key}'; the nearest known one is '{nearest}'")
    missing = [key for key in required if key not in content]
    if missing:
        raise ModelFileError(f"{path.name} lacks {', '.join(missing)}")
    return {key: _as_text(value) for key, value in content.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(_as_text(item) for item in value)
    return str(value)


def _numbers(key: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ModelFileError(f"{key} is '{text}'; expected {count} number(s) separated by commas") from None
    _expect_numbers(key, numbers, count)
    return numbers


def _expect_numbers(key: str, numbers: tuple[float, ...], count: int) -> None:
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise ModelFileError(f"{key} is {numbers}; expected {count} finite number(s)")


def _expect_keys(metadata: Mapping[str, str], keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in metadata]
    if missing:
        raise ModelFileError(f"lacks {', '.join(missing)}; found {', '.join(sorted(metadata)) or 'no metadata'}")


def _expect_size(width: int, height: int) -> None:
    if not (0 < width <= MAX_INPUT_SIDE and 0 < height <= MAX_INPUT_SIDE):
        raise ModelFileError(f"input of {width}x{height} pixels; expected 1 to {MAX_INPUT_SIDE} along each side")


def _expect_one_of(key: str, found: str, expected: tuple[str, ...]) -> None:
    if found not in expected:
        raise ModelFileError(f"{key} is '{found}'; expected {' or '.join(repr(value) for value in expected)}")
