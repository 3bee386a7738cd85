"""Recipes of runs: what wins over what, and budgets."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from training import cli
from training.ablation.variants import Budget, Variant, compose_recipe
from training.errors import RecipeError
from training.recipes import merged, read_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {init_args: {scales: 4, pretrained: true}}\ndata: {width: 640, height: 192}\n")
    return path


def test_the_variant_wins_over_what_is_common_and_that_over_the_recipe(recipe: Path) -> None:
    variant = Variant(recipe, {"data": {"width": 64}})
    common = {"data": {"width": 320, "height": 96}, "model": {"init_args": {"pretrained": False}}}
    text = compose_recipe(variant, common, Budget(steps=7), {"name": "run"})
    assert yaml.safe_load(text) == {
        "name": "run",
        "model": {"init_args": {"scales": 4, "pretrained": False}},
        "data": {"width": 64, "height": 96},
        "trainer": {"max_steps": 7, "max_epochs": -1},
    }


def test_lists_and_nothing_are_replaced() -> None:
    assert merged({"a": [1, 2], "b": {"c": 1}}, {"a": [3], "b": None}) == {"a": [3], "b": None}
    assert merged({"b": None}, {"b": {"c": 1}}) == {"b": {"c": 1}}


def test_minutes_are_a_time(recipe: Path) -> None:
    trainer = yaml.safe_load(compose_recipe(Variant(recipe), {}, Budget(minutes=1.5), {}))["trainer"]
    assert trainer["max_time"] == {"seconds": 90}
    assert trainer["max_epochs"] > 1000
    assert str(Budget(minutes=1.5)) == "1.5 minutes"
    assert str(Budget(steps=1500)) == "1,500 optimiser steps"


def test_schedules_that_end_need_steps(recipe: Path) -> None:
    cosine = {"model": {"init_args": {"optimization": {"schedule": "cosine"}}}}
    with pytest.raises(RecipeError, match="schedule cosine, which needs to know the last step"):
        compose_recipe(Variant(recipe, cosine), {}, Budget(minutes=1), {})
    assert "cosine" in compose_recipe(Variant(recipe, cosine), {}, Budget(steps=1), {})


@pytest.mark.parametrize(("steps", "minutes"), [(None, None), (1, 1.0), (0, None), (None, -1.0)])
def test_budgets_are_one_number_above_zero(steps: int | None, minutes: float | None) -> None:
    with pytest.raises(RecipeError, match="expected one of them, above 0"):
        Budget(steps, minutes)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        compose_recipe(Variant(tmp_path / "absent.yaml"), {}, Budget(steps=1), {})
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(RecipeError, match="is no recipe"):
        compose_recipe(Variant(tmp_path / "list.yaml"), {}, Budget(steps=1), {})


ROOT = Path(__file__).parents[3]
SHIPPED = read_recipe(ROOT / "config" / "training" / "ablation.yaml")


@pytest.mark.parametrize("name", SHIPPED["variants"])
@pytest.mark.parametrize(
    ("budget", "optimization"), [(Budget(steps=10), {}), (Budget(minutes=1), {"schedule": "step"})]
)
def test_shipped_variants_are_recipes(name: str, budget: Budget, optimization: dict[str, str], tmp_path: Path) -> None:
    """As `train --print_config` reads them, which checks keys and types and runs nothing."""
    content = SHIPPED["variants"][name]
    run = {"data": {"root": "DATA"}, "model": {"init_args": {"optimization": optimization}}}
    variant = Variant(ROOT / content["recipe"], content.get("set", {}))
    path = tmp_path / "recipe.yaml"
    path.write_text(compose_recipe(variant, SHIPPED["common"], budget, run))
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--config", str(path), "--print_config"])
    assert stop.value.code == 0
