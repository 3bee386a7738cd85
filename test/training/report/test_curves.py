"""Curves and times of event files that are written here."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from torch.utils.tensorboard import SummaryWriter

from training.report.curves import TrainingLog, draw_curves, read_log, validation_tags


def write_events(folder: Path, suffix: str, tag: str, points: dict[int, float], start: float) -> None:
    """One entry every 10 s."""
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for place, (step, value) in enumerate(points.items()):
            writer.add_scalar(tag, value, step, walltime=start + 10 * place)


def test_a_resumed_training_is_one_curve(tmp_path: Path) -> None:
    write_events(tmp_path, ".1", "val/abs_rel", {0: 0.5, 10: 0.4, 20: 0.9}, start=1000)
    write_events(tmp_path, ".2", "val/abs_rel", {20: 0.3, 30: 0.25}, start=5000)  # after an hour's pause
    log = read_log(tmp_path)
    assert [step for step, _ in log.curves["val/abs_rel"]] == [0, 10, 20, 30]
    assert [value for _, value in log.curves["val/abs_rel"]] == pytest.approx([0.5, 0.4, 0.3, 0.25])
    assert log.seconds == 20 + 10


def test_a_folder_without_events(tmp_path: Path) -> None:
    assert read_log(tmp_path) == TrainingLog({}, 0.0)


def test_drawing_names_runs_and_tags() -> None:
    logs = {
        "first": TrainingLog({"val/abs_rel": ((0, 0.5), (9, 0.25)), "train/loss": ((0, 1.0),)}, 1.0),
        "second": TrainingLog({"val/photometric": ((0, 0.1),)}, 1.0),
    }
    tags = validation_tags(logs)
    assert tags == ["val/abs_rel", "val/photometric"]
    svg = draw_curves(logs, tags)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    for text in ("val/abs_rel", "val/photometric", "first", "second"):
        assert f"<!-- {text} -->" in svg  # the text that each group of glyphs draws
    assert "train/loss" not in svg
