"""Images are cast before anything else; the graph computes exactly what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import ModelFileError
from depth_node.model import read_model
from depth_node.precision.graph import clean_graph
from depth_node.precision.image_inputs import cast_images_first
from depth_node.precision.recipe import MeasuredRecipe
from depth_node.resources import default_model

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3), np.uint8)


def graph_of(*nodes: NodeProto) -> ModelProto:
    """`image` uint8 [1, 4, 6, 3] to `out`."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 6, 3])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    flat = numpy_helper.from_array(np.array([1, -1], np.int64), "flat")
    graph = helper.make_graph(list(nodes), "test", [image], [output], [flat])
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    )


def node(op: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], f"{op} {output}", **attributes)


def consumers(model: ModelProto, name: str) -> list[str]:
    return [node.op_type for node in model.graph.node if name in node.input]


@pytest.mark.parametrize("target", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_what_moves_bytes_moves_floats(target: int) -> None:
    before = graph_of(
        node("Transpose", "image", "planes", perm=[0, 3, 1, 2]),
        node("Reshape", "planes flat", "row"),
        node("Cast", "row", "floats", to=target),
        node("Cast", "floats", "as_float", to=TensorProto.FLOAT),
        node("Sqrt", "as_float", "out"),
    )
    after = cast_images_first(before)
    onnx.checker.check_model(after, full_check=True)
    assert consumers(after, "image") == ["Cast"]
    assert after.graph.node[0].attribute[0].i == target
    np.testing.assert_array_equal(
        *(ReferenceEvaluator(model).run(None, {"image": IMAGE})[0] for model in (before, after))
    )
    assert consumers(before, "image") == ["Transpose"]


def test_casts_to_different_types_come_from_float32() -> None:
    before = graph_of(
        node("Transpose", "image", "planes", perm=[0, 3, 1, 2]),
        node("Cast", "planes", "half", to=TensorProto.FLOAT16),
        node("Cast", "planes", "a", to=TensorProto.FLOAT),
        node("Cast", "half", "b", to=TensorProto.FLOAT),
        node("Add", "a b", "out"),
    )
    after = cast_images_first(before)
    assert after.graph.node[0].attribute[0].i == TensorProto.FLOAT
    np.testing.assert_array_equal(
        *(ReferenceEvaluator(model).run(None, {"image": IMAGE})[0] for model in (before, after))
    )


def test_a_graph_that_casts_first_stays_as_it_is() -> None:
    before = graph_of(node("Cast", "image", "floats", to=TensorProto.FLOAT), node("Sqrt", "floats", "out"))
    assert cast_images_first(before) == before


def test_arithmetic_with_bytes_is_refused() -> None:
    before = graph_of(node("Add", "image image", "twice"), node("Cast", "twice", "out", to=TensorProto.FLOAT))
    with pytest.raises(ModelFileError, match="Add 'Add twice' works on bytes"):
        cast_images_first(before)


def test_the_shipped_model_computes_the_same() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = clean_graph(onnx.load(default_model()))
    assert consumers(model, "image") == ["Transpose"]
    after = cast_images_first(model)
    assert consumers(after, "image") == ["Cast"]
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    outputs = [
        onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"image": image})[0]
        for graph in (model, after)
    ]
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_are_built_from_such_graphs(precision: str) -> None:
    prepared = MeasuredRecipe().prepare(read_model(default_model()), EngineOptions(precision), lambda step, share: None)
    assert consumers(onnx.load_model_from_string(prepared.onnx), "image") == ["Cast"]


def test_a_tiny_model_too(tiny_model_path: Path) -> None:
    prepared = MeasuredRecipe().prepare(read_model(tiny_model_path), EngineOptions("fp16"), lambda step, share: None)
    assert consumers(onnx.load_model_from_string(prepared.onnx), "image") == ["Cast"]
