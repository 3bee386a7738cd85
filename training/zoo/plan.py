"""What a model of the zoo is made of, as config/training/zoo/*.yaml says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from training.data.source import Source
from training.errors import DataError

DATA = "DATA"
"""Stands for the folder of the data in recipes and options."""


@dataclass(frozen=True)
class DataStep:
    """A folder of training data that a command makes; recipes name it by its key.

    Args:
        command: `python -m training` command that writes it.
        config: YAML file with options of the command.
        options: further options, nested as there; they win over the file's.
    """

    command: Literal["proxy_depth", "synthesize", "prepare"]
    config: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One training, from the weights of the one before.

    Args:
        recipe: YAML file that `train` takes.
        set: what is different from it, nested as in the recipe.
        take: its checkpoint that goes on: the last one, or the best one on the recipe's validation frames.
    """

    recipe: Path
    set: dict[str, Any] = field(default_factory=dict)
    take: Literal["last", "best"] = "last"


@dataclass(frozen=True)
class Quantization:
    """The int8 variant.

    Args:
        sources: frames to calibrate on; never those that are scored.
        frames: how many.
        largest_loss: what abs_rel on the first scored data may lose, relative.
    """

    sources: list[Source]
    frames: int = 64
    largest_loss: float = 0.02


def substituted(value: Any, folders: Mapping[str, Path]) -> Any:
    """A nested value as YAML has it, in which paths that begin with a key of `folders` lead below that folder."""
    if isinstance(value, Mapping):
        return {key: substituted(item, folders) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [substituted(item, folders) for item in value]
    if isinstance(value, (str, Path)):
        first, _, rest = str(value).partition("/")
        return str(folders[first] / rest) if first in folders else str(value)
    return value


def names_in(value: Any) -> set[str]:
    """First parts of all texts and paths in a nested value: what `substituted` looks at."""
    if isinstance(value, Mapping):
        return names_in(list(value.values()))
    if isinstance(value, (list, tuple)):
        return {name for item in value for name in names_in(item)}
    return {str(value).partition("/")[0]} if isinstance(value, (str, Path)) else set()


def as_options(value: Any) -> dict[str, Any]:
    """A dataclass as the nested options that it was read from."""
    options: dict[str, Any] = asdict(value)
    return options


def check_names(data: Mapping[str, DataStep]) -> None:
    """Refuse names of folders that would hide others.

    Raises:
        DataError: a name is DATA, or is no name of a folder.
    """
    wrong = [name for name in data if name == DATA or not name.isidentifier()]
    if wrong:
        raise DataError(f"data are named {', '.join(wrong)}: expected words other than {DATA}, such as PROXY")
