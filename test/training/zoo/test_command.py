"""`zoo`, end to end: data, two stages, export, int8, scores, latencies, card and files; and what is not done again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from depth_node.model import read_model
from depth_node.shipped_models import read_facts
from training import cli, runs
from training.checkpoints import read_checkpoint
from training.recipes import merged, read_recipe
from training.zoo.card import SECTION, SECTIONS

ENCODER = "mobilenetv3_small_050"
REPOSITORY = Path(__file__).resolve().parents[3]
SHIPPED = sorted((REPOSITORY / "config" / "training" / "zoo").glob("depth-*.yaml"))
CARD = "# tiny\n\n" + "\n\n".join("{{" + name + "}}" for name in SECTIONS)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was started; it runs in this process, which has imported all that it needs."""
    started: list[list[str]] = []

    def run_here(command: list[str], log: Path) -> int:
        started.append(command[3:])
        log.touch()
        return cli.main(command[3:])

    monkeypatch.setattr(runs, "run_process", run_here)
    return started


@pytest.fixture
def config(tmp_path: Path, streets: Path) -> Path:
    """A zoo in miniature: a synthetic drive to train on, the shared streets to score on."""
    stage = {
        "model": {
            "class_path": "SupervisedDepth",
            "init_args": {"network": {"encoder": ENCODER}, "pretrained": False},
        },
        "data": {"root": "DATA", "width": 96, "height": 64, "batch_size": 2, "workers": 0, "depth": True},
        "trainer": {"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1},
    }
    stage["data"] |= {"source_offsets": [], "train": [{"kind": "synthetic", "path": "SYNTHETIC"}], "validation": []}
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(stage))
    (tmp_path / "card.md").write_text(CARD)
    drive = {"width": 96, "height": 64, "frames": 4, "step": 1.0}
    synthetic = {"command": "synthesize", "options": {"drives": 1, "workers": 1, "options": drive}}
    source = {"kind": "synthetic", "select": ["street_1"]}
    content = {
        "name": "tiny",
        "recipe": "config/tiny.yaml",
        "card": str(tmp_path / "card.md"),
        "dataset": "a synthetic street",
        "license": "Apache-2.0",
        "root": str(streets),
        "output": str(tmp_path / "out"),
        "data": {"SYNTHETIC": synthetic, "UNUSED": synthetic},
        "stages": [
            {"recipe": str(tmp_path / "first.yaml")},
            {"recipe": str(tmp_path / "first.yaml"), "set": {"trainer": {"max_steps": 1}}},
        ],
        "quantization": {"frames": 3, "sources": [{"kind": "synthetic", "path": "SYNTHETIC"}], "largest_loss": 0.5},
        "scores": [{"name": "a street", "source": source, "stability": True, "worst": 2}],
        "rounds": 1,
    }
    path = tmp_path / "zoo.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def zoo(config: Path, *options: str) -> int:
    return cli.main(["zoo", "--config", str(config), *options])


def names(commands: list[list[str]]) -> list[str]:
    return [command[0] for command in commands]


def numbers_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_all_of_it(config: Path, commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo(config) == 0, capsys.readouterr().err
    everything = ["synthesize", "train", "train", "export", "quantize", "score", "score", "latency"]
    assert names(commands) == everything
    out = tmp_path / "out"

    # The second stage began with the weights of the first, and its steps are counted from 0.
    second = yaml.safe_load((out / "stages" / "2_first" / "recipe.yaml").read_text())
    first = out / "stages" / "1_first" / "version_0" / "checkpoints" / "last.ckpt"
    assert Path(second["weights"]) == first.resolve()
    assert second["data"]["train"] == [{"kind": "synthetic", "path": str(out / "data" / "SYNTHETIC")}]
    assert read_checkpoint(first)["global_step"] == 2

    # Files: the model and its int8 variant, each with facts that are of it.
    models = out / "package" / "models"
    for name, is_int8 in (("tiny", False), ("tiny-int8", True)):
        model, facts = read_model(models / f"{name}.onnx"), read_facts(models / f"{name}.json")
        assert model.is_quantized == is_int8
        assert facts.checksum == model.checksum
        assert (facts.card, facts.recipe) == ("tiny.md", "config/tiny.yaml")
        assert model.spec.recipe.startswith("config/tiny.yaml")
        measured = facts.measured["data"]["a street"]
        assert facts.score == f"abs_rel {measured['median']['metrics']['abs_rel']:.3f} on a street"
        assert measured["stability"]["pairs"] == 3
        assert {timing["model"] for timing in facts.measured["latency"]["timings"]} == {name}
    int8 = numbers_of(models / "tiny-int8.json")["measured"]["int8"]
    assert "calibrated on 3 frames (3 of synthetic)" in int8["summary"]
    assert any(node.op_type == "DequantizeLinear" for node in onnx.load(models / "tiny-int8.onnx").graph.node)

    # The card: every section filled, with the numbers of the facts; the picture is where it says.
    card = (models / "tiny.md").read_text()
    assert not SECTION.search(card)
    base = numbers_of(models / "tiny.json")["measured"]["data"]["a street"]
    assert f"| a street | tiny | median | 4 | {base['median']['metrics']['abs_rel']:.3f} |" in card
    assert f"| a street | tiny | 3 | {base['stability']['change']:.2%} |" in card
    assert "| 4 | synthetic | exact | 1 | 1 |" in card
    link = re.search(r"!\[.*\]\((.*)\)", card)
    assert link is not None
    assert (models / link[1]).resolve() == (out / "package" / "docs" / "images" / "tiny-worst.jpg").resolve()
    assert (models / link[1]).is_file()

    # Nothing is done twice; but with other trained weights, all that depends on them.
    commands.clear()
    assert zoo(config) == 0
    assert commands == []
    assert zoo(config, "--trained", f"[{first.parent.parent}]") == 0
    assert names(commands) == ["export", "quantize", "score", "score", "latency"]
    assert (models / "tiny.md").read_text().count("2_first") == 0


def test_what_cannot_be_is_refused_before_anything_is_trained(
    config: Path, commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo(config, "--scores", "[]") == 2
    assert "0 data to score on" in capsys.readouterr().err
    assert zoo(config, "--data", "{DATA: {command: synthesize}}") == 2
    assert "expected words other than DATA" in capsys.readouterr().err
    (tmp_path / "card.md").write_text(CARD.replace("{{worst}}", "{{best}}"))
    assert zoo(config) == 2
    assert "no {{worst}}, an unknown {{best}}" in capsys.readouterr().err
    assert commands == []


def test_int8_that_loses_too_much_is_not_shipped(
    config: Path, commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(config.read_text())
    content["quantization"]["largest_loss"] = -0.9
    content["stages"] = content["stages"][:1]
    config.write_text(yaml.safe_dump(content))
    assert zoo(config) == 2
    assert re.search(r"int8 has abs_rel [\d.]+ on a street, -?[\d.]+% more than", capsys.readouterr().err)
    assert not (tmp_path / "out" / "package").exists()


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "config" / "training" / "zoo").glob("depth-*.yaml")), ids=lambda p: p.stem
)
def test_shipped_zoos_name_recipes_and_cards_that_exist(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert content["recipe"] == str(path.relative_to(REPOSITORY))
    card = (REPOSITORY / content["card"]).read_text()
    assert sorted(SECTION.findall(card)) == sorted(SECTIONS)
    made = set(content.get("data", {}))
    for stage in content["stages"]:
        recipe = merged(read_recipe(REPOSITORY / stage["recipe"]), stage.get("set", {}))
        used = {entry[key] for entry in recipe["data"]["train"] for key in ("path", "proxy") if key in entry}
        assert {name for name in used if name.isupper()} <= made
