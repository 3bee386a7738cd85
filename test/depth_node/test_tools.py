"""The tool registry, what `ros2 run` finds, and inspect_model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from depth_node import __main__ as command_line
from depth_node import tools
from depth_node.backends import available_backends
from depth_node.errors import BagError
from depth_node.model import ModelFile, read_model
from depth_node.tools import TOOLS, Tool, run

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "depth_node" / "tools" / "scripts"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], cwd="/", env=environment, capture_output=True, text=True, check=False
    )


def test_ros2_run_finds_every_tool_and_the_node() -> None:
    assert {path.name for path in SCRIPTS.iterdir() if path.is_file()} == {*TOOLS, "depth_node"}


@pytest.mark.parametrize("name", [*TOOLS, "depth_node"])
def test_scripts_are_executable_python(name: str) -> None:
    script = SCRIPTS / name
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    compile(script.read_text(), name, "exec")


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_explains_itself(name: str) -> None:
    by_module, by_script = python("-m", "depth_node", name, "--help"), python(str(SCRIPTS / name), "--help")
    assert by_module.returncode == 0, by_module.stderr
    assert f"usage: {name}" in by_module.stdout
    assert by_script.stdout == by_module.stdout


def test_tools_are_listed() -> None:
    listing = python("-m", "depth_node")
    assert listing.returncode == 0
    for name, tool in TOOLS.items():
        assert f"{name}" in listing.stdout
        assert tool.description in listing.stdout


def test_an_unknown_tool_is_an_error_that_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["relpay"]) == 2
    error = capsys.readouterr().err
    assert "unknown tool 'relpay'" in error
    assert all(name in error for name in TOOLS)


@pytest.fixture
def failing_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Registers a tool whose module has the given text; its name."""

    def register(text: str) -> str:
        (tmp_path / "failing_tool_module.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "failing_tool_module", raising=False)
        monkeypatch.setitem(tools.TOOLS, "failing", Tool("failing_tool_module", ""))
        return "failing"

    return register


def test_a_typed_error_is_one_line_and_exit_code_2(
    failing_tool: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = failing_tool(
        f"from {BagError.__module__} import BagError\ndef main(argv):\n    raise BagError('no bag\\n  at all')\n"
    )
    assert run(name, []) == 2
    assert capsys.readouterr().err == "failing: no bag at all\n"


def test_a_missing_package_is_named(failing_tool: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    name = failing_tool("import no_such_package\n")
    assert run(name, []) == 2
    assert "failing: needs the Python package 'no_such_package'" in capsys.readouterr().err


def test_other_errors_are_not_hidden(failing_tool: Callable[[str], str]) -> None:
    name = failing_tool("def main(argv):\n    raise ZeroDivisionError\n")
    with pytest.raises(ZeroDivisionError):
        run(name, [])


def test_arguments_and_exit_code_pass_through(failing_tool: Callable[[str], str]) -> None:
    name = failing_tool("def main(argv):\n    return len(argv)\n")
    assert run(name, ["a", "b", "c"]) == 3


def test_a_tool_is_imported_only_when_it_is_run() -> None:
    loaded = python("-c", "import sys, depth_node.__main__; print([m for m in sys.modules if 'tools.' in m])")
    assert loaded.stdout.strip() == "[]"


def test_inspect_model_prints_the_contract(tiny_model_path: Path) -> None:
    result = python("-m", "depth_node", "inspect_model", str(tiny_model_path))
    assert result.returncode == 0, result.stderr
    for text in (
        "image uint8 [1, 32, 64, 3], rgb",
        "disparity float32 [1, 32, 64]",
        "0.5 to 100 m",
        "fx/W 0.5800, fy/H 1.9200",
        "linear in grey",
        read_model(tiny_model_path).checksum,
    ):
        assert text in result.stdout


def test_inspect_model_prints_the_confidence(
    make_tiny_model: Callable[..., ModelFile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_tiny_model(tmp_path / "sure.onnx", confidence=True).path
    assert run("inspect_model", [str(path)]) == 0
    assert "'confidence', 0 to 1 (sure)" in capsys.readouterr().out
    assert run("inspect_model", [str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["has_confidence"] is True


def test_inspect_model_as_json(tiny_model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect_model", [str(tiny_model_path), "--json", "--benchmark"]) == 0
    contract = json.loads(capsys.readouterr().out)
    assert (contract["input_width"], contract["input_height"]) == (64, 32)
    assert contract["intrinsics_prior"] == [0.58, 1.92, 0.49, 0.46]
    assert contract["checksum"] == read_model(tiny_model_path).checksum
    assert [row["backend"] for row in contract["benchmark"]] == list(available_backends())
    assert all(0 < row["median_ms"] <= row["p95_ms"] for row in contract["benchmark"])


def test_inspect_model_refuses_a_damaged_file(
    make_tiny_model: Callable[..., ModelFile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_tiny_model(tmp_path / "damaged.onnx").path
    path.write_bytes(path.read_bytes()[:-40])
    assert run("inspect_model", [str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"inspect_model: model file {path}: ")
    assert error.count("\n") == 1
