"""`python -m training`: what there is, and how each command explains itself."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from depth_node.errors import DepthNodeError
from training import cli

RECIPES = Path(__file__).resolve().parents[2] / "config" / "training"
FUNCTIONS = [name for name in cli.COMMANDS if name != "train"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, summary) in cli.COMMANDS.items():
        assert any(line.split(maxsplit=1) == [name, summary] for line in lines)


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian", "--config", "x"]) == 2
    error = capsys.readouterr().err
    assert "unknown command 'trian'" in error
    assert "train a network by a recipe" in error


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_names_and_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(name, capsys)
    function: Callable[..., Any] = getattr(importlib.import_module(cli.COMMANDS[name][0]), name)
    listed = text[min(text.find(title) % len(text) for title in ("positional arguments:", "options:")) :]
    listed = " ".join(listed.split())
    for option in inspect.signature(function).parameters:
        assert re.search(rf"(--|arguments: ){option}(\.\w+)? ", listed), option
        assert not re.search(rf"(--|arguments: ){option}( \S+)? \((required|type)", listed), (
            f"{option} is not explained"
        )
    assert "Args:" not in text
    assert " ".join((inspect.getdoc(function) or "").split())[:60] in " ".join(text.split())


def test_help_of_train_names_tasks_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("train", capsys)
    assert text.startswith(
        "usage: python -m training train [--config RECIPE.yaml] [options]\n\nTrain a network by a recipe"
    )
    assert "\n  python -m training train --config RECIPE --resume" in text  # examples keep their lines
    assert "Tasks: SelfSupervisedDepth, SupervisedDepth, SupervisedMotion." in text
    for option in ("--resume", "--weights", "--name", "--data.batch_size", "--data.augmentation.flip", "--model"):
        assert f"\n  {option} " in text


def test_help_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--model.help", "SupervisedDepth"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("network.encoder", "network.decoder", "canonical_intrinsics", "optimization.learning_rate"):
        assert f"{option} " in text


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_shipped_recipes_have_known_keys_only(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As printed by --print_config, which checks keys and types and runs nothing."""
    content = (RECIPES / recipe).read_text()
    if "variants:" in content:
        arguments = ["ablate", "--root", "DATA"]
    elif "class_path" in content:
        arguments = ["train", "--data.root", "DATA"]
    else:
        arguments = ["proxy_depth", "--root", "DATA", "--output", "PROXY"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, "--config", str(RECIPES / recipe), "--print_config"])
    assert stop.value.code == 0
    assert "path: " in capsys.readouterr().out


def test_errors_that_a_user_can_mend_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> int:
        raise DepthNodeError(f"got {arguments}: give something else")

    monkeypatch.setattr("training.export.main", fail)
    assert cli.main(["export", "a"]) == 2
    assert capsys.readouterr().err == "export: got ['a']: give something else\n"


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: list[str]) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr("training.export.main", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["export"])
