"""float16 graphs: which tensors have which type, and how far their numbers are from float32's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from depth_node.errors import ModelFileError
from depth_node.precision.frames import ModelFrames
from depth_node.precision.graph import clean_graph, element_types
from depth_node.precision.half import to_half
from depth_node.precision.quantization import quantizable_layers, quantize, quantized_inputs
from residual_model import images


def convolution_types(model: onnx.ModelProto) -> dict[str, set[int]]:
    """Types of inputs and output of every convolution."""
    types = element_types(model)
    return {n.name: {types[name] for name in (*n.input, *n.output)} for n in model.graph.node if n.op_type == "Conv"}


def test_convolutions_are_half_but_for_the_head(graph: onnx.ModelProto) -> None:
    half = to_half(graph)
    onnx.checker.check_model(half, full_check=True)
    assert [entry.version for entry in half.opset_import] == [17]
    expected = {name: {TensorProto.FLOAT16} for name in ("stem", "block.1", "block.2", "reduce", "merge")}
    assert convolution_types(half) == expected | {"head": {TensorProto.FLOAT}}
    types = element_types(half)
    assert types["image"] == TensorProto.UINT8
    assert types["disparity"] == types["normalized.out"] == TensorProto.FLOAT
    # One cast where float16 begins and one where it ends: the skip and the residual share theirs.
    assert sum(node.op_type == "Cast" for node in half.graph.node) == 3  # and that of the bytes
    assert types["scales"] == TensorProto.FLOAT  # of Resize, in every version


def test_layers_that_are_kept_have_casts_around_them(graph: onnx.ModelProto) -> None:
    half = to_half(graph, keep=["reduce"])
    onnx.checker.check_model(half, full_check=True)
    assert convolution_types(half)["reduce"] == {TensorProto.FLOAT}
    assert convolution_types(half)["merge"] == {TensorProto.FLOAT16}


def test_numbers_are_those_of_float32_within_float16(graph: onnx.ModelProto) -> None:
    """Computed in float16 by NumPy. Six layers of roundings by 2^-11 each, on sums whose terms partly cancel."""
    (image,) = images(1)
    expected = ReferenceEvaluator(graph).run(None, {"image": image})[0]
    found = ReferenceEvaluator(to_half(graph)).run(None, {"image": image})[0]
    assert found.dtype == np.float32
    deviation = np.abs(found / expected - 1)
    assert 0 < deviation.max() < 10 * 2.0**-11


def test_normalisations_are_in_float32() -> None:
    """The mean square of values near 1000 is beyond float16; a transformer's are."""
    weights = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    names = ("first", "head", "square")
    stored = [
        numpy_helper.from_array(value, name)
        for name, value in zip(names, (weights, weights, np.float32(2)), strict=True)
    ]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], "first"),
        helper.make_node("Pow", ["a", "square"], ["b"], "pow"),
        helper.make_node("ReduceMean", ["b"], ["c"], "mean", axes=[1], keepdims=1),
        helper.make_node("Sqrt", ["c"], ["d"], "root"),
        helper.make_node("Div", ["a", "d"], ["e"], "normalized"),
        helper.make_node("Conv", ["e", "head"], ["y"], "head"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 1, 1]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "normalization", values[:1], values[1:], stored)
    model = clean_graph(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))
    half = to_half(model)
    onnx.checker.check_model(half, full_check=True)
    assert element_types(half)["a"] == TensorProto.FLOAT16
    x = np.float32([1000, -2000, 500]).reshape(1, 3, 1, 1)
    found = ReferenceEvaluator(half).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, x / np.sqrt(np.mean(x**2)), rtol=2e-3)


def test_weights_beyond_float16_are_refused(graph: onnx.ModelProto) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(graph)
    (bias,) = (tensor for tensor in large.graph.initializer if tensor.name == "merge.bias")
    bias.CopyFrom(numpy_helper.from_array(np.float32([1, 2, 70000, 4]), "merge.bias"))
    with pytest.raises(ModelFileError, match=r"'merge\.bias' reach 70000, float16 ends at 65504"):
        to_half(large)


def test_quantised_graphs_have_half_pairs_in_opset_19(graph: onnx.ModelProto, frames: ModelFrames) -> None:
    """Scales are numbers of float16, so that the grid of the weights is the same in both."""
    layers = quantizable_layers(graph)
    limits = {place.tensor: 4.0 for place in quantized_inputs(graph, layers)}
    quantized = quantize(graph, limits, layers)
    half = to_half(quantized)
    onnx.checker.check_model(half, full_check=True)
    assert [entry.version for entry in half.opset_import] == [19]
    types = element_types(half)
    pairs = [node for node in half.graph.node if node.op_type == "DequantizeLinear"]
    assert {types[name] for node in pairs for name in node.output} == {TensorProto.FLOAT16}
    scales = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer if t.name.endswith(".scale")}
    halves = {t.name: numpy_helper.to_array(t) for t in half.graph.initializer}
    for name, scale in scales.items():
        assert np.array_equal(scale, halves[f"{name}.float16"].astype(np.float32))
    image = frames.inputs[0]
    newer = onnx.version_converter.convert_version(quantized, 19)  # the evaluator has no older pairs
    expected = ReferenceEvaluator(newer).run(None, image)[0]
    assert np.median(np.abs(ReferenceEvaluator(half).run(None, image)[0] / expected - 1)) < 5e-3
