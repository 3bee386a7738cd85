"""An evaluation as CSV, JSON, Markdown and a table on the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple
from pathlib import Path

import numpy as np
from rich.table import Table

from training.evaluation.metrics import METRIC_NAMES
from training.evaluation.parts import pool_parts
from training.evaluation.run import Evaluation, EvaluationOptions


def summary(evaluation: Evaluation) -> dict[str, object]:
    """What is worth keeping of an evaluation, ready for JSON.

    `scale` is the median of the per-frame factors and `scale_spread` the standard deviation of factor / median: how far
    the predictions are from one scale for all frames (Monodepth2 prints the same two). `parts` are errors by distance
    and by place in the image, over all pixels of all frames.
    """
    scales = np.array([row.scale for row in evaluation.rows])
    return {
        "predictor": evaluation.predictor,
        "frames": len(evaluation.rows),
        "unscored": list(evaluation.unscored),
        "options": asdict(evaluation.options),
        "coverage": float(np.mean([row.coverage for row in evaluation.rows])),
        "scale": float(np.median(scales)),
        "scale_spread": float(np.std(scales / np.median(scales))),
        "metrics": asdict(evaluation.mean),
        "parts": {
            part.part: {"pixels": part.pixels, **asdict(part.metrics)}
            for part in pool_parts([row.parts for row in evaluation.rows])
        },
    }


def write_tables(folder: Path, evaluation: Evaluation, provenance: Mapping[str, str]) -> None:
    """Write frames.csv, parts.csv, summary.json and summary.md; `provenance` says what was evaluated on what."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "frames.csv", evaluation)
    write_parts_csv(folder / "parts.csv", evaluation)
    content = {**provenance, **summary(evaluation)}
    (folder / "summary.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "summary.md").write_text(f"{markdown_table(evaluation)}\n{markdown_parts(evaluation)}")


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """One line a frame, in the order of the frames; depths in metres."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "pixels", "coverage", "scale", *METRIC_NAMES])
        for row in evaluation.rows:
            numbers = (row.coverage, row.scale, *astuple(row.metrics))
            writer.writerow([row.name, row.pixels, *(f"{number:.6g}" for number in numbers)])


def write_parts_csv(path: Path, evaluation: Evaluation) -> None:
    """One line for each distance band and image region of a frame that has scored pixels."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "part", "pixels", *METRIC_NAMES])
        for row in evaluation.rows:
            for part in row.parts:
                writer.writerow(
                    [row.name, part.part, part.pixels, *(f"{number:.6g}" for number in astuple(part.metrics))]
                )


def markdown_table(evaluation: Evaluation) -> str:
    """The mean as a Markdown table with one row."""
    header, row = _header_and_row(evaluation)
    return f"| {' | '.join(header)} |\n|{' --- |' * len(header)}\n| {' | '.join(row)} |\n"


def markdown_parts(evaluation: Evaluation) -> str:
    """Errors by distance and by image region as a Markdown table; over pixels, not frames."""
    header = ["part (over all pixels)", "pixels", *METRIC_NAMES]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for part in pool_parts([row.parts for row in evaluation.rows]):
        numbers = [f"{number:.3f}" for number in astuple(part.metrics)]
        lines.append(f"| {' | '.join([part.part, str(part.pixels), *numbers])} |")
    return "\n".join(lines) + "\n"


def terminal_table(evaluation: Evaluation) -> Table:
    """Mean and median over the frames as a table for `rich`, narrow enough for any terminal."""
    content = summary(evaluation)
    caption = f"{content['frames']} frames, coverage {content['coverage']:.3f}, scale {content['scale']:.3g}"
    rules = protocol(evaluation.options)
    title = f"{evaluation.predictor}\n{rules}"
    table = Table("metric", title=title, caption=caption, min_width=max(len(caption), len(rules)))
    table.add_column("mean", justify="right")
    table.add_column("median", justify="right")
    medians = np.median([astuple(row.metrics) for row in evaluation.rows], axis=0)
    for name, mean, median in zip(METRIC_NAMES, astuple(evaluation.mean), medians, strict=True):
        table.add_row(name, f"{mean:.3f}", f"{median:.3f}")
    return table


def protocol(options: EvaluationOptions) -> str:
    """Crop, cap and scaling in words."""
    crop = "Garg crop" if options.crop == "garg" else "whole image"
    named = {"median": "median scaling", "none": "no scaling"}
    scaling = named[options.scaling] if isinstance(options.scaling, str) else f"scale {options.scaling:g}"
    return f"{crop}, {options.max_depth:g} m, {scaling}"


def _header_and_row(evaluation: Evaluation) -> tuple[list[str], list[str]]:
    content = summary(evaluation)
    header = ["predictor", "frames", "coverage", "scale", *METRIC_NAMES]
    numbers = [f"{number:.3f}" for number in astuple(evaluation.mean)]
    row = [
        evaluation.predictor,
        str(content["frames"]),
        f"{content['coverage']:.3f}",
        f"{content['scale']:.3g}",
        *numbers,
    ]
    return header, row
