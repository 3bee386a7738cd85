"""A depth network in miniature, with all that real ones have: residual, skip, reflection padding, stored float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from depth_node.model import ModelFile, ModelSpec, write_model

CHANNELS = 8


def residual_graph(width: int = 64, height: int = 32, seed: int = 0) -> onnx.ModelProto:
    """Stem, a residual block, a decoder with skip and reflection padding, head, sigmoid to disparity in 0.02..2.02.

    Layers: stem, block.1, block.2 (added to stem's output), reduce, merge, head.
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name, **attributes))
        return f"{name}.out"

    def conv(name: str, x: str, inputs: int, outputs: int, **attributes: Any) -> str:
        kernel = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3))
        half = constant(f"{name}.weight.half", kernel.astype(np.float16))
        nodes.append(helper.make_node("Cast", [half], [f"{name}.weight"], to=TensorProto.FLOAT))
        bias = constant(f"{name}.bias", rng.normal(0, 0.1, outputs).astype(np.float32))
        return node("Conv", [x, f"{name}.weight", bias], name, **attributes)

    x = node("Transpose", ["image"], "planes", perm=[0, 3, 1, 2])
    x = node("Cast", [x], "float", to=TensorProto.FLOAT)
    x = node("Div", [x, constant("white", np.float32(255))], "scaled")
    x = node("Sub", [x, constant("mean", np.float32([0.45]).reshape(1, 1, 1, 1))], "normalized")
    stem = node("Relu", [conv("stem", x, 3, CHANNELS, pads=[1] * 4, strides=[2, 2])], "stem.act")
    x = node("Relu", [conv("block.1", stem, CHANNELS, CHANNELS, pads=[1] * 4)], "block.act")
    x = node("Add", [conv("block.2", x, CHANNELS, CHANNELS, pads=[1] * 4), stem], "block.add")
    block = node("Relu", [x], "block.out")
    # Padding as torch exports it: sizes that are computed of constants.
    half_pads = constant("pads.half", np.int64([0, 0, 1, 1]))
    pads = node("Concat", [half_pads, half_pads], "pads", axis=0)
    x = node(
        "Elu", [conv("reduce", node("Pad", [block, pads], "reduce.pad", mode="reflect"), CHANNELS, 4)], "reduce.act"
    )
    x = node("Concat", [x, block], "skip", axis=1)
    scales = constant("scales", np.float32([1, 1, 2, 2]))
    x = node("Resize", [x, "", scales], "up", mode="nearest", coordinate_transformation_mode="asymmetric")
    x = node("Elu", [conv("merge", node("Pad", [x, pads], "merge.pad", mode="reflect"), CHANNELS + 4, 4)], "merge.act")
    x = node("Cast", [x], "needless", to=TensorProto.FLOAT)
    x = node("Sigmoid", [conv("head", node("Pad", [x, pads], "head.pad", mode="reflect"), 4, 1)], "sigmoid")
    x = node("Gather", [x, constant("zero", np.int64(0))], "channel", axis=1)
    x = node("Mul", [x, constant("range", np.float32(2))], "scaled_sigmoid")
    nodes.append(helper.make_node("Add", [x, constant("nearest", np.float32(0.02))], ["disparity"], "disparity"))

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])
    disparity = helper.make_tensor_value_info("disparity", TensorProto.FLOAT, [1, height, width])
    graph = helper.make_graph(nodes, "residual", [image], [disparity], weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def write_residual_model(path: Path, **size: int) -> ModelFile:
    """A genuine model file of `residual_graph`."""
    width, height = size.get("width", 64), size.get("height", 32)
    prior = (0.58, 1.92, 0.49, 0.46)
    spec = ModelSpec(width, height, 0.4, 60.0, False, prior, "none", "Apache-2.0", "random weights")
    return write_model(residual_graph(**size), spec, path)


def images(count: int, width: int = 64, height: int = 32) -> list[np.ndarray]:
    """uint8 [1, height, width, 3] each, with structure."""
    import cv2

    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (count, 6, 10, 3), np.uint8)
    return [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)[None] for image in coarse]
