"""`python -m training evaluate_robustness`: depth errors in fog, snow, rain and darkness, beside those in clear air."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from training.command_line import run_function
from training.data.image_files import read_rgb
from training.data.records import FrameRecord
from training.data.source import Kind
from training.errors import DataError
from training.evaluation.command import create_predictor, read_records
from training.evaluation.corruptions import CORRUPTIONS, STRENGTHS, seed_of
from training.evaluation.metrics import METRIC_NAMES, DepthMetrics, mean_metrics
from training.evaluation.pictures import PANEL_WIDTH, Picture, assemble, frame_panels, label_panel
from training.evaluation.predictors import Predictor
from training.evaluation.run import EvaluationOptions, ScoredFrame, score
from training.evaluation.tables import protocol
from training.report.table import Column, ReportTable


@dataclass(frozen=True)
class Condition:
    """Weather or darkness at a strength; clear air is `clean` at 0."""

    name: str
    strength: int

    def __str__(self) -> str:
        return self.name if self.strength == 0 else f"{self.name} {self.strength}"

    def apply(self, image: Picture, truth: np.ndarray, frame: str) -> Picture:
        """The image uint8 [H, W, 3], RGB, in this condition; truth: float32 [H, W] metres; frame: its name."""
        if self.strength == 0:
            return image
        return CORRUPTIONS[self.name](image, truth, self.strength, seed_of(frame, self.strength))


CLEAN = Condition("clean", 0)
CONDITIONS = (CLEAN, *(Condition(name, strength) for name in CORRUPTIONS for strength in STRENGTHS))


def evaluate_robustness(
    *,
    root: Path,
    output: Path,
    checkpoint: Path | None = None,
    model: Path | None = None,
    dataset: Kind = "kitti_2015",
    split: str | None = None,
    select: list[str] | None = None,
    camera: str | None = None,
    depth_root: Path | None = None,
    backend: str = "auto",
    scaling: Literal["median", "none"] = "median",
    max_depth: float = 80.0,
) -> int:
    """Score depth in clear air, fog, snow, rain and darkness, each at three strengths.

    Fog is by the true depth; snow and rain are albumentations', darkness has the noise of few photons. Frames look the
    same in every evaluation. Prints the mean metrics and writes summary.json, summary.md and sheet.jpg, the middle
    frame in every condition.

    Args:
        root: folder of the data set.
        output: folder to write to.
        checkpoint: checkpoint of `train`, run in PyTorch.
        model: exported ONNX file, run by the node's own pipeline.
        dataset: how `root` is laid out.
        split: kitti_2015: `training` or `validation`. Others: path of a list of `DATE/DRIVE INDEX l|r` a line.
        select: names of the drives or sequences; all that are there if not given.
        camera: image folder, for data sets with several.
        depth_root: kitti_raw: folder of KITTI's depth PNGs, to use instead of velodyne scans.
        backend: for `model`: auto, or the name of one.
        scaling: `median` per image, or `none`.
        max_depth: truth farther than this (metres) is not scored; predictions are capped to it.

    Raises:
        DataError: data are missing, or not exactly one of checkpoint and model is given.
    """
    predictor = create_predictor(
        checkpoint=checkpoint,
        model=model,
        backend=backend,
        precision="auto",
        batch=1,
        baseline=None,
        baseline_root=None,
    )
    found = read_records(dataset, root, split=split, select=select, camera=camera, depth_root=depth_root)
    records = [record for record in found if record.is_target and record.depth is not None]
    options = EvaluationOptions(scaling, max_depth=max_depth)
    scores = score_conditions(predictor, records, options)
    output.mkdir(parents=True, exist_ok=True)
    table = robustness_table(scores, predictor.name, len(records), protocol(options))
    content = {
        "predictor": predictor.name,
        "file": str(checkpoint or model),
        "frames": len(records),
        "options": asdict(options),
        "conditions": {str(condition): asdict(metrics) for condition, metrics in scores.items()},
    }
    (output / "summary.json").write_text(json.dumps(content, indent=2) + "\n")
    (output / "summary.md").write_text(table.markdown())
    sheet = condition_sheet(predictor, records[len(records) // 2], options)
    if not cv2.imwrite(str(output / "sheet.jpg"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise DataError(f"{output / 'sheet.jpg'} could not be written: is the disk full?")
    Console().print(_terminal_table(scores, predictor.name, table.note))
    print(f"written to {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run `evaluate_robustness` with options from the command line."""
    return run_function(evaluate_robustness, arguments)


def score_conditions(
    predictor: Predictor, records: Sequence[FrameRecord], options: EvaluationOptions, progress: bool = True
) -> dict[Condition, DepthMetrics]:
    """Mean metrics over the frames in each condition; records have depth.

    Raises:
        DataError: no frame can be scored.
    """
    rows: dict[Condition, list[DepthMetrics]] = {condition: [] for condition in CONDITIONS}
    for record in track(records, description=f"evaluating {predictor.name}", disable=not progress):
        for condition, _, frame in _scored(predictor, record, options):
            if frame is not None:
                rows[condition].append(frame.metrics)
    if not all(rows.values()):
        raise DataError(f"none of {len(records)} frames can be scored: expected frames with true depth")
    return {condition: mean_metrics(metrics) for condition, metrics in rows.items()}


def robustness_table(scores: dict[Condition, DepthMetrics], predictor: str, frames: int, scoring: str) -> ReportTable:
    """One row a condition; how much larger its abs_rel is than that in clear air."""
    columns = [
        Column("condition"),
        *(Column(name, "{:.3f}") for name in METRIC_NAMES),
        Column("abs_rel / clean", "{:.2f}"),
    ]
    clean = scores[CLEAN].abs_rel
    rows = [
        [str(condition), *asdict(metrics).values(), metrics.abs_rel / clean] for condition, metrics in scores.items()
    ]
    return ReportTable(f"Robustness of {predictor}", columns, rows, f"{frames} frames, {scoring}.")


def condition_sheet(predictor: Predictor, record: FrameRecord, options: EvaluationOptions) -> Picture:
    """One frame in every condition: image, prediction, truth and error; uint8 [H, W, 3], RGB."""
    titles = ("image", "prediction (near is bright)", "truth", "error |d - g| / g")
    panels = [[label_panel(title, PANEL_WIDTH) for title in titles]]
    for condition, image, frame in _scored(predictor, record, options):
        if frame is not None:
            panels += frame_panels(image, frame, f"{condition}   abs_rel {frame.metrics.abs_rel:.3f}")
    return assemble(panels)


def _scored(
    predictor: Predictor, record: FrameRecord, options: EvaluationOptions
) -> Iterator[tuple[Condition, Picture, ScoredFrame | None]]:
    if record.depth is None:
        raise DataError(f"{record.name} has no true depth")
    image, truth = read_rgb(record.image), record.depth.read()
    for condition in CONDITIONS:
        seen = condition.apply(image, truth, record.name)
        yield condition, seen, score(predictor.disparity(seen, record.intrinsics), truth, options)


def _terminal_table(scores: Mapping[Condition, DepthMetrics], predictor: str, scoring: str) -> Table:
    """A few columns, narrow enough for any terminal."""
    table = Table("condition", "abs_rel", "/ clean", "rmse", "a1", title=predictor, caption=scoring)
    for condition, metrics in scores.items():
        ratio = metrics.abs_rel / scores[CLEAN].abs_rel
        table.add_row(
            str(condition), f"{metrics.abs_rel:.3f}", f"{ratio:.2f}", f"{metrics.rmse:.2f}", f"{metrics.a1:.3f}"
        )
    return table
