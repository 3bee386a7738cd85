"""Motion models: the contract of their files, and what the backends make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from depth_node.backends import available_backends, create_motion_backend
from depth_node.errors import BackendError, ModelFileError
from depth_node.model import (
    MotionSpec,
    read_any_model,
    read_model,
    read_motion_model,
    write_motion_model,
)
from depth_node.tools.inspect_model import main as inspect_model
from motion_model import INTRINSICS, motion_graph, write_tiny_motion_model


@pytest.mark.parametrize("backend_name", available_backends())
def test_motion_and_intrinsics_come_by_name(backend_name: str, tmp_path: Path) -> None:
    write_tiny_motion_model(tmp_path / "motion.onnx")
    backend = create_motion_backend(read_motion_model(tmp_path / "motion.onnx"), backend_name, "fp32")
    image_a = np.full((1, 32, 64, 3), (51, 102, 153), np.uint8)
    image_b = np.full((1, 32, 64, 3), (102, 102, 51), np.uint8)

    found = backend.infer(image_a, image_b)
    assert found.axis_angle == pytest.approx([0.2, 0.0, -0.4], abs=1e-6)
    assert found.translation == pytest.approx([0.2, 0.4, 0.6], abs=1e-6)
    assert found.intrinsics == pytest.approx(INTRINSICS, abs=1e-6)
    assert {array.dtype for array in (found.axis_angle, found.translation, found.intrinsics)} == {np.dtype(np.float64)}

    swapped = backend.infer(image_b, image_a)
    assert swapped.axis_angle == pytest.approx([-0.2, 0.0, 0.4], abs=1e-6)
    assert found.axis_angle == pytest.approx([0.2, 0.0, -0.4], abs=1e-6)  # the caller's own
    assert (backend.name, backend.precision) == (backend_name, "fp32")
    backend.close()


def test_auto_says_which_backend_and_an_unknown_one_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_tiny_motion_model(tmp_path / "motion.onnx")
    with caplog.at_level("INFO"):
        backend = create_motion_backend(model)
    assert f"backend auto: {backend.name}" in caplog.text
    with pytest.raises(BackendError, match="backend 'tpu' is unknown"):
        create_motion_backend(model, "tpu")


def test_a_motion_file_says_what_it_is(tmp_path: Path) -> None:
    written = write_tiny_motion_model(tmp_path / "motion.onnx", metric=True)
    assert written.spec == MotionSpec(64, 32, True, "none", "Apache-2.0", "means")
    assert read_motion_model(written.path) == read_any_model(written.path) == written
    keys = {entry.key for entry in onnx.load(written.path).metadata_props}
    assert keys == {
        "depth_node.format", "kind", "input.color", "metric", "dataset", "license", "recipe", "checksum",
    }  # fmt: skip


def test_a_depth_model_is_no_motion_model(tmp_path: Path, tiny_model_path: Path) -> None:
    motion = write_tiny_motion_model(tmp_path / "motion.onnx")
    with pytest.raises(ModelFileError, match="kind is 'motion'; expected a model of depth"):
        read_model(motion.path)
    with pytest.raises(ModelFileError, match="kind is 'depth'; expected a model of motion"):
        read_motion_model(tiny_model_path)


def without_input(graph: onnx.GraphProto) -> None:
    del graph.input[1]


def another_size(graph: onnx.GraphProto) -> None:
    graph.input[1].type.tensor_type.shape.dim[1].dim_value = 16


def without_output(graph: onnx.GraphProto) -> None:
    del graph.output[0]


def four_angles(graph: onnx.GraphProto) -> None:
    graph.output[1].type.tensor_type.shape.dim[1].dim_value = 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_input, "inputs are 'image_a' uint8 .*; expected 'image_a' and 'image_b'"),
        (another_size, "the same for both"),
        (without_output, r"outputs are 'axis_angle' .*; expected .*'intrinsics' float32 \[1, 4\]"),
        (four_angles, r"'axis_angle' float32 \[1, 4\].*; expected 'axis_angle' float32 \[1, 3\]"),
    ],
)
def test_another_graph_is_refused(change: Callable[[onnx.GraphProto], None], message: str, tmp_path: Path) -> None:
    model = motion_graph()
    change(model.graph)
    with pytest.raises(ModelFileError, match=message):
        write_motion_model(model, MotionSpec(64, 32, False, "none", "none", "none"), tmp_path / "motion.onnx")


def test_the_spec_must_be_the_graph_s(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="the graph's input is 64x32, but its spec says 128x32"):
        write_motion_model(motion_graph(), MotionSpec(128, 32, False, "none", "none", "none"), tmp_path / "motion.onnx")
    with pytest.raises(ModelFileError, match="kind is 'depth'; expected 'motion'"):
        MotionSpec(64, 32, False, "none", "none", "none", kind="depth")


def test_inspect_model_prints_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_motion_model(tmp_path / "motion.onnx").path
    assert inspect_model([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "motion" in printed
    assert "image_b" in printed
