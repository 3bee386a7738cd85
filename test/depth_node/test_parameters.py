"""The table of parameters, its checks, and the files made from it."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import yaml

from depth_node.errors import ParameterError
from depth_node.parameter_files import main, to_markdown, to_yaml
from depth_node.parameters import PARAMETERS, Settings

REPOSITORY = Path(__file__).resolve().parents[2]


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().cloud_stride = 3  # type: ignore[misc]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_default_has_the_type_that_ros_declares(parameter: Any) -> None:
    assert type(parameter.default) is parameter.type
    assert parameter.description.endswith(".")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("backend", "tensorflow", "backend is 'tensorflow'; expected one of: auto, tensorrt, openvino, onnxruntime"),
        ("precision", "int4", "expected one of: auto, fp32"),
        ("image_transport", "theora", "expected one of: raw, compressed"),
        ("threads", -1, "threads is -1; expected 0 or more"),
        ("threads", 1025, "expected 1024 or less"),
        ("cloud_stride", 0, "cloud.stride is 0; expected 1 or more"),
        ("max_range", math.nan, "max_range is nan"),
        ("max_range", 0.0, "min_range is 0.0 and max_range is 0.0"),
        ("color_min_depth", 90.0, "color.min_depth is 90.0 and color.max_depth is 80.0"),
        ("color_map", "jet", "expected one of: turbo"),
        ("rectify", "yes", "expected one of: auto, off, done"),
        ("output_resolution", "640x192", "expected one of: image, half, quarter, model"),
        ("depth_encoding", "mono16", "expected one of: 32FC1, 16UC1"),
        ("rate_limit", -1.0, "expected 0.0 or more"),
        ("min_confidence", 1.5, "expected 1.0 or less"),
        ("scale_factor", 0.0, "scale.factor is 0.0"),
        ("scale_mode", "camera_height", "scale.camera_height is 0; set scale.camera_height first, in metres"),
        ("cloud_voxel_size", 0.1, "set cloud.organized to false first"),
        ("scan_min_height", 0.5, "scan.min_height is 0.5 and scan.max_height is 0.3"),
    ],
)
def test_impossible_value_is_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Settings(**{name: value})
    assert said in str(caught.value)


def test_yaml_holds_all_defaults() -> None:
    (parameters,) = (node["ros__parameters"] for node in yaml.safe_load(to_yaml()).values())
    flat = {}
    for name, value in parameters.items():
        flat |= {f"{name}.{rest}": each for rest, each in value.items()} if isinstance(value, dict) else {name: value}
    assert flat == {parameter.name: parameter.default for parameter in PARAMETERS}


def test_names_in_ros_have_a_point_behind_their_group() -> None:
    names = {parameter.attribute: parameter.name for parameter in PARAMETERS}
    assert (names["scale_mode"], names["cloud_voxel_size"]) == ("scale.mode", "cloud.voxel_size")
    assert names["image_transport"] == "image_transport"


@pytest.mark.parametrize(
    ("path", "format_", "made"),
    [("config/depth.yaml", "yaml", to_yaml()), ("docs/parameters.md", "markdown", to_markdown())],
)
def test_files_are_up_to_date(path: str, format_: str, made: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (REPOSITORY / path).read_text() == made, f"python -m depth_node.parameter_files {format_} > {path}"
    main([format_])
    assert capsys.readouterr().out == made
