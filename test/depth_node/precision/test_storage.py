"""Weights stored in fewer bytes, and back: the graph computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from depth_node.backends import available_backends, create_backend
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError
from depth_node.model import ModelFile, read_model, write_model
from depth_node.model_graph import is_quantized
from depth_node.precision.frames import ModelFrames
from depth_node.precision.graph import clean_graph, initializers
from depth_node.precision.int8 import Int8Graph, as_model, calibrate_int8
from depth_node.precision.quantization import quantize, quantized_inputs
from depth_node.precision.recipe import MeasuredRecipe, auto_precisions
from depth_node.precision.storage import (
    restore_quantized_weights,
    store_quantized_weights,
    store_weights_as_half,
)
from depth_node.tools import run

LAYERS = ("block.1", "block.2", "reduce")
IMAGE = np.random.default_rng(3).integers(0, 256, (1, 32, 64, 3), np.uint8)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def computed(model: onnx.ModelProto) -> NDArray[np.float32]:
    """By ONNX Runtime without its fusions, so that each node computes what ONNX says of it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": IMAGE})
    return np.asarray(output)


@pytest.fixture
def quantized(graph: onnx.ModelProto) -> onnx.ModelProto:
    limits = {place.tensor: 4.0 for place in quantized_inputs(graph, LAYERS)}
    return quantize(graph, limits, LAYERS)


def test_stored_integers_are_the_rounded_weights_and_compute_the_same(
    graph: onnx.ModelProto, quantized: onnx.ModelProto
) -> None:
    compact = copied(quantized)
    store_quantized_weights(compact)
    onnx.checker.check_model(compact, full_check=True)
    stored, weights = initializers(compact), initializers(graph)
    for layer in LAYERS:
        assert f"{layer}.weight" not in stored
        integers = numpy_helper.to_array(stored[f"{layer}.weight.int8"])
        scales = numpy_helper.to_array(stored[f"{layer}.weight.scale"]).reshape(-1, 1, 1, 1)
        floats = numpy_helper.to_array(weights[f"{layer}.weight"])
        assert integers.dtype == np.int8
        assert np.abs(integers).max() == 127  # the largest of each channel is the end of the grid
        assert np.abs(integers * scales - floats).max() <= 0.5 * scales.max() * 1.001
    np.testing.assert_array_equal(computed(compact), computed(quantized))


def test_restored_weights_give_the_same_integers_again(quantized: onnx.ModelProto) -> None:
    compact = copied(quantized)
    store_quantized_weights(compact)
    restored = copied(compact)
    restore_quantized_weights(restored)
    onnx.checker.check_model(restored, full_check=True)
    assert not [t.name for t in restored.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    np.testing.assert_array_equal(computed(restored), computed(compact))
    store_quantized_weights(restored)
    integers = [
        sorted(numpy_helper.to_array(t).tobytes() for t in model.graph.initializer if t.data_type == TensorProto.INT8)
        for model in (compact, restored)
    ]
    assert integers[0] == integers[1]


def test_large_weights_are_halves_and_small_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    large, small = rng.normal(size=(32, 32)).astype(np.float32), rng.normal(size=(32,)).astype(np.float32)
    product = onnx.helper.make_node("MatMul", ["x", "large"], ["scaled"])
    total = onnx.helper.make_node("Add", ["scaled", "small"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(large, "large"), numpy_helper.from_array(small, "small")]
    graph = onnx.helper.make_graph([product, total], "product", values[:1], values[1:], weights)
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    store_weights_as_half(model)
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored == {"large.half": TensorProto.FLOAT16, "small": TensorProto.FLOAT}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = rng.normal(size=(1, 32)).astype(np.float32)
    expected = x @ large.astype(np.float16).astype(np.float32) + small
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def int8_model(quantized: onnx.ModelProto, model: ModelFile, tmp_path: Path) -> ModelFile:
    write_model(as_model(Int8Graph(quantized, {})), model.spec, tmp_path / "int8.onnx")
    return read_model(tmp_path / "int8.onnx")


def test_a_file_says_that_it_is_int8(
    int8_model: ModelFile, model: ModelFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect_model", [str(int8_model.path)]) == 0
    assert "int8 where the graph has Q/DQ pairs" in capsys.readouterr().out
    for name in available_backends():
        backend = create_backend(int8_model, name)
        assert backend.precision == "int8"
        backend.close()
    assert int8_model.is_quantized
    assert not model.is_quantized
    assert auto_precisions(int8_model) == ("int8",)
    assert auto_precisions(model) == ("fp16", "fp32")


def test_engines_of_an_int8_file_need_no_calibration(int8_model: ModelFile) -> None:
    recipe = MeasuredRecipe()
    assert recipe.fingerprint(int8_model, EngineOptions("int8")) == ""
    graph = onnx.load_model_from_string(
        recipe.prepare(int8_model, EngineOptions("int8"), lambda *_: None, strongly_typed=False).onnx
    )
    assert is_quantized(graph)
    assert not [t.name for t in graph.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    np.testing.assert_allclose(computed(graph), computed(onnx.load(int8_model.path)), rtol=1e-6)
    half = recipe.prepare(int8_model, EngineOptions("int8"), lambda *_: None)
    onnx.checker.check_model(onnx.load_model_from_string(half.onnx), full_check=True)


def test_an_int8_file_has_no_other_precision(int8_model: ModelFile) -> None:
    with pytest.raises(BackendError, match=r"int8.onnx is in int8 itself, not in fp16: take precision auto or int8"):
        MeasuredRecipe().prepare(int8_model, EngineOptions("fp16"), lambda *_: None)
    with pytest.raises(BackendError, match="in int8 already"):
        calibrate_int8(int8_model, ModelFrames(({"image": IMAGE},), "noise"), lambda *_: None)


def test_cleaning_keeps_the_integers(int8_model: ModelFile) -> None:
    cleaned = clean_graph(onnx.load(int8_model.path))
    stored = initializers(cleaned)
    assert all(stored[f"{layer}.weight.int8"].data_type == TensorProto.INT8 for layer in LAYERS)
    np.testing.assert_array_equal(computed(cleaned), computed(onnx.load(int8_model.path)))
