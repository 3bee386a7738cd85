"""Cleaning changes no number; which nodes are outer; batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from depth_node.errors import ModelFileError
from depth_node.model import ModelFile
from depth_node.precision.batch import with_batch
from depth_node.precision.graph import clean_graph, element_types, outer_nodes
from motion_model import INTRINSICS, write_tiny_motion_model
from residual_model import images, residual_graph


def test_a_clean_graph_computes_the_same_and_has_constants_only_as_initializers(
    model: ModelFile, graph: onnx.ModelProto
) -> None:
    original = onnx.load(model.path)
    onnx.checker.check_model(graph, full_check=True)
    (image,) = images(1)
    expected = ReferenceEvaluator(original).run(None, {"image": image})[0]
    assert np.array_equal(ReferenceEvaluator(graph).run(None, {"image": image})[0], expected)
    casts = [node.name for node in graph.graph.node if node.op_type == "Cast"]
    assert casts == ["float"]  # not those of stored weights, nor the needless one
    assert sum(node.op_type == "Concat" for node in graph.graph.node) == 1  # not the one of sizes
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    assert stored["stem.weight"].data_type == onnx.TensorProto.FLOAT
    assert onnx.numpy_helper.to_array(stored["pads.out"]).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_every_node_has_a_name_of_its_own() -> None:
    original = residual_graph()
    for node in original.graph.node:
        node.name = "same" if node.op_type == "Conv" else ""
    names = [node.name for node in clean_graph(original).graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_an_output_that_is_constant_keeps_its_node(tmp_path: Path) -> None:
    """Backends find outputs by the nodes that compute them."""
    graph = clean_graph(onnx.load(write_tiny_motion_model(tmp_path / "motion.onnx").path))
    assert [node.op_type for node in graph.graph.node if node.output[0] == "intrinsics"] == ["Identity"]
    inputs = {name: images(1)[0] for name in ("image_a", "image_b")}
    outputs = dict(zip([o.name for o in graph.graph.output], ReferenceEvaluator(graph).run(None, inputs), strict=True))
    assert outputs["intrinsics"][0] == pytest.approx(INTRINSICS)


def test_outer_nodes_are_normalisation_head_and_what_follows(graph: onnx.ModelProto) -> None:
    start = {"planes", "float", "scaled", "normalized"}
    assert outer_nodes(graph) == start | {"head", "sigmoid", "channel", "scaled_sigmoid", "disparity"}


def test_element_types(graph: onnx.ModelProto) -> None:
    types = element_types(graph)
    assert types["image"] == types["planes.out"] == onnx.TensorProto.UINT8
    assert types["float.out"] == types["stem.weight"] == onnx.TensorProto.FLOAT
    assert types["pads.out"] == onnx.TensorProto.INT64


def test_a_batch_gives_what_single_images_give(graph: onnx.ModelProto) -> None:
    three = images(3)
    batched = with_batch(graph, 3)
    onnx.checker.check_model(batched, full_check=True)
    together = ReferenceEvaluator(batched).run(None, {"image": np.concatenate(three)})[0]
    single = ReferenceEvaluator(graph)
    alone = np.concatenate([single.run(None, {"image": image})[0] for image in three])
    assert together.shape == (3, 32, 64)
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def joined_graph(op: str, **attributes: int) -> onnx.ModelProto:
    """The image in floats, and a stored row, through an operator."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node(op, ["x", "row"], ["y"], **attributes),
    ]
    row = onnx.numpy_helper.from_array(np.full((1, 1, 4, 3), 7, np.float32), "row")
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 2, 4, 3])
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 4, 3])
    graph = helper.make_graph(nodes, "row", [image], [output], [row])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def test_what_is_stored_beside_an_image_goes_with_each_of_a_batch() -> None:
    """Such as a transformer's class token."""
    batched = with_batch(joined_graph("Concat", axis=1), 2)
    images = np.arange(2 * 2 * 4 * 3, dtype=np.uint8).reshape(2, 2, 4, 3)
    found = ReferenceEvaluator(batched).run(None, {"image": images})[0]
    assert np.array_equal(found[:, :2], images)
    assert np.all(found[:, 2] == 7)


def test_a_graph_that_mixes_images_takes_one_at_a_time() -> None:
    """Its output is declared for a batch, and joins the images of one along the first axis."""
    with pytest.raises(ModelFileError, match="takes one image at a time, not 2"):
        with_batch(joined_graph("Concat", axis=0), 2)
