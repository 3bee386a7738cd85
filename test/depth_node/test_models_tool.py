"""`models`: what comes with the package is listed, verified and explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from depth_node import shipped_models
from depth_node.backends import available_backends
from depth_node.errors import ModelFileError
from depth_node.model import ModelFile, read_any_model
from depth_node.model_graph import weight_count
from depth_node.resources import share_directory
from depth_node.shipped_models import MeasuredFacts, read_facts, shipped_model, write_facts
from depth_node.tools import run
from motion_model import write_tiny_motion_model


@pytest.fixture
def shipped(tmp_path: Path, make_tiny_model: Callable[..., ModelFile], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models: `a` measured and with a card, `b` with neither, and a motion model."""
    folder = tmp_path / "models"
    folder.mkdir()
    checksum = make_tiny_model(folder / "a.onnx").checksum
    make_tiny_model(folder / "b.onnx", at_white=0.4, license="MIT")
    write_tiny_motion_model(folder / "motion.onnx")
    facts = MeasuredFacts(checksum, "family.md", "config/a.yaml", "abs_rel 0.123 on a street", {"data": {"x": 1}})
    write_facts(folder / "a.json", facts)
    (folder / "family.md").write_text("# The family of a\n\nNot for flying.\n")
    monkeypatch.setattr(shipped_models, "models_directory", lambda: folder)
    monkeypatch.setenv("COLUMNS", "220")
    return folder


def test_the_list(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", []) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {words[0]: " ".join(words) for words in lines if words and words[0] in ("a", "b", "motion")}
    assert list(rows) == ["a", "b", "motion"]
    assert "64x32 float" in rows["a"]
    assert rows["a"].endswith("abs_rel 0.123 on a street")
    assert rows["b"].endswith(" -")
    assert rows["motion"].startswith("motion motion")


def test_names_in_the_list_are_whole_in_a_narrow_terminal(
    shipped: Path,
    make_tiny_model: Callable[..., ModelFile],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make_tiny_model(shipped / "a-model-with-a-long-name-int8.onnx")
    assert run("models", []) == 0
    assert "a-model-with-a-long-name-int8 " in capsys.readouterr().out


def test_the_list_as_json(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", ["--json", "list"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["kind"], row["score"]) for row in listed] == [
        ("a", "depth", "abs_rel 0.123 on a street"),
        ("b", "depth", ""),
        ("motion", "motion", ""),
    ]


def test_a_score_of_another_file_is_not_shown_and_fails(
    shipped: Path, make_tiny_model: Callable[..., ModelFile], capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_model(shipped / "a.onnx", at_white=0.3)
    assert run("models", []) == 0
    assert "0.123" not in capsys.readouterr().out
    assert run("models", ["verify", "a"]) == 1
    assert "of another file" in capsys.readouterr().out


def test_verify_runs_each_model_once_in_each_backend(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", ["verify"]) == 0
    printed = capsys.readouterr().out
    for backend in available_backends():
        assert printed.count(f"inference, {backend}") == 3
    assert "FAILED" not in printed
    assert f"fx/W {0.58:.3f}" in printed  # the motion model's
    assert "100% of pixels have depth" in printed


def test_verify_names_a_damaged_file_and_goes_on(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((shipped / "b.onnx").read_bytes())
    content[-3] ^= 1
    (shipped / "b.onnx").write_bytes(content)
    assert run("models", ["verify"]) == 1
    rows = [line for line in capsys.readouterr().out.splitlines() if "checksum" in line]
    assert ["FAILED" in row for row in rows] == [False, True, False]


def test_a_model_whose_depth_is_all_out_of_range_fails(
    shipped: Path, make_tiny_model: Callable[..., ModelFile], capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_model(shipped / "b.onnx", min_depth=500.0, max_depth=900.0)
    assert run("models", ["verify", "b"]) == 1
    assert "no depth within the model's range" in capsys.readouterr().out


def test_explain_prints_the_card_or_says_that_there_is_none(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", ["explain", "a"]) == 0
    said = capsys.readouterr().out
    assert all(text in said for text in ("The family of a", "Not for flying.", "abs_rel 0.123 on a street"))
    assert run("models", ["explain", "motion"]) == 0
    assert "It has no card" in capsys.readouterr().out


def test_a_wrong_name_lists_the_right_ones(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", ["explain", "c"]) == 2
    assert "no shipped model 'c'; there are: a, b, motion" in capsys.readouterr().err
    with pytest.raises(ModelFileError, match="a, b, motion"):
        shipped_model("c")


def test_damaged_facts_are_named(shipped: Path) -> None:
    for text in ("{", '{"checksum": 1}', "[]", '{"unknown": 1}'):
        (shipped / "a.json").write_text(text)
        with pytest.raises(ModelFileError, match=r"a\.json does not say what was measured"):
            read_facts(shipped / "a.json")


def test_weights_are_counted_without_scales_and_sizes() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    weights = [
        numpy_helper.from_array(np.zeros((4, 6), np.int8), "w.int8"),
        numpy_helper.from_array(np.ones(6, np.float32), "w.scale"),
        numpy_helper.from_array(np.zeros(6, np.int8), "w.zero"),
        numpy_helper.from_array(np.zeros((6, 4), np.float16), "v.half"),
        numpy_helper.from_array(np.zeros(4, np.float32), "bias"),
        numpy_helper.from_array(np.float32(2), "factor"),
        numpy_helper.from_array(np.int64([1, 4]), "shape"),
    ]
    pair = helper.make_node("DequantizeLinear", ["w.int8", "w.scale", "w.zero"], ["w"], axis=1)
    graph = helper.make_graph([pair], "weights", values[:1], values[1:], weights)
    assert weight_count(helper.make_model(graph)) == 24 + 24 + 4


def test_the_models_of_this_package_are_as_their_facts_and_cards_say() -> None:
    for model in shipped_models.shipped_models():
        assert model.card is not None, model.name
        assert model.path.parent == share_directory() / "models"
        read = read_any_model(model.path)
        assert weight_count(onnx.load(model.path)) > 1e5
        if model.facts is not None:
            assert model.facts.checksum == read.checksum, model.name
            assert (share_directory() / model.facts.recipe).is_file()
