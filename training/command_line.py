"""Options from typed functions and recipes (jsonargparse), with errors that name the nearest known key."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

UNKNOWN_KEY = re.compile(r"(?:Option|does not accept option) '([\w.]+)'|unrecognized arguments: --([\w.]+)")


def nearest_key(message: str, known: Iterable[str]) -> str:
    """A sentence that names the known key nearest to the unknown one of a parser's message; empty where there is none."""
    match = UNKNOWN_KEY.search(message)
    if match is None:
        return ""
    unknown = match[1] or match[2]
    keys = sorted(set(known))
    candidates = difflib.get_close_matches(unknown, keys, n=1, cutoff=0.6)
    if not candidates:  # the unknown key may be given without the group that it belongs to
        by_leaf = {key.rpartition(".")[2]: key for key in keys}
        candidates = [
            by_leaf[k] for k in difflib.get_close_matches(unknown.rpartition(".")[2], by_leaf, n=1, cutoff=0.6)
        ]
    return f"Did you mean {candidates[0]!r} instead of {unknown!r}?" if candidates else ""


def known_keys(parser: ArgumentParser, classes: Iterable[Callable[..., Any]] = ()) -> list[str]:
    """Dotted options of a parser, and the parameters of classes that a recipe may name."""
    options = [o.removeprefix("--") for action in parser._actions for o in action.option_strings if o.startswith("--")]
    return options + [name for cls in classes for name in inspect.signature(cls).parameters if name != "self"]


class Parser(ArgumentParser):
    """jsonargparse's parser, with a hint at the nearest key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the message and the hint."""
        super().error(f"{message}\n{nearest_key(message, known_keys(self))}".rstrip(), ex)


class RecipeParser(LightningArgumentParser):
    """LightningCLI's parser, with a hint at the nearest key, that of nested classes included."""

    nested_classes: Sequence[Callable[..., Any]] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the message and the hint."""
        hint = nearest_key(message, known_keys(self, self.nested_classes))
        super().error(f"{message}\n{hint}".rstrip(), ex)


def run_function(function: Callable[..., int], arguments: Sequence[str]) -> int:
    """Call a typed function with options from the command line or from `--config FILE.yaml`; returns its exit code."""
    name = function.__name__
    parser = Parser(prog=f"python -m training {name}", description=inspect.getdoc(function))
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    parser.add_function_arguments(function)
    parsed = parser.parse_args(list(arguments))
    parsed.pop("config", None)
    return function(**parser.instantiate_classes(parsed).as_dict())
