"""Q/DQ pairs: where TensorRT's rules for explicit quantisation want them, and what they compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from depth_node.precision.calibration import best_limit
from depth_node.precision.graph import clean_graph, consumers, initializers, producers
from depth_node.precision.quantization import quantizable_layers, quantize, quantized_inputs

LAYERS = ("stem", "block.1", "block.2", "reduce", "merge")


def quantized_graph(graph: onnx.ModelProto, layers: tuple[str, ...] = LAYERS) -> onnx.ModelProto:
    limits = {place.tensor: 4.0 for place in quantized_inputs(graph, LAYERS)}
    return quantize(graph, limits, layers)


def quantized_by_pair(model: onnx.ModelProto, name: str) -> bool:
    """Whether a tensor is the output of DequantizeLinear of QuantizeLinear."""
    made_by = producers(model)
    pair = made_by.get(name)
    if pair is None or pair.op_type != "DequantizeLinear":
        return False
    return made_by[pair.input[0]].op_type == "QuantizeLinear"


def test_all_layers_but_the_head_can_be_quantised(graph: onnx.ModelProto) -> None:
    assert quantizable_layers(graph) == LAYERS


def test_inputs_of_every_layer_are_quantised_and_no_outputs(graph: onnx.ModelProto) -> None:
    quantized = quantized_graph(graph)
    onnx.checker.check_model(quantized, full_check=True)
    assert [entry.version for entry in quantized.opset_import] == [17]
    used_by = consumers(quantized)
    for node in quantized.graph.node:
        if node.op_type != "Conv":
            continue
        is_quantized = [quantized_by_pair(quantized, name) for name in node.input[:2]]
        assert is_quantized == [node.name != "head"] * 2
        assert node.input[2] in initializers(quantized)  # biases stay as they are
        # What follows fuses with the layer: nothing quantises its output before.
        assert {user.op_type for user in used_by[node.output[0]]} <= {"Relu", "Elu", "Add", "Sigmoid"}


def test_pairs_are_symmetric_int8_per_tensor_and_weights_per_output_channel(graph: onnx.ModelProto) -> None:
    quantized = quantized_graph(graph)
    stored = initializers(quantized)
    for node in quantized.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero_point = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
        tensor = node.name.rpartition(".")[0]
        if not tensor.endswith(".weight"):
            assert scale.shape == ()
            assert scale == pytest.approx(4.0 / 127, rel=2.0**-10)
            continue
        weights = numpy_helper.to_array(stored[tensor])
        largest = np.abs(weights).max(axis=(1, 2, 3))
        assert helper.get_attribute_value(node.attribute[0]) == 0  # axis: output channels
        np.testing.assert_allclose(scale, largest / 127, rtol=2.0**-10)
        assert np.all(largest / scale <= 127)  # nothing of the weights is clipped
        assert np.array_equal(scale, scale.astype(np.float16))


def test_the_residual_is_quantised_and_the_sum_s_other_input_is_not(graph: onnx.ModelProto) -> None:
    """TensorRT fuses the Add with the convolution before it; in int8 only if the residual is int8."""
    quantized = quantized_graph(graph)
    (add,) = (node for node in quantized.graph.node if node.name == "block.add")
    made_by = producers(quantized)
    assert [made_by[name].name for name in add.input] == ["block.2", "stem.act.out.DQ"]
    # One pair serves the residual and the layer that takes the same tensor.
    assert sum(node.name == "stem.act.out.Q" for node in quantized.graph.node) == 1


def test_layers_that_are_left_out_have_no_pairs(graph: onnx.ModelProto) -> None:
    quantized = quantized_graph(graph, ("stem", "merge"))
    for node in quantized.graph.node:
        if node.op_type == "Conv":
            assert quantized_by_pair(quantized, node.input[0]) == (node.name in ("stem", "merge"))
    (add,) = (node for node in quantized.graph.node if node.name == "block.add")
    assert not any(quantized_by_pair(quantized, name) for name in add.input)


def test_of_two_convolutions_that_are_added_the_last_fuses() -> None:
    """A ResNet's downsampling block: the shortcut is a convolution, too."""
    rng = np.random.default_rng(0)
    names = ("first", "shortcut", "second", "head")
    weights = [numpy_helper.from_array(rng.normal(size=(3, 3, 1, 1)).astype(np.float32), f"{n}.weight") for n in names]
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["a"], "first"),
        helper.make_node("Conv", ["x", "shortcut.weight"], ["b"], "shortcut"),
        helper.make_node("Conv", ["a", "second.weight"], ["c"], "second"),
        helper.make_node("Add", ["c", "b"], ["sum"], "add"),
        helper.make_node("Conv", ["sum", "head.weight"], ["y"], "head"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "block", values[:1], values[1:], weights)
    model = clean_graph(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))
    places = quantized_inputs(model, ("first", "shortcut", "second"))
    assert [(place.consumer, place.tensor) for place in places if place.consumer == "add"] == [("add", "b")]
    # The Add stays in float with its layer, whatever becomes of the shortcut.
    assert not [p for p in quantized_inputs(model, ("first", "shortcut")) if p.consumer == "add"]


def test_a_quantised_layer_computes_integers_times_scales() -> None:
    """Against int8 arithmetic written out: 1x1 convolution, values beyond the limit clipped, halves to even."""
    pytest.importorskip("onnxruntime")
    import onnxruntime as ort

    weights = np.float32([[2.54, -1.2], [0.06, 0.127]])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "layer"),
        helper.make_node("Conv", ["a", "identity"], ["y"], "head"),
    ]
    stored = [
        numpy_helper.from_array(weights.reshape(2, 2, 1, 1), "w"),
        numpy_helper.from_array(np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1), "identity"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 1, 3]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "layer", values[:1], values[1:], stored)
    model = clean_graph(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))
    step = 2.0**-5
    quantized = quantize(model, {"x": 127 * step}, ["layer"])
    x = np.float32([[0.1, -0.25, 100.0], [1.0, 2.5 * step, -100.0]]).reshape(1, 2, 1, 3)
    session = ort.InferenceSession(quantized.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x})[0]

    integers = np.clip(np.rint(x[0, :, 0] / step), -128, 127)
    assert integers.tolist() == [[3, -8, 127], [32, 2, -128]]
    scales = np.abs(weights).max(axis=1) / 127
    weight_integers = np.rint(weights / scales[:, None])
    assert weight_integers.tolist() == [[127, -60], [60, 127]]
    expected = (weight_integers @ integers) * scales[:, None] * step
    np.testing.assert_allclose(found[0, :, 0], expected, rtol=1e-3)  # scales are rounded up to float16


def test_the_best_limit_of_even_values_is_their_largest() -> None:
    values = np.linspace(0, 3, 1000, dtype=np.float32)
    assert best_limit(values, 3.0) == pytest.approx(3.0, rel=0.03)


def test_the_best_limit_clips_a_few_that_are_far_off() -> None:
    """A grid that reached the one value of 100 would have steps of 0.8, and round all others to 0 or 1."""
    values = np.append(np.random.default_rng(0).uniform(0, 1, 10**6).astype(np.float32), np.float32(100))
    assert best_limit(values, 100.0) == pytest.approx(20.0)  # the smallest that is tried
    assert best_limit(values[:-1], 1.0) == pytest.approx(1.0, rel=0.03)


def test_the_limit_of_zeros_is_no_division_by_zero() -> None:
    assert best_limit(np.zeros(10, np.float32), 0.0) > 0


@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=50).filter(lambda values: max(values) > 1e-3))
def test_no_limit_is_worse_than_the_largest_value(values: list[float]) -> None:
    magnitudes = np.float32(values)

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.mean((np.clip(np.rint(magnitudes / step), -128, 127) * step - magnitudes) ** 2))

    limit = best_limit(magnitudes, float(magnitudes.max()))
    assert 0 < limit <= magnitudes.max()
    assert error(limit) <= error(float(magnitudes.max())) * (1 + 1e-6)
