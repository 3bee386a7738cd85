"""The tables of a report: what each run is, costs and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from training.evaluation.metrics import METRIC_NAMES
from training.evaluation.parts import pool_parts
from training.evaluation.run import Evaluation
from training.report.cost import Cost
from training.report.curves import TrainingLog
from training.report.table import Cell, Column, ReportTable

HIGHER_IS_BETTER = ("a1", "a2", "a3")


def cost_table(costs: Mapping[str, Cost], logs: Mapping[str, TrainingLog]) -> ReportTable:
    """Size, speed and training time of each run."""
    backends = list(dict.fromkeys((lat.backend, lat.precision) for cost in costs.values() for lat in cost.latencies))
    columns = [
        Column("run"),
        Column("network"),
        Column("input"),
        Column("parameters / M", "{:.2f}", "lowest"),
        Column("GFLOP", "{:.2f}", "lowest"),
        *(Column(f"{backend} {precision} / ms", "{:.1f}", "lowest") for backend, precision in backends),
        Column("steps", "{:,}"),
        Column("training / h", "{:.2f}"),
    ]
    rows: list[list[Cell]] = []
    for name, cost in costs.items():
        times = {(latency.backend, latency.precision): latency.milliseconds for latency in cost.latencies}
        rows.append(
            [
                name,
                cost.network,
                f"{cost.width}x{cost.height}",
                cost.parameters / 1e6,
                None if cost.flops is None else cost.flops / 1e9,
                *(times.get(backend) for backend in backends),
                cost.steps,
                logs[name].seconds / 3600 if name in logs else None,
            ]
        )
    devices = sorted({f"{lat.backend} on {lat.device}" for cost in costs.values() for lat in cost.latencies})
    note = "A multiply-add is two operations. Latency is the median of one inference, without resizing"
    return ReportTable("Networks", columns, rows, f"{note}: {', '.join(devices)}." if devices else f"{note}.")


def metric_table(evaluations: Mapping[str, Evaluation], protocol: str) -> ReportTable:
    """Mean metrics over frames."""
    metrics = [Column(m, "{:.3f}", "highest" if m in HIGHER_IS_BETTER else "lowest") for m in METRIC_NAMES]
    rows = [[name, len(evaluation.rows), *asdict(evaluation.mean).values()] for name, evaluation in evaluations.items()]
    return ReportTable("Depth", [Column("run"), Column("frames"), *metrics], rows, protocol)


def part_table(evaluations: Mapping[str, Evaluation]) -> ReportTable:
    """abs_rel by distance and by place in the image."""
    pooled = {
        name: {part.part: part.metrics.abs_rel for part in pool_parts([row.parts for row in evaluation.rows])}
        for name, evaluation in evaluations.items()
    }
    parts = list(dict.fromkeys(part for scores in pooled.values() for part in scores))
    columns = [Column("run"), *(Column(part, "{:.3f}", "lowest") for part in parts)]
    rows = [[name, *(scores.get(part) for part in parts)] for name, scores in pooled.items()]
    return ReportTable("Where the error is: abs_rel", columns, rows, "Over all pixels of all frames.")


def curve_table(logs: Mapping[str, TrainingLog], tags: Sequence[str]) -> ReportTable:
    """Last and best value of each validation curve."""
    columns = [Column("run")]
    for tag in tags:
        columns += [Column(f"{tag}, last", "{:.4f}", "lowest"), Column(f"{tag}, best", "{:.4f}", "lowest")]
    rows: list[list[Cell]] = []
    for name, log in logs.items():
        row: list[Cell] = [name]
        for tag in tags:
            values = [value for _, value in log.curves.get(tag, ())]
            row += [values[-1], min(values)] if values else [None, None]
        rows.append(row)
    return ReportTable(
        "Validation while training", columns, rows, "As logged; runs may have validated on other frames."
    )
