"""The models that come with the package: their files, cards, and what was measured of each.

models/NAME.onnx    the model
models/NAME.json    what was measured of it; written by `python -m training zoo`; a model may come without
models/CARD.md      the card that NAME.json names, for one or several files; NAME.md without NAME.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depth_node.errors import ModelFileError
from depth_node.resources import models_directory


@dataclass(frozen=True)
class MeasuredFacts:
    """What models/NAME.json says of a file.

    checksum: of the file that was measured. card: name of its card. recipe: file that makes it again. score: what it
    is mostly judged by, in words; empty where nothing is. measured: all numbers, as the card has them.
    """

    checksum: str
    card: str
    recipe: str
    score: str
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShippedModel:
    """A model that goes by its name. facts: None where nothing was measured; card: None where there is none."""

    name: str
    path: Path
    facts: MeasuredFacts | None
    card: Path | None


def shipped_models() -> list[ShippedModel]:
    """All of them, by name.

    Raises:
        ModelFileError: what is said of one is damaged.
    """
    return [_shipped(path) for path in sorted(models_directory().glob("*.onnx"))]


def shipped_model(name: str) -> ShippedModel:
    """The one of that name.

    Raises:
        ModelFileError: there is none; says which there are.
    """
    models = {model.name: model for model in shipped_models()}
    if name not in models:
        raise ModelFileError(f"there is no shipped model '{name}'; there are: {', '.join(models) or 'none'}")
    return models[name]


def write_facts(path: Path, facts: MeasuredFacts) -> None:
    """Write NAME.json."""
    path.write_text(json.dumps({**vars(facts)}, indent=2) + "\n", encoding="utf-8")


def read_facts(path: Path) -> MeasuredFacts:
    """Read NAME.json.

    Raises:
        ModelFileError: it is damaged.
    """
    try:
        return MeasuredFacts(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{path} does not say what was measured of a model ({error}); reinstall it") from error


def _shipped(path: Path) -> ShippedModel:
    said = path.with_suffix(".json")
    facts = read_facts(said) if said.is_file() else None
    card = path.with_name(facts.card) if facts else path.with_suffix(".md")
    return ShippedModel(path.stem, path, facts, card if card.is_file() else None)
