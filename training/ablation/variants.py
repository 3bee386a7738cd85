"""What an ablation trains: recipes with changes, for several seeds, on one budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from training.errors import RecipeError
from training.recipes import merged, read_recipe

ENDLESS = 100_000  # epochs: the budget ends a run


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Args:
        recipe: YAML file that `train` takes.
        set: what is different from it, nested as in the recipe.
    """

    recipe: Path
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """What every run gets: optimiser steps, or minutes of training.

    Raises:
        RecipeError: not exactly one of them is given, or it is not above 0.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.minutes) if value is not None]
        if len(given) != 1 or not given[0] > 0:
            raise RecipeError(f"steps is {self.steps}, minutes is {self.minutes}: expected one of them, above 0")

    def trainer(self) -> dict[str, Any]:
        """Options of the trainer."""
        if self.steps is not None:
            return {"max_steps": self.steps, "max_epochs": -1}
        return {"max_time": {"seconds": round(60 * (self.minutes or 0))}, "max_steps": -1, "max_epochs": ENDLESS}

    def __str__(self) -> str:
        return f"{self.minutes:g} minutes" if self.steps is None else f"{self.steps:,} optimiser steps"


def compose_recipe(variant: Variant, common: Mapping[str, Any], budget: Budget, run: Mapping[str, Any]) -> str:
    """The recipe of one run as YAML: the variant's, then `common`, then what the variant changes, `run` and the budget.

    Raises:
        RecipeError: the recipe cannot be read, or its learning rate follows a schedule that minutes do not end.
    """
    recipe = read_recipe(variant.recipe)
    for changes in (common, variant.set, run, {"trainer": budget.trainer()}):
        recipe = merged(recipe, changes)
    optimization = recipe.get("model", {}).get("init_args", {}).get("optimization", {})
    schedule = optimization.get("schedule", "step")
    if budget.steps is None and schedule != "step":
        raise RecipeError(
            f"{variant.recipe} has the schedule {schedule}, which needs to know the last step: give steps in place of "
            "minutes, or set model.init_args.optimization.schedule: step"
        )
    return yaml.safe_dump(recipe, sort_keys=False)
