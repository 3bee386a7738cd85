"""Means and spreads by hand, in the columns of the papers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.ablation.runs import Outcome
from training.ablation.table import ablation_table, spread
from training.evaluation.metrics import DepthMetrics
from training.report.cost import Cost, Latency
from training.report.table import Spread

METRICS = DepthMetrics(0.1, 0.5, 4.0, 0.2, 0.05, 0.2, 0.9, 0.95, 0.99)
OUTCOME = Outcome(steps=100, samples_per_second=10.0, metrics=METRICS, focal_error=None, cameras="known")
COST = Cost("resnet18", 640, 192, 14_330_000, 16_000_000_000, 100, (Latency("openvino", "fp32", "CPU", 20.0),))


def cells(row: str) -> list[str]:
    return [cell.strip().strip("*") for cell in row.strip("|").split("|")]


def test_rows_have_mean_and_spread() -> None:
    other = replace(OUTCOME, metrics=replace(METRICS, abs_rel=0.3), focal_error=0.02, samples_per_second=30.0)
    table = ablation_table({"a": [OUTCOME, other], "b": [OUTCOME]}, {"a": COST}, METRICS, "100 steps", "Garg crop")
    header, _, a, b, constant = table.markdown().splitlines()[2:7]
    row = dict(zip(cells(header), cells(a), strict=True))
    assert row["abs_rel"] == "0.200 ± 0.141"  # of 0.1 and 0.3
    assert row["a1"] == "0.900 ± 0.000"
    assert (row["parameters / M"], row["GFLOP"], row["openvino fp32 / ms"]) == ("14.33", "16.00", "20.0")
    assert (row["samples/s"], row["steps"], row["focal error / %"]) == ("20.0 ± 14.1", "100 ± 0", "2.0")
    row = dict(zip(cells(header), cells(b), strict=True))
    assert (row["abs_rel"], row["GFLOP"], row["focal error / %"]) == ("0.100", "-", "known")
    row = dict(zip(cells(header), cells(constant), strict=True))
    assert (row["variant"], row["abs_rel"], row["samples/s"]) == ("constant map", "0.100", "-")


def test_the_best_is_so_by_its_mean() -> None:
    worse = replace(OUTCOME, metrics=replace(METRICS, rmse=5.0))
    table = ablation_table({"a": [worse], "b": [OUTCOME]}, {}, None, "", "")
    assert "**4.000**" in table.markdown()
    assert "**5.000**" not in table.markdown()


def test_spread() -> None:
    assert spread([]) is None
    assert spread([2.0]) == Spread(2.0, None)
    several = spread([1.0, 2.0, 3.0])
    assert several is not None
    assert (several.mean, several.deviation) == pytest.approx((2, 1))
