"""A model card: a written part with {{sections}} that are filled with what was measured. No number is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.evaluation.metrics import METRIC_NAMES
from training.zoo.history import TrainedStage

SECTIONS = ("files", "data", "training", "scores", "distances", "stability", "latency", "worst")
SECTION = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Measured:
    """All that is known of a model and its variants.

    variants: model files, the one in floating point first. scored: what `score` wrote of each, in their order.
    timings: what `latency` wrote. pictures: JPEG of the worst frames, None without.
    """

    name: str
    recipe: str
    history: Sequence[TrainedStage]
    variants: Sequence[Path]
    scored: Sequence[Mapping[str, Any]]
    timings: Mapping[str, Any]
    pictures: Path | None


def read_card(path: Path) -> str:
    """The written part of a card.

    Raises:
        DataError: it cannot be read, lacks a section, or names one that there is not.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"the written part of the card cannot be read: {error}") from error
    named = SECTION.findall(text)
    wrong = [f"no {{{{{name}}}}}" for name in SECTIONS if name not in named]
    wrong += [f"an unknown {{{{{name}}}}}" for name in named if name not in SECTIONS]
    if wrong:
        raise DataError(f"{path} has {', '.join(wrong)}; expected each of: {', '.join(SECTIONS)}")
    return text


def fill_card(text: str, measured: Measured, picture: str | None) -> str:
    """The card: `text` with every section filled in. picture: link to the picture of the worst frames."""
    sections = card_sections(measured, picture)
    return SECTION.sub(lambda match: sections[match[1]], text)


def card_sections(measured: Measured, picture: str | None) -> dict[str, str]:
    """Markdown of all that was measured, by section."""
    scored = {path.stem: numbers for path, numbers in zip(measured.variants, measured.scored, strict=True)}
    return {
        "files": _files(scored),
        "data": _data(measured.history),
        "training": _training(measured.history, measured.recipe),
        "scores": _scores(scored),
        "distances": _distances(scored),
        "stability": _stability(scored),
        "latency": _latency(measured.timings),
        "worst": _worst(next(iter(scored.values())), picture),
    }


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _files(scored: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, numbers in scored.items():
        width, height = numbers["input"]
        arithmetic = numbers["int8"]["summary"] if "int8" in numbers else "floating point, weights stored as float16"
        size = f"{numbers['bytes'] / 1e6:.1f} MB"
        rows.append([name, f"{width}x{height}", f"{numbers['parameters'] / 1e6:.2f} M", size, arithmetic])
    return table(["file", "input", "parameters", "size", "arithmetic"], rows)


def _data(history: Sequence[TrainedStage]) -> str:
    counts: dict[tuple[str, str, int], dict[str, int]] = {}
    for stage in history:
        for source in stage.sources:
            seen = counts.setdefault((source.source, source.depth, source.frames), {})
            seen[stage.name] = seen.get(stage.name, 0) + source.repeat
    header = ["frames", "data", "depth from", *(f"times an epoch of {stage.name}" for stage in history)]
    rows = [
        [str(frames), source, depth, *(str(seen.get(stage.name, "-")) for stage in history)]
        for (source, depth, frames), seen in counts.items()
    ]
    return table(header, rows)


def _training(history: Sequence[TrainedStage], recipe: str) -> str:
    rows = []
    for stage in history:
        rate = stage.optimization.get("learning_rate")
        schedule = " ".join(
            str(stage.optimization[key]) for key in ("optimizer", "schedule") if stage.optimization.get(key)
        )
        hours = "-" if stage.hours is None else f"{stage.hours:.1f}"
        size, rates = f"{stage.width}x{stage.height}", f"{schedule}, {rate:g}" if rate else schedule
        rows.append(
            [stage.name, stage.task, size, str(stage.batch_size), f"{stage.steps:,}", rates, stage.precision, hours]
        )
    header = ["stage", "task", "input", "batch", "steps", "optimiser, learning rate", "arithmetic", "hours"]
    return f"{table(header, rows)}\n\nAgain by one command: `python -m training zoo --config {recipe} --root DATA`."


def _scores(scored: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for data in next(iter(scored.values()))["data"]:
        for name, numbers in scored.items():
            entry = numbers["data"][data]
            rows.append([data, name, "median", *_metrics(entry["median"])])
            if "none" in entry:
                rows.append([data, name, "none", *_metrics(entry["none"])])
        entry = next(iter(scored.values()))["data"][data]
        if "baseline" in entry:
            constant = [f"{entry['baseline'][metric]:.3f}" for metric in METRIC_NAMES]
            rows.append([data, "one constant map", "median", str(entry["median"]["frames"]), *constant])
    rules = {data: entry["protocol"] for data, entry in next(iter(scored.values()))["data"].items()}
    protocols = "; ".join(f"{data}: {rule.rpartition(', ')[0]}" for data, rule in rules.items())
    computed = ", ".join(numbers["predictor"] for numbers in scored.values())
    note = f"By the node's own pipeline: {computed}. {protocols}."
    return f"{table(['data', 'model', 'scaling', 'frames', *METRIC_NAMES], rows)}\n\n{note}"


def _metrics(evaluation: Mapping[str, Any]) -> list[str]:
    return [str(evaluation["frames"]), *(f"{evaluation['metrics'][metric]:.3f}" for metric in METRIC_NAMES)]


def _distances(scored: Mapping[str, Mapping[str, Any]]) -> str:
    first = next(iter(scored.values()))["data"]
    parts = list(dict.fromkeys(part for entry in first.values() for part in entry["median"]["parts"]))
    rows = []
    for data, entry in first.items():
        found = entry["median"]["parts"]
        rows.append([data, *(f"{found[part]['abs_rel']:.3f}" if part in found else "-" for part in parts)])
    return table(["abs_rel, median scaling", *parts], rows)


def _stability(scored: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, numbers in scored.items():
        for data, entry in numbers["data"].items():
            if "stability" in entry:
                found = entry["stability"]
                changes = [found[key] for key in ("change", "scale_change", "shape_change", "truth_change")]
                rows.append([data, name, str(found["pairs"]), *(f"{change:.2%}" for change in changes)])
    if not rows:
        return "Not measured."
    return table(["data", "model", "pairs", "change", "of all pixels together", "beside that", "of the truth"], rows)


def _latency(timings: Mapping[str, Any]) -> str:
    rows = [
        [timing["model"], timing["backend"], timing["precision"]]
        + [f"{timing[key]:.1f}" for key in ("median", "fastest", "p95")]
        for timing in timings["timings"]
    ]
    on = timings["machine"]
    loads = f"load average {on['load_before']:.1f} before, {on['load_after']:.1f} after"
    note = (
        f"{on['cpu']}, {on['cores']} cores, {on['utc'][:10]}; in turns, {loads}: above about 0.3 the machine was busy."
    )
    return f"{table(['model', 'backend', 'precision', 'median / ms', 'fastest', 'p95'], rows)}\n\n{note}"


def _worst(numbers: Mapping[str, Any], picture: str | None) -> str:
    lines = []
    for data, entry in numbers["data"].items():
        if "worst" in entry:
            worst = ", ".join(f"{frame['frame']} ({frame['abs_rel']:.3f})" for frame in entry["worst"])
            lines.append(f"- {data}: {worst}")
    if picture is None:
        return "\n".join(lines) or "Not measured."
    return "\n".join([*lines, "", f"![predictions and errors of the worst frames]({picture})"])
