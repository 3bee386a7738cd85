"""Options from typed functions and recipes (jsonargparse), with errors that name the nearest known key."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

UNKNOWN_KEY = re.compile(
    r"(?:Option '(?P<option>[\w.]+)' is not accepted"
    r"|Group '(?P<group>[\w.]+)' does not accept option '(?P<member>[\w.]+)'"
    r"|unrecognized arguments: --(?P<argument>[\w.]+))"
)


def nearest_key(message: str, known: Iterable[str]) -> str:
    """A sentence that names the known key nearest to the unknown one of a parser's message; empty if there is none."""
    match = UNKNOWN_KEY.search(message)
    if match is None:
        return ""
    unknown = match["option"] or match["argument"] or f"{match['group']}.{match['member']}"
    keys = sorted(known)
    candidates = difflib.get_close_matches(unknown, keys, n=1)
    if not candidates:  # the unknown key may be given without the group that it belongs to
        by_leaf = {_leaf(key): key for key in keys}
        candidates = [by_leaf[leaf] for leaf in difflib.get_close_matches(_leaf(unknown), by_leaf, n=1)]
    return f"Did you mean {candidates[0]!r} instead of {unknown!r}?" if candidates else ""


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


class Parser(ArgumentParser):
    """jsonargparse's parser with whole keys only, and a hint at the nearest one after an unknown one.

    jsonargparse reads nested classes with parsers of this same class, so that their keys get hints as well.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the message and the hint."""
        hint = "" if "Did you mean" in message else nearest_key(message, self._known_keys())
        super().error(f"{message}\n{hint}".rstrip(), ex)

    def _known_keys(self) -> list[str]:
        options = [option for action in self._actions for option in action.option_strings]
        return [option.removeprefix("--") for option in options if option.startswith("--")]


def run_function(function: Callable[..., int], arguments: Sequence[str], operand: str | None = None) -> int:
    """Call a typed function with options from the command line or from `--config FILE.yaml`; returns its exit code.

    operand: parameter that is given without a name; one or more words where it is a list.
    """
    purpose, _, _ = (inspect.getdoc(function) or "").partition("\n\nArgs:")
    parser = Parser(prog=f"python -m training {function.__name__}", description=purpose)
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    if operand is not None:
        _add_operand(parser, function, operand)
    parser.add_function_arguments(function, as_group=False, skip={operand} if operand else None)
    options = parser.instantiate(parser.parse_args(plain_options(function, arguments))).as_dict()
    del options["config"]
    return function(**options)


def plain_options(function: Callable[..., int], arguments: Sequence[str]) -> list[str]:
    """Arguments as the parser takes them: `--keep-still` for `--keep_still true`."""
    flags = {name for name, kind in get_type_hints(function).items() if kind is bool}
    plain = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            option = "--" + option[2:].replace("-", "_")
            if option[2:] in flags and not equals and following.lower() not in ("true", "false"):
                equals, value = "=", "true"
        plain.append(option + equals + value)
    return plain


def _add_operand(parser: ArgumentParser, function: Callable[..., int], name: str) -> None:
    kind = get_type_hints(function)[name]
    is_list = get_origin(kind) is list
    described = re.search(rf"^ *{name}: (.*)$", inspect.getdoc(function) or "", re.MULTILINE)
    parser.add_argument(
        name,
        type=get_args(kind)[0] if is_list else kind,
        nargs="+" if is_list else None,
        help=described.group(1) if described else None,
    )
