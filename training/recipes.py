"""Recipes as nested dictionaries: read, and put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from training.errors import RecipeError


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe as nested dictionaries.

    Raises:
        RecipeError: there is no such file, or it is no recipe.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} cannot be read as a recipe: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is no recipe: expected keys such as model and data")
    return content


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` in it: dictionaries are merged, all else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result
