"""Which of TensorRT's names our source uses, found in its syntax tree; and which a version has.

`python test/support/tensorrt_names.py`, where `tensorrt` (or `tensorrt_bindings`, for the wheels without libraries) can
be imported, prints those that are in use and exist there, for test/depth_node/tensorrt_names.txt. The wheels of 10.x
and 11.x also import next to stand-ins for NVIDIA's libraries that export the nine functions they are linked to.
"""

from __future__ import annotations

import ast
import importlib
import operator
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "depth_node" / "backends" / "tensorrt" / "tensorrt_api.py"

# Of which class of TensorRT a variable is, and what a method gives.
VARIABLES = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "layer": "ILayer",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
    "self._runtime": "Runtime",
}
RESULTS = {
    "OnnxParser.get_error": "ParserError",
    "IBuilderConfig.get_timing_cache": "ITimingCache",
    "ILayer.get_output": "ITensor",
    "INetworkDefinition.get_layer": "ILayer",
}
_COMPARISONS = {ast.GtE: operator.ge, ast.Lt: operator.lt}


def used_names(source: str, major: int) -> set[str]:
    """Names that code uses with one major version, such as `Builder.create_network`; `MAJOR` decides its branches."""
    return set(_names(ast.parse(source), major))


def _names(node: ast.AST, major: int) -> Iterator[str]:
    children: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and (holds := _holds(node.test, major)) is not None:
        children = [node.test, *(node.body if holds else node.orelse)]
    if isinstance(node, ast.Attribute) and not node.attr.startswith("__") and (owner := _class(node.value)) is not None:
        yield f"{owner}.{node.attr}".lstrip(".")
    if isinstance(node, ast.ClassDef):
        for base in node.bases:
            if (owner := _class(base)) is not None:
                methods = [child.name for child in node.body if isinstance(child, ast.FunctionDef)]
                public = [name for name in methods if not name.startswith("_") and name != "reason"]
                yield from (f"{owner}.{name}" for name in public)
    for child in children:
        yield from _names(child, major)


def _holds(test: ast.expr, major: int) -> bool | None:
    """What a condition on `MAJOR` comes to; None for another one. `A and B` holds as far as `A` says."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return _holds(test.values[0], major)
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "MAJOR":
        (bound,) = test.comparators
        assert isinstance(bound, ast.Constant)
        return bool(_COMPARISONS[type(test.ops[0])](major, bound.value))
    return None


def _class(node: ast.expr) -> str | None:
    """The class of TensorRT that an expression is of; None where it is of none."""
    if isinstance(node, ast.Call):
        return (
            RESULTS.get(f"{_class(node.func.value)}.{node.func.attr}") if isinstance(node.func, ast.Attribute) else None
        )
    text = ast.unparse(node)
    if text in VARIABLES:
        return VARIABLES[text]
    owner = _class(node.value) if isinstance(node, ast.Attribute) else None
    return f"{owner}.{node.attr}".lstrip(".") if isinstance(node, ast.Attribute) and owner is not None else None


def main() -> None:
    """Print the version, and the names."""
    try:
        module = importlib.import_module("tensorrt")
    except ImportError:
        module = importlib.import_module("tensorrt_bindings")
    source = SOURCE.read_text(encoding="utf-8")
    print(module.__version__)
    for name in sorted(used_names(source, 8) | used_names(source, 10)):
        found: object = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            print(name)


if __name__ == "__main__":
    sys.exit(main())
