"""`ablate`, end to end: two variants of a tiny recipe, two seeds, trained in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from training import cli, runs
from training.checkpoints import read_checkpoint
from training.data.synthetic import read_synthetic
from training.runs import CHECKPOINT

ENCODER = "mobilenetv3_small_050"


@pytest.fixture
def config(tmp_path: Path, streets: Path) -> Path:
    recipe = {
        "model": {
            "class_path": "SelfSupervisedDepth",
            "init_args": {"network": {"encoder": ENCODER}, "pose_encoder": ENCODER, "pretrained": False, "scales": 1},
        },
        "data": {"width": 96, "height": 64, "batch_size": 2, "workers": 0},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    variant = {"recipe": str(tmp_path / "recipe.yaml")}
    learned = {"per": "camera", "square_pixels": True, "fixed_center": True, "focal": 0.6}
    content = {
        "root": str(streets),
        "output": str(tmp_path / "out"),
        "seeds": [0, 1],
        "steps": 2,
        "repetitions": 0,
        "pictures": 1,
        "evaluation": {"kind": "synthetic", "select": ["street_1"]},
        "cameras": {"kind": "synthetic", "select": ["street_1"]},
        "common": {
            "data": {"train": [{"kind": "synthetic"}]},
            "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1},
        },
        "variants": {
            "plain": variant,
            "camless": {**variant, "set": {"model": {"init_args": {"intrinsics": learned}}}},
        },
    }
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What trainings were started with; they run in this process, which has imported all that they need."""
    started: list[list[str]] = []

    def run_here(command: list[str], log: Path) -> int:
        started.append(command)
        return cli.main(command[3:])

    monkeypatch.setattr(runs, "run_process", run_here)
    return started


def ablate(config: Path, *options: str) -> int:
    return cli.main(["ablate", "--config", str(config), *options])


def test_the_table_and_going_on(
    config: Path, tmp_path: Path, streets: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(config, "--seeds", "[0]") == 0
    assert [Path(command[-1]).parent.name for command in commands] == ["plain_seed0", "camless_seed0"]
    out = tmp_path / "out"
    assert {"report.md", "report.html", "sheet.jpg", "ablation.json", "runs"} == {path.name for path in out.iterdir()}
    weights = {
        name: read_checkpoint(out / "runs" / f"{name}_seed0" / CHECKPOINT)["state_dict"]
        for name in ("plain", "camless")
    }
    assert read_checkpoint(out / "runs" / "plain_seed0" / CHECKPOINT)["global_step"] == 2
    assert "learned_intrinsics.focal" in weights["camless"]
    assert "learned_intrinsics.focal" not in weights["plain"]
    first = (out / "ablation.json").read_text()
    capsys.readouterr()
    commands.clear()
    assert ablate(config) == 0  # seed 1 is trained, seed 0 is not again
    assert [Path(command[-1]).parent.name for command in commands] == ["plain_seed1", "camless_seed1"]
    numbers = json.loads((out / "ablation.json").read_text())
    assert numbers["plain"]["0"] == json.loads(first)["plain"]["0"]
    assert numbers["plain"]["1"]["metrics"] != numbers["plain"]["0"]["metrics"]
    printed = capsys.readouterr().out
    rows = {line.split(" | ")[0].strip("| "): line for line in printed.splitlines() if line.startswith("|")}
    assert "±" in rows["plain"]
    truth = read_synthetic(streets, ["street_1"])[0].intrinsics
    assert truth is not None
    focal = float(torch.nn.functional.softplus(weights["camless"]["learned_intrinsics.focal"]))
    assert numbers["camless"]["0"]["focal_error"] == pytest.approx(abs(focal / truth[0] - 1), rel=1e-4)
    assert rows["plain"].endswith("| known |")
    assert "2 optimiser steps each; mean ± standard deviation of one run" in printed


def test_a_training_that_fails_in_its_process_is_named(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(config.read_text())
    content["variants"] = {"broken": {**content["variants"]["plain"], "set": {"data": {"width": 100}}}}
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    assert ablate(config, "--seeds", "[0]", "--pictures", "0", "--repetitions", "0") == 2
    captured = capsys.readouterr()
    assert "1 of 1 runs failed, and are not in the table: broken_seed0" in captured.err
    assert "broken" not in (tmp_path / "out" / "report.md").read_text()
    assert "input size is 100x64" in (tmp_path / "out" / "runs" / "broken_seed0" / runs.LOG).read_text()


def test_what_cannot_be_is_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(config, "--minutes", "1") == 2
    assert "steps is 2, minutes is 1.0: expected one of them" in capsys.readouterr().err
    assert ablate(config, "--variants", "{}") == 2
    assert "expected names of folders" in capsys.readouterr().err
