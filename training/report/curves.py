"""Curves and times of a training, from its TensorBoard event files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

VALIDATION = "val/"


@dataclass(frozen=True)
class TrainingLog:
    """What a training logged.

    curves: tag -> (step, value), ascending in steps; where a resumed training repeats steps, the later writing counts.
    seconds: from the first to the last entry of each event file, summed: pauses between a kill and its resume are out.
    """

    curves: Mapping[str, tuple[tuple[int, float], ...]]
    seconds: float


def read_log(folder: Path) -> TrainingLog:
    """All scalars in the event files of `folder`; no curves where it has none."""
    points: dict[str, dict[int, float]] = {}
    seconds = 0.0
    for file in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        times = []
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                points.setdefault(tag, {})[event.step] = event.value
                times.append(event.wall_time)
        seconds += max(times) - min(times) if times else 0.0
    return TrainingLog({tag: tuple(sorted(values.items())) for tag, values in points.items()}, seconds)


def validation_tags(logs: Mapping[str, TrainingLog]) -> list[str]:
    """Tags of validation that any of the logs has, sorted."""
    return sorted({tag for log in logs.values() for tag in log.curves if tag.startswith(VALIDATION)})


def draw_curves(logs: Mapping[str, TrainingLog], tags: list[str]) -> str:
    """One plot a tag, one line a log, over optimiser steps, as SVG."""
    figure = Figure(figsize=(6.5 * len(tags), 4), layout="constrained")
    for axes, tag in zip(figure.subplots(1, len(tags), squeeze=False)[0], tags, strict=True):
        for color, (name, log) in enumerate(logs.items()):
            if tag in log.curves:
                steps, values = zip(*log.curves[tag], strict=True)
                axes.plot(steps, values, marker=".", color=f"C{color}", label=name)
        axes.set(title=tag, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend()
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    return svg.getvalue()
