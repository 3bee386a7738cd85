"""Parts of the zoo: names of folders in nested options, steps that are done once, turns, calibration frames, facts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from depth_node.model import read_model
from training import cli, runs
from training.data.source import Source
from training.errors import DataError, TrainingError
from training.zoo.card import SECTIONS, read_card, table
from training.zoo.history import checkpoint_of, read_history
from training.zoo.latency import in_turns
from training.zoo.plan import DataStep, Stage, as_options, check_names, names_in, substituted
from training.zoo.quantize import calibration_frames
from training.zoo.steps import Steps

ZOO = Path(__file__).resolve().parents[3] / "config" / "training" / "zoo"
RECIPES = [path for path in sorted(ZOO.glob("*.yaml")) if "model" in yaml.safe_load(path.read_text())]


def test_names_lead_to_folders_and_all_else_stays() -> None:
    folders = {"DATA": Path("/data"), "PROXY": Path("/out/proxy")}
    value = {
        "root": "DATA",
        "train": [{"path": Path("DATA/kitti"), "proxy": "PROXY", "repeat": 3, "select": ("a", "DATABASE")}],
        "rate": 0.5,
        "weights": None,
        "text": "about DATA",
    }
    assert substituted(value, folders) == {
        "root": "/data",
        "train": [{"path": "/data/kitti", "proxy": "/out/proxy", "repeat": 3, "select": ["a", "DATABASE"]}],
        "rate": 0.5,
        "weights": None,
        "text": "about DATA",
    }
    assert names_in(value) >= {"DATA", "PROXY", "a", "DATABASE"}


def test_what_is_written_as_options_can_be_read_again() -> None:
    options = as_options(Stage(Path("a.yaml"), {"data": {"width": 64}}, "best"))
    assert yaml.safe_load(yaml.safe_dump(substituted(options, {}))) == {
        "recipe": "a.yaml",
        "set": {"data": {"width": 64}},
        "take": "best",
    }


@pytest.mark.parametrize("name", ["DATA", "a/b", "", "two words"])
def test_names_that_would_hide_folders_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="expected words other than DATA"):
        check_names({name: DataStep("synthesize")})


def test_a_step_is_done_again_when_what_it_is_given_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [0, 0, 0, 3, 0]
    commands: list[list[str]] = []

    def run_process(command: list[str], log: Path) -> int:
        commands.append(command[3:])
        log.write_text("it said why\n")
        return codes[len(commands) - 1]

    monkeypatch.setattr(runs, "run_process", run_process)
    steps, read = Steps(tmp_path / "steps"), tmp_path / "weights"
    read.write_text("a")
    assert steps.run("one", "export", {"a": 1}, [read])
    assert commands == [["export", "--config", str(tmp_path / "steps" / "one.yaml")]]
    assert not Steps(tmp_path / "steps").run("one", "export", {"a": 1}, [read])  # also in another process
    assert steps.run("one", "export", {"a": 2}, [read])
    read.write_text("longer")
    assert steps.run("one", "export", {"a": 2}, [read])
    with pytest.raises(TrainingError, match=r"(?s)export, logged in .*one.log, ended with code 3:.*it said why"):
        steps.run("one", "export", {"a": 3}, [read])
    assert steps.run("one", "export", {"a": 3}, [read])  # what failed is not done
    assert len(commands) == 5


def test_turns_time_everyone_alike_and_leave_out_first_runs() -> None:
    now, calls = 0.0, []

    def candidate(name: str, seconds: float) -> Callable[[], None]:
        def infer() -> None:
            nonlocal now
            first = not calls or calls[-1] != name
            calls.append(name)
            now += 100.0 if first else seconds

        return infer

    measured = in_turns([candidate("a", 1.0), candidate("b", 2.0)], rounds=2, runs=3, clock=lambda: now)
    assert calls == (["a"] * 4 + ["b"] * 4) * 2
    np.testing.assert_allclose(measured, [[1.0] * 6, [2.0] * 6])


def test_calibration_takes_an_even_share_of_every_source(streets: Path, tiny_model_path: Path) -> None:
    model = read_model(tiny_model_path)
    sources = [Source("synthetic", select=["street_0"]), Source("synthetic", select=["street_1"])]
    frames = calibration_frames(model, streets, sources, 5)
    assert len(frames.inputs) == 5
    assert frames.source == "5 frames (3 of synthetic street_0, 2 of synthetic street_1)"
    assert frames.inputs[0]["image"].shape == (1, 32, 64, 3)
    assert len({inputs["image"].tobytes() for inputs in frames.inputs}) == 5


def test_cards_without_a_section_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.md"
    path.write_text(" ".join("{{" + name + "}}" for name in SECTIONS[1:]) + " {{other}}")
    with pytest.raises(DataError, match=rf"no {{{{{SECTIONS[0]}}}}}, an unknown {{{{other}}}}"):
        read_card(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_card(tmp_path / "absent.md")


def test_tables() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_folder_that_is_no_training_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no checkpoint last.ckpt \(there: none\): expected runs/NAME/version_N"):
        checkpoint_of(tmp_path, "last")
    with pytest.raises(TrainingError, match=r"has no config.yaml"):
        read_history([(tmp_path, tmp_path / "last.ckpt")])


def test_nothing_to_time_or_score_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["latency", "--models", "[]", "--output", str(tmp_path / "a.json")]) == 2
    assert "0 models" in capsys.readouterr().err
    options = ["--model", "a.onnx", "--data", "[]", "--root", ".", "--output", str(tmp_path / "a.json")]
    assert cli.main(["score", *options]) == 2
    assert "no data to score the model on" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_stages_are_read_by_train(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--config", str(recipe), "--print_config"])
    assert ended.value.code in (0, None)
    assert yaml.safe_load(capsys.readouterr().out)["name"] == recipe.stem


def test_every_number_of_a_score_is_json(tmp_path: Path, streets: Path, tiny_model_path: Path) -> None:
    output, picture = tmp_path / "score.json", tmp_path / "worst.jpg"
    data = {"name": "a street", "source": {"kind": "synthetic", "select": ["street_1"]}, "worst": 1, "stability": True}
    options = {"model": str(tiny_model_path), "root": str(streets), "output": str(output), "data": [data]}
    (tmp_path / "score.yaml").write_text(yaml.safe_dump({**options, "pictures": str(picture)}))
    assert cli.main(["score", "--config", str(tmp_path / "score.yaml")]) == 0
    numbers = json.loads(output.read_text())
    found = numbers["data"]["a street"]
    assert numbers["metric"] is True
    assert found["median"]["frames"] == found["none"]["frames"] == 4
    assert found["none"]["scale"] == 1.0
    assert found["stability"]["pairs"] == 3
    assert found["stability"]["truth_change"] < 0.02
    assert len(found["worst"]) == 1
    assert picture.is_file()
