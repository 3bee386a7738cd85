"""A motion model whose outputs are closed-form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from depth_node.model import MotionModelFile, MotionSpec, write_motion_model

INTRINSICS = (0.58, 1.92, 0.49, 0.46)


def motion_graph(width: int = 64, height: int = 32) -> onnx.ModelProto:
    """axis_angle: mean of image_b less that of image_a, per channel, over 255; translation: mean of image_a per channel
    over 255; intrinsics: `INTRINSICS`.
    """
    nodes = [
        helper.make_node("Cast", ["image_a"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["image_b"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["a"], ["mean_a"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["b"], ["mean_b"], axes=[1, 2], keepdims=0),
        helper.make_node("Sub", ["mean_b", "mean_a"], ["change"]),
        helper.make_node("Div", ["change", "white"], ["axis_angle"]),
        helper.make_node("Div", ["mean_a", "white"], ["translation"]),
        helper.make_node("Identity", ["K"], ["intrinsics"]),
    ]
    weights = [
        numpy_helper.from_array(np.float32(255), "white"),
        numpy_helper.from_array(np.float32([INTRINSICS]), "K"),
    ]
    size = [1, height, width, 3]
    images = [helper.make_tensor_value_info(name, TensorProto.UINT8, size) for name in ("image_a", "image_b")]
    sizes = {"intrinsics": 4, "axis_angle": 3, "translation": 3}  # in another order than the contract's
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count]) for name, count in sizes.items()]
    graph = helper.make_graph(nodes, "motion", images, outputs, weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def write_tiny_motion_model(path: Path, width: int = 64, height: int = 32, **spec: Any) -> MotionModelFile:
    """A genuine motion model file of `motion_graph`."""
    values: dict[str, Any] = {"metric": False, "dataset": "none", "license": "Apache-2.0", "recipe": "means", **spec}
    return write_motion_model(motion_graph(width, height), MotionSpec(width, height, **values), path)
