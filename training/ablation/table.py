"""The table of an ablation, with the columns that the papers print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from training.ablation.runs import Outcome
from training.evaluation.metrics import DepthMetrics
from training.report.cost import Cost
from training.report.table import Cell, Column, ReportTable, Spread

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")


def ablation_table(
    outcomes: Mapping[str, Sequence[Outcome]],
    costs: Mapping[str, Cost],
    baseline: DepthMetrics | None,
    budget: str,
    protocol: str,
) -> ReportTable:
    """One row a variant: means over its seeds, and how far one run is from them.

    Args:
        outcomes: of all finished runs, by variant.
        costs: of each variant's network.
        baseline: metrics of one map for all images, which looks at none of them.
        budget: what each run got, in words.
        protocol: how depth was scored, in words.
    """
    timed = {f"{lat.backend} {lat.precision}": None for cost in costs.values() for lat in cost.latencies}
    metrics = [
        Column(name, "{:.3f}", "highest" if name.startswith("a") and name != "abs_rel" else "lowest")
        for name in METRICS
    ]
    columns = [
        Column("variant"),
        Column("runs"),
        *metrics,
        Column("parameters / M", "{:.2f}", "lowest"),
        Column("GFLOP", "{:.2f}", "lowest"),
        *(Column(f"{name} / ms", "{:.1f}", "lowest") for name in timed),
        Column("samples/s", "{:.1f}", "highest"),
        Column("steps", "{:,.0f}"),
        Column("focal error / %", "{:.1f}", "lowest"),
    ]
    rows = [_row(name, runs, costs.get(name), list(timed)) for name, runs in outcomes.items()]
    if baseline is not None:
        scores: list[Cell] = [getattr(baseline, name) for name in METRICS]
        rows.append(["constant map", None, *scores, *[None] * (len(columns) - 2 - len(METRICS))])
    seeds = max((len(runs) for runs in outcomes.values()), default=0)
    spread = "mean ± standard deviation of one run" if seeds > 1 else "one run each, so that differences have no spread"
    note = f"{budget} each; {spread}. {protocol}. A multiply-add is two operations."
    return ReportTable("Ablation", columns, rows, note)


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation; nothing without values."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None) if values else None


def _row(name: str, runs: Sequence[Outcome], cost: Cost | None, timed: Sequence[str]) -> list[Cell]:
    latencies = {f"{lat.backend} {lat.precision}": lat.milliseconds for lat in cost.latencies} if cost else {}
    errors = [100 * run.focal_error for run in runs if run.focal_error is not None]
    return [
        name,
        len(runs),
        *(spread([getattr(run.metrics, metric) for run in runs]) for metric in METRICS),
        cost.parameters / 1e6 if cost else None,
        cost.flops / 1e9 if cost and cost.flops is not None else None,
        *(latencies.get(key) for key in timed),
        spread([run.samples_per_second for run in runs if run.samples_per_second is not None]),
        spread([float(run.steps) for run in runs]),
        spread(errors) or (runs[0].cameras if runs else None),
    ]
