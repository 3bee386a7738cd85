"""The rounding of the precision benchmark is float16's; what is said of depth-base holds on real frames."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from depth_node.model import read_model
from depth_node.precision.calibration import activation_limits
from depth_node.precision.execution import running
from depth_node.precision.frames import read_frames
from depth_node.precision.graph import clean_graph
from depth_node.precision.half import to_half
from depth_node.precision.parity import Inputs, measure_deviation
from depth_node.precision.quantization import quantizable_layers, quantize
from depth_node.resources import default_model
from residual_model import images, residual_graph

ort = pytest.importorskip("onnxruntime")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def rounded_like_half(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("half_rounding").rounded_like_half


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def test_values_are_rounded_as_numpy_does(rounded_like_half) -> None:  # type: ignore[no-untyped-def]
    """A float16 product in the middle of the graph; inputs span its normal range."""
    stored = [
        numpy_helper.from_array(np.eye(1, dtype=np.float32).reshape(1, 1, 1, 1), name) for name in ("a", "b", "c")
    ]
    names = ["x", "first", "second", "y"]
    nodes = [
        helper.make_node("Conv", [names[i], stored[i].name], [names[i + 1]], f"layer{i}") for i in range(len(stored))
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1000]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "identity", values[:1], values[1:], stored)
    model = clean_graph(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))
    rng = np.random.default_rng(0)
    x = (rng.choice([-1, 1], 1000) * np.exp2(rng.uniform(-13, 15.9, 1000))).astype(np.float32).reshape(1, 1, 1, -1)
    assert np.array_equal(run(rounded_like_half(to_half(model)), x=x), x.astype(np.float16).astype(np.float32))


def test_a_network_deviates_as_float16_does(rounded_like_half) -> None:  # type: ignore[no-untyped-def]
    """As NumPy's float16 does, which rounds sums, too."""
    graph = clean_graph(residual_graph())
    (image,) = images(1)
    expected = run(graph, image=image)
    rounded = run(rounded_like_half(to_half(graph)), image=image)
    by_numpy = ReferenceEvaluator(to_half(graph)).run(None, {"image": image})[0]
    deviation, expected_deviation = (np.median(np.abs(found / expected - 1)) for found in (rounded, by_numpy))
    assert 0.3 * expected_deviation < deviation < 1.5 * expected_deviation


def test_depth_base_on_real_frames(shared_data: Path, rounded_like_half) -> None:  # type: ignore[no-untyped-def]
    """Drive 9001, which neither calibration nor training saw: the bounds are those of engines."""
    model = read_model(default_model())
    graph = clean_graph(onnx.load(model.path))
    drives = shared_data / "kitti_raw" / "2011_09_26"
    frames = read_frames(model, drives / "2011_09_26_drive_9001_sync" / "image_02" / "data", 3, lambda *_: None)
    others = read_frames(model, drives / "2011_09_26_drive_0095_sync" / "image_02" / "data", 6, lambda *_: None)
    layers = [layer for layer in quantizable_layers(graph) if "/encoder/" in layer]
    limits = activation_limits(model, graph, layers, others.inputs, lambda *_: None)
    with running(model, graph) as runner:
        references = [runner.run(inputs) for inputs in frames.inputs]
    found = {}
    for name, candidate in (("half", rounded_like_half(to_half(graph))), ("int8", quantize(graph, limits, layers))):
        expected = iter(references)

        def reference(_: Inputs, expected=expected) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
            return next(expected)

        with running(model, candidate) as runner:
            found[name] = measure_deviation(model, runner.run, reference, frames.inputs, "9001", "ONNX Runtime")
    assert found["half"].median < 2e-4
    assert found["half"].p95 < 1e-3
    assert found["int8"].median < 1e-2
    assert found["int8"].p95 < 5e-2
