"""Options from typed functions: unknown keys are errors that name the nearest known one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from training.command_line import nearest_key, run_function

KEYS = ["data.batch_size", "data.width", "trainer.width_factor", "model", "name", "other.name"]


@dataclass(frozen=True)
class Size:
    """Size of something.

    Args:
        width: pixels across.
    """

    width: int = 640


CALLS: list[dict[str, Any]] = []


def draw(output: Path, sizes: list[Size], size: Size = Size(1), speed: float = 2.0) -> int:
    """Draw boxes.

    The long story.

    Args:
        output: file to write.
        sizes: all boxes.
        size: the first box.
        speed: strokes a second.
    """
    CALLS.append({"output": output, "sizes": sizes, "size": size, "speed": speed})
    return 3


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("unrecognized arguments: --data.batch_sise 3", "Did you mean 'data.batch_size' instead of 'data.batch_sise'?"),
        ("unrecognized arguments: --batch_size=3", "Did you mean 'data.batch_size' instead of 'batch_size'?"),
        ("Option 'nmae' is not accepted", "Did you mean 'name' instead of 'nmae'?"),
        (
            "Group 'data' does not accept option 'widht'",
            "Did you mean 'data.width' instead of 'data.widht'?",
        ),
        ("Option 'entirely_different' is not accepted", ""),
        ('Parser key "data.width":\n  Expected a int. Got value: wide', ""),
    ],
)
def test_nearest_key(message: str, hint: str) -> None:
    assert nearest_key(message, KEYS) == hint


def test_options_become_typed_arguments(tmp_path: Path) -> None:
    config = tmp_path / "draw.yaml"
    config.write_text("{output: a.png, speed: 5, sizes: [{width: 3}, {}]}")
    assert run_function(draw, ["--config", str(config), "--speed", "7", "--size.width", "9"]) == 3
    assert CALLS.pop() == {"output": Path("a.png"), "sizes": [Size(3), Size(640)], "size": Size(9), "speed": 7.0}


def join(words: list[Path], first: int = 0) -> int:
    """Join words.

    Args:
        words: all of them.
        first: where to begin.
    """
    CALLS.append({"words": words})
    return first


def test_operands_need_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_function(join, ["a", "b", "--first", "2"], operand="words") == 2
    assert CALLS.pop() == {"words": [Path("a"), Path("b")]}
    with pytest.raises(SystemExit):
        run_function(join, ["--first", "2"], operand="words")
    with pytest.raises(SystemExit):
        run_function(join, ["--help"], operand="words")
    assert "words all of them." in " ".join(capsys.readouterr().out.split())


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        run_function(draw, arguments)
    assert stop.value.code == 2
    assert CALLS == []
    return capsys.readouterr().err


GOOD = ["--output", "a.png", "--sizes", "[]"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--sped", "3"], "'speed' instead of 'sped'"),
        (["--spee", "3"], "'speed' instead of 'spee'"),  # no abbreviations
        (["--size.wdth", "3"], "'size.width' instead of 'size.wdth'"),
        (["--size", "{wdth: 3}"], "'size.width' instead of 'size.wdth'"),
        (["--sizes", "[{width: 1}, {wdth: 3}]"], "'width' instead of 'wdth'"),
        (["--width", "3"], "'size.width' instead of 'width'"),
    ],
)
def test_unknown_option(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = failed([*GOOD, *arguments], capsys)
    assert error.count("Did you mean") == 1
    assert f"Did you mean {hint}?" in error


@pytest.mark.parametrize(
    ("content", "hint"),
    [("spede: 1", "'speed' instead of 'spede'"), ("size: {widht: 3}", "'size.width' instead of 'size.widht'")],
)
def test_unknown_key_of_a_file(tmp_path: Path, content: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "draw.yaml").write_text(content)
    error = failed(["--config", str(tmp_path / "draw.yaml"), *GOOD], capsys)
    assert f"Did you mean {hint}?" in error


def test_wrong_type_and_missing_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Expected a <class 'float'>. Got value: fast" in failed([*GOOD, "--speed", "fast"], capsys)
    assert "output" in failed(["--sizes", "[]"], capsys)


def test_help_tells_purpose_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_function(draw, ["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Draw boxes. The long story. options:" in text
    assert "--speed SPEED strokes a second. (type: float, default: 2.0)" in text
    assert "--size.width WIDTH pixels across." in text
    assert "python -m training draw" in text
