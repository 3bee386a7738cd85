"""Model files: what is written is read back, and everything outside the contract is refused with found and expected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from depth_node.errors import ModelFileError
from depth_node.model import FloatInput, ModelFile, ModelSpec, read_model, write_model
from depth_node.model_spec import parse_metadata, to_metadata

MakeModel = Callable[..., ModelFile]

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
fractions = st.floats(0.01, 10)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    near = draw(st.floats(1e-3, 10))
    return ModelSpec(
        input_width=draw(st.integers(1, 4096)),
        input_height=draw(st.integers(1, 4096)),
        min_depth=near,
        max_depth=near + draw(st.floats(1e-2, 1e3)),
        metric=draw(st.booleans()),
        intrinsics_prior=draw(st.tuples(fractions, fractions, st.floats(-1, 2), st.floats(-1, 2))),
        dataset=draw(words),
        license=draw(words),
        recipe=draw(words),
        output=draw(st.sampled_from(["disparity", "depth"])),
    )


@given(specs())
def test_metadata_holds_the_whole_spec(spec: ModelSpec) -> None:
    assert parse_metadata(to_metadata(spec), spec.input_width, spec.input_height) == spec


def test_a_written_model_is_read_back(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    written = make_tiny_model(tmp_path / "a.onnx", width=40, height=24, min_depth=0.25, metric=False, dataset="street")
    model = read_model(written.path)
    assert model == written
    assert (model.spec.input_width, model.spec.input_height) == (40, 24)
    assert (model.spec.min_depth, model.spec.metric, model.spec.dataset) == (0.25, False, "street")


def test_metadata_is_that_of_the_contract(tiny_model_path: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(tiny_model_path).metadata_props}
    checksum = metadata.pop("checksum")
    assert re.fullmatch("[0-9a-f]{64}", checksum)
    assert metadata == {
        "depth_node.format": "1",
        "kind": "depth",
        "input.color": "rgb",
        "output": "disparity",
        "min_depth": "0.5",
        "max_depth": "100.0",
        "metric": "true",
        "intrinsics.prior": "0.58, 1.92, 0.49, 0.46",
        "dataset": "none",
        "license": "Apache-2.0",
        "recipe": "linear in grey",
    }


def test_checksum_is_of_the_model_without_it(tiny_model_path: Path) -> None:
    model = onnx.load(tiny_model_path)
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != "checksum"}
    helper.set_model_props(model, others)
    assert (
        read_model(tiny_model_path).checksum == hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    )


def test_every_truncation_is_refused(tiny_model_path: Path, tmp_path: Path) -> None:
    content = tiny_model_path.read_bytes()
    path = tmp_path / "truncated.onnx"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            read_model(path)


def test_every_damaged_byte_is_noticed(tiny_model_path: Path, tmp_path: Path) -> None:
    content = tiny_model_path.read_bytes()
    path = tmp_path / "damaged.onnx"
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            read_model(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"absent.onnx: no such file; expected an ONNX file"):
        read_model(tmp_path / "absent.onnx")


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("This is a text about models.")
    with pytest.raises(ModelFileError, match="28 bytes that are not a complete ONNX model"):
        read_model(path)


def test_a_file_beyond_2_gib_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # sparse
    with pytest.raises(ModelFileError, match="has 2147483649 bytes; expected an ONNX file of at most 2147483648"):
        read_model(path)


def changed(path: Path, folder: Path, change: Callable[[ModelProto], None]) -> Path:
    """A copy of a model file with a change made behind its checksum's back."""
    model = onnx.load(path)
    change(model)
    copy = folder / "changed.onnx"
    copy.write_bytes(model.SerializeToString())
    return copy


def set_metadata(**changes: str | None) -> Callable[[ModelProto], None]:
    """Change entries (`__` stands for a dot); None removes one."""

    def change(model: ModelProto) -> None:
        metadata: dict[str, str | None] = {entry.key: entry.value for entry in model.metadata_props}
        metadata.update({key.replace("__", "."): value for key, value in changes.items()})
        helper.set_model_props(model, {key: value for key, value in metadata.items() if value is not None})

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth_node__format": None}, "lacks depth_node.format.*export the model.*sidecar"),
        ({"depth_node__format": "2"}, "depth_node.format is '2'; this version of depth_node reads '1'"),
        ({"checksum": None}, "lacks checksum"),
        ({"checksum": "0" * 64}, "its metadata says 0000"),
        ({"recipe": "another"}, "checksum is"),
        ({"license": None, "dataset": None}, "lacks dataset, license; found checksum, depth_node.format"),
        ({"kind": "flow"}, "kind is 'flow'; expected 'depth'"),
        ({"input__color": "bgr"}, "input.color is 'bgr'; expected 'rgb'"),
        ({"output": "depth"}, "output is 'disparity' float32 .*; expected 'depth' float32"),
        ({"metric": "yes"}, "metric is 'yes'; expected 'true' or 'false'"),
        ({"min_depth": "near"}, "min_depth is 'near'; expected 1 number"),
        ({"min_depth": "0"}, "min_depth is 0.0 and max_depth is 100.0; expected 0 < min_depth < max_depth"),
        ({"max_depth": "inf"}, "max_depth is .*inf.*; expected 1 finite number"),
        ({"intrinsics__prior": "0.5, 0.5, 0.5"}, r"intrinsics.prior is \(0.5, 0.5, 0.5\); expected 4 finite number"),
        ({"intrinsics__prior": "0.5, -1, 0.5, 0.5"}, "expected positive focal lengths"),
    ],
)
def test_wrong_metadata_is_refused(
    tiny_model_path: Path, tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_model(changed(tiny_model_path, tmp_path, set_metadata(**changes)))


def set_value(which: str, name: str, elem_type: int, shape: list[int | str]) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        getattr(model.graph, which)[0].CopyFrom(helper.make_tensor_value_info(name, elem_type, shape))

    return change


def add_output(name: str, elem_type: int, shape: list[int | str]) -> Callable[[ModelProto], None]:
    return lambda model: model.graph.output.append(helper.make_tensor_value_info(name, elem_type, shape))


def use_external_weights(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location="/etc/passwd")
    tensor.ClearField("raw_data")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_value("input", "image", TensorProto.FLOAT, [1, 32, 64, 3]),
            r"input is 'image' float32 \[1, 32, 64, 3\]; expected 'image' uint8 \[1, H, W, 3\]",
        ),
        (set_value("input", "image", TensorProto.UINT8, [1, 3, 32, 64]), r"uint8 \[1, 3, 32, 64\]; expected"),
        (set_value("input", "image", TensorProto.UINT8, [4, 32, 64, 3]), r"uint8 \[4, 32, 64, 3\]; expected"),
        (set_value("input", "image", TensorProto.UINT8, [32, 64, 3]), r"uint8 \[32, 64, 3\]; expected"),
        (
            set_value("input", "image", TensorProto.UINT8, [1, "height", 64, 3]),
            r"\[1, height, 64, 3\]; expected .* fixed",
        ),
        (set_value("input", "x", TensorProto.UINT8, [1, 32, 64, 3]), "input is 'x' uint8"),
        (set_value("output", "depth", TensorProto.FLOAT, [1, 32, 64]), "output is 'depth'.*; expected 'disparity'"),
        (set_value("output", "disparity", TensorProto.FLOAT16, [1, 32, 64]), "float16.*; expected 'disparity' float32"),
        (
            set_value("output", "disparity", TensorProto.FLOAT, [1, 1, 32, 64]),
            r"float32 \[1, 1, 32, 64\]; expected 'disparity' float32 \[1, 32, 64\]",
        ),
        (
            add_output("pose", TensorProto.FLOAT, [1, 6]),
            r"has 2 outputs \(.disparity. float32 \[1, 32, 64\], .pose. float32 \[1, 6\]\); expected one of disparity "
            "or depth, and at most .confidence. beside it",
        ),
        (
            add_output("confidence", TensorProto.FLOAT, [1, 16, 32]),
            r"output is 'confidence' float32 \[1, 16, 32\]; expected 'confidence' float32 \[1, 32, 64\]",
        ),
        (add_output("confidence", TensorProto.UINT8, [1, 32, 64]), "output is 'confidence' uint8 .*float32"),
        (
            set_value("output", "confidence", TensorProto.FLOAT, [1, 32, 64]),
            "has 1 outputs .*'confidence'.*expected one",
        ),
        (use_external_weights, "keeps weights in other files"),
    ],
)
def test_wrong_graphs_are_refused(
    tiny_model_path: Path, tmp_path: Path, change: Callable[[ModelProto], None], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_model(changed(tiny_model_path, tmp_path, change))


def test_the_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=f"^model file {re.escape(str(tmp_path / 'absent.onnx'))}: "):
        read_model(tmp_path / "absent.onnx")


def test_a_spec_that_does_not_fit_the_graph_is_not_written(tiny_model_path: Path, tmp_path: Path) -> None:
    model, spec = onnx.load(tiny_model_path), read_model(tiny_model_path).spec
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the previous model")
    wrong_size = ModelSpec(**{**vars(spec), "input_width": 128})
    with pytest.raises(ModelFileError, match="the graph's input is 64x32, but its spec says 128x32"):
        write_model(model, wrong_size, target)
    wrong_output = ModelSpec(**{**vars(spec), "output": "depth"})
    with pytest.raises(ModelFileError, match="expected 'depth'"):
        write_model(model, wrong_output, target)
    assert target.read_bytes() == b"the previous model"
    assert list(tmp_path.iterdir()) == [target]


def test_confidence_is_found_in_the_graph(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    written = make_tiny_model(tmp_path / "sure.onnx", confidence=True)
    assert written.spec.has_confidence
    assert read_model(written.path) == written
    plain = make_tiny_model(tmp_path / "plain.onnx")
    assert not read_model(plain.path).spec.has_confidence
    with pytest.raises(ModelFileError, match="the graph's confidence output is confidence, but its spec says None"):
        write_model(onnx.load(written.path), plain.spec, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match="the graph's confidence output is None, but its spec says confidence"):
        write_model(onnx.load(plain.path), written.spec, tmp_path / "other.onnx")


def test_a_confidence_output_of_our_own_has_one_name(tiny_model_path: Path) -> None:
    spec = read_model(tiny_model_path).spec
    with pytest.raises(ModelFileError, match="the confidence output is 'sureness'; expected 'confidence'"):
        ModelSpec(**{**vars(spec), "confidence_output": "sureness"})


def test_writing_leaves_one_complete_file(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the previous model")
    written = make_tiny_model(target)
    assert list(tmp_path.iterdir()) == [target]
    assert read_model(target) == written


def test_sizes_that_an_exporter_only_named_are_written_as_numbers(tiny_model_path: Path, tmp_path: Path) -> None:
    model, spec = onnx.load(tiny_model_path), read_model(tiny_model_path).spec
    set_value("output", "disparity", TensorProto.FLOAT, [1, "height", "width"])(model)
    path = write_model(model, spec, tmp_path / "model.onnx").path
    shape = onnx.load(path).graph.output[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [1, 32, 64]
    assert read_model(path).spec == spec


SIDECAR: dict[str, Any] = {
    "depth_node.format": 1,
    "kind": "depth",
    "input.color": "bgr",
    "input.layout": "NCHW",
    "input.mean": [0.485, 0.456, 0.406],
    "input.std": [0.229, 0.224, 0.225],
    "output": "disparity",
    "min_depth": 0.1,
    "max_depth": 80,
    "metric": False,
    "intrinsics.prior": [0.58, 1.92, 0.5, 0.5],
    "dataset": "unknown",
    "license": "MIT",
    "recipe": "somebody else's",
}


def foreign_model(
    folder: Path,
    sidecar: dict[str, Any] | None,
    input_shape: list[int | str],
    name: str = "model.yaml",
    second_output: str = "",
) -> Path:
    """A float model with the mean over channels as its output, which shape inference has to find.

    second_output: operator that makes another output, `sureness`, of that mean.
    """
    axis = input_shape.index(3)
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[axis], keepdims=1 if axis == 1 else 0)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)
    nodes, outputs = [node], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if second_output:
        nodes.append(helper.make_node(second_output, ["y"], ["sureness"]))
        outputs.append(helper.make_tensor_value_info("sureness", TensorProto.UNDEFINED, None))
    graph = helper.make_graph(nodes, "foreign", [x], outputs)
    path = folder / "foreign.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    if sidecar is not None:
        (folder / name).write_text(yaml.safe_dump(sidecar))
    return path


@pytest.mark.parametrize("name", ["model.yaml", "foreign.yaml"])
@pytest.mark.parametrize(("layout", "shape"), [("NCHW", [1, 3, 24, 40]), ("NHWC", [1, 24, 40, 3])])
def test_a_foreign_model_is_described_by_its_sidecar(
    tmp_path: Path, name: str, layout: str, shape: list[int | str]
) -> None:
    model = read_model(foreign_model(tmp_path, {**SIDECAR, "input.layout": layout}, shape, name))
    assert (model.spec.input_width, model.spec.input_height) == (40, 24)
    assert model.spec.float_input == FloatInput(layout, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert model.spec.color == "bgr"
    assert model.spec.metric is False
    assert model.spec.max_depth == 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input.layout": "CHW"}, "input.layout is 'CHW'; expected 'NCHW' or 'NHWC'"),
        ({"input.mean": 0.5}, r"input.mean is \(0.5,\); expected 3 finite"),
        ({"input.std": [1, 0, 1]}, "expected positive numbers"),
        ({"metirc": True}, "unknown key 'metirc'; the nearest known one is 'metric'"),
        ({"depth_node.format": 3}, "depth_node.format is '3'"),
        ({"checksum": "12"}, "its metadata says 12"),
    ],
)
def test_wrong_sidecars_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = foreign_model(tmp_path, {**SIDECAR, **change}, [1, 3, 24, 40])
    with pytest.raises(ModelFileError, match=message):
        read_model(path)


def test_a_foreign_confidence_is_named_by_the_sidecar(tmp_path: Path) -> None:
    sidecar = {**SIDECAR, "output.confidence": "sureness"}
    spec = read_model(foreign_model(tmp_path, sidecar, [1, 3, 24, 40], second_output="Sigmoid")).spec
    assert spec.has_confidence
    assert spec.confidence_output == "sureness"


@pytest.mark.parametrize(
    ("named", "second_output", "message"),
    [
        (None, "Sigmoid", r"has 2 outputs .*only if the sidecar names it \(output.confidence\)"),
        ("y2", "Sigmoid", "has 2 outputs .*at most 'y2' beside it"),
        ("sureness", "", "output.confidence is 'sureness', but the only output is 'y' float32"),
        ("y", "", "has 1 outputs .*expected one of disparity or depth, and at most 'y'"),
        ("sureness", "IsNaN", "confidence is 'sureness' bool .*; expected float32"),
        ("sureness", "Shape", "confidence is 'sureness' int64 .*; expected float32"),
    ],
)
def test_a_wrong_foreign_confidence_is_refused(
    tmp_path: Path, named: str | None, second_output: str, message: str
) -> None:
    sidecar = SIDECAR if named is None else {**SIDECAR, "output.confidence": named}
    with pytest.raises(ModelFileError, match=message):
        read_model(foreign_model(tmp_path, sidecar, [1, 3, 24, 40], second_output=second_output))


@pytest.mark.parametrize("key", sorted(SIDECAR))
def test_a_sidecar_without_a_key_is_refused(tmp_path: Path, key: str) -> None:
    sidecar = {other: value for other, value in SIDECAR.items() if other != key}
    with pytest.raises(ModelFileError, match=f"model.yaml lacks {key}"):
        read_model(foreign_model(tmp_path, sidecar, [1, 3, 24, 40]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list; expected a mapping"),
        ("a: [", "model.yaml is not YAML"),
        ("!!python/object/apply:os.system ['true']", "model.yaml is not YAML"),
        ("# " + "x" * 70000, "has 70002 bytes; expected at most 65536"),
    ],
)
def test_a_sidecar_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = foreign_model(tmp_path, None, [1, 3, 24, 40])
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ModelFileError, match=message):
        read_model(path)


def test_a_foreign_model_without_sidecar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no foreign.yaml or model.yaml beside it"):
        read_model(foreign_model(tmp_path, None, [1, 3, 24, 40]))


@pytest.mark.parametrize("shape", [["batch", 3, 24, 40], [1, 3, "height", "width"], [1, 24, 40, 3]])
def test_a_foreign_input_of_another_shape_is_refused(tmp_path: Path, shape: list[int | str]) -> None:
    with pytest.raises(ModelFileError, match=r"expected float32 \[1, 3, H, W\] \(NCHW\) with fixed H and W"):
        read_model(foreign_model(tmp_path, SIDECAR, shape))


def test_normalisation_outside_the_graph_is_not_written(tmp_path: Path, tiny_model_path: Path) -> None:
    foreign = read_model(foreign_model(tmp_path, SIDECAR, [1, 3, 24, 40]))
    with pytest.raises(ModelFileError, match="normalisation belongs inside the graph"):
        write_model(onnx.load(tiny_model_path), foreign.spec, tmp_path / "other.onnx")


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path, tiny_model_path: Path) -> None:
    spec = read_model(tiny_model_path).spec
    prior = tuple(np.float64(value) for value in spec.intrinsics_prior)
    numpy_spec = ModelSpec(**{**vars(spec), "min_depth": np.float64(0.5), "intrinsics_prior": prior})
    write_model(onnx.load(tiny_model_path), numpy_spec, tmp_path / "numpy.onnx")
    assert read_model(tmp_path / "numpy.onnx").spec == spec
