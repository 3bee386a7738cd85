"""Tables say what the evaluation holds."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.evaluation.metrics import METRIC_NAMES, DepthMetrics, mean_metrics
from training.evaluation.run import Evaluation, EvaluationOptions, FrameRow
from training.evaluation.tables import summary, terminal_table, write_tables


@pytest.fixture
def evaluation() -> Evaluation:
    rows = tuple(
        FrameRow(f"clip/{i}", 100 + i, 1.0 - i / 10, scale, DepthMetrics(*(np.arange(9.0) / 10 + i).tolist()))
        for i, scale in enumerate([2.0, 4.0, 6.0])
    )
    return Evaluation("net", EvaluationOptions(), rows, ("clip/9",), mean_metrics([row.metrics for row in rows]))


def test_files(tmp_path: Path, evaluation: Evaluation) -> None:
    write_tables(tmp_path / "out", evaluation, {"dataset": "kitti_2015"})
    with (tmp_path / "out" / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["clip/0", "clip/1", "clip/2"]
    assert [float(row["a3"]) for row in rows] == pytest.approx([0.8, 1.8, 2.8])
    assert (rows[1]["pixels"], float(rows[1]["coverage"]), float(rows[1]["scale"])) == ("101", 0.9, 4.0)

    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content["dataset"] == "kitti_2015"
    assert content["frames"] == 3
    assert content["unscored"] == ["clip/9"]
    assert list(content["metrics"]) == list(METRIC_NAMES)
    assert content["metrics"]["abs_rel"] == pytest.approx(1.0)
    bands = [0.0, 10.0, 20.0, 40.0, 80.0]
    protocol = {"scaling": "median", "min_depth": 1e-3, "max_depth": 80.0, "crop": "garg", "bands": bands}
    assert content["options"] == protocol

    header, rule, row = (tmp_path / "out" / "summary.md").read_text().split("\n\n")[0].splitlines()
    assert header.count("|") == rule.count("|") == row.count("|") == len(METRIC_NAMES) + 5
    assert row.startswith("| net | 3 | 0.900 | 4 | 1.000 |")


def test_scale_spread_is_relative_to_the_median(evaluation: Evaluation) -> None:
    content = summary(evaluation)
    assert content["scale"] == 4.0
    # Ratios 0.5, 1, 1.5: their standard deviation is the root of (0.25 + 0 + 0.25) / 3.
    assert content["scale_spread"] == pytest.approx(np.sqrt(0.5 / 3))


def test_terminal_table_fits_a_narrow_terminal(evaluation: Evaluation) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(terminal_table(evaluation))
    text = console.export_text()
    assert "…" not in text
    assert all(name in text for name in (*METRIC_NAMES, "Garg crop, 80 m, median scaling", "3 frames"))
