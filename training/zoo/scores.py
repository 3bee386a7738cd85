"""`python -m training score`: all that is measured of a shipped model's depth, on all data sets, as one JSON file."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import onnx

from depth_node.model import read_model
from depth_node.model_graph import weight_count
from training.command_line import run_function
from training.data.image_files import read_rgb
from training.data.kitti_2015 import read_kitti_2015
from training.data.records import FrameRecord
from training.data.source import Source
from training.errors import DataError
from training.evaluation.baseline import ConstantMap
from training.evaluation.eigen_truth import with_eigen_truth
from training.evaluation.metrics import mean_metrics
from training.evaluation.pictures import PANEL_WIDTH, assemble, label_panel, truth_panels
from training.evaluation.predictors import ModelPredictor, Predictor
from training.evaluation.run import Evaluation, EvaluationOptions, FrameRow, predict_and_score_all
from training.evaluation.run import score as score_frame
from training.evaluation.tables import protocol, summary
from training.evaluation.temporal import temporal_stability

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredData:
    """Frames that a model is scored on.

    Args:
        name: what it is called in the card.
        source: the frames, as in a recipe's data.train; never frames that were trained on.
        crop: Garg's crop, or none.
        min_depth: truth nearer than this (metres) is not scored.
        max_depth: truth farther than this (metres) is not scored; predictions are capped to it.
        stability: whether temporal stability is measured; needs consecutive frames with poses.
        worst: frames of the picture of the worst ones; 0 for none.
    """

    name: str
    source: Source
    crop: Literal["garg", "none"] = "garg"
    min_depth: float = 1e-3
    max_depth: float = 80.0
    stability: bool = False
    worst: int = 0


def score(
    model: Path,
    data: list[ScoredData],
    root: Path,
    output: Path,
    baseline: Path | None = None,
    backend: str = "auto",
    pictures: Path | None = None,
) -> int:
    """Score a model file on several data sets, by the node's own pipeline, and write all numbers as JSON.

    Depth is scored with each image's median scaled to the truth's, and, of a metric model, in metres as it is.

    Args:
        model: exported ONNX file.
        data: what to score it on.
        root: folder that the sources' paths start from.
        output: JSON file to write.
        baseline: KITTI 2015 folder below `root` whose `training` list gives one map for all images, to compare with.
        backend: auto, tensorrt, openvino or onnxruntime.
        pictures: JPEG file for the worst frames: predictions and errors, not the images themselves.

    Raises:
        DataError: data are missing, or nothing is to be scored.
    """
    if not data:
        raise DataError("there are no data to score the model on")
    predictor = ModelPredictor(model, backend)
    read = read_model(model)
    constant = None if baseline is None else ConstantMap(read_kitti_2015(root / baseline, "training"))
    panels: list[list[Any]] = []
    scored: dict[str, Any] = {}
    for entry in data:
        records = with_eigen_truth([record for record in entry.source.read(root) if record.is_target])
        records = [record for record in records if record.depth is not None]
        by_scaling = score_all(predictor, records, entry, read.spec.metric)
        median = by_scaling["median"]
        logger.info("%s: abs_rel %.3f on %d frames", entry.name, median.mean.abs_rel, len(median.rows))
        numbers: dict[str, Any] = {scaling: summary(evaluation) for scaling, evaluation in by_scaling.items()}
        numbers["protocol"] = protocol(median.options)
        if constant is not None:
            numbers["baseline"] = asdict(score_all(constant, records, entry, False)["median"].mean)
        if entry.stability:
            limits = (entry.min_depth, entry.max_depth)
            numbers["stability"] = asdict(temporal_stability(predictor, records, *limits))
        if entry.worst:
            worst = sorted(median.rows, key=lambda row: -row.metrics.abs_rel)[: entry.worst]
            numbers["worst"] = [{"frame": row.name, "abs_rel": row.metrics.abs_rel} for row in worst]
            panels += worst_panels(predictor, records, worst, entry, median.options)
        scored[entry.name] = numbers
    content = {
        "checksum": read.checksum,
        "bytes": model.stat().st_size,
        "parameters": weight_count(onnx.load(model)),
        "input": [read.spec.input_width, read.spec.input_height],
        "metric": read.spec.metric,
        "predictor": predictor.name,
        "data": scored,
    }
    output.write_text(json.dumps(content, indent=2) + "\n")
    if pictures is not None and panels:
        _write_picture(pictures, panels)
    print(f"written: {output}")
    return 0


def score_all(
    predictor: Predictor, records: Sequence[FrameRecord], data: ScoredData, is_metric: bool
) -> dict[str, Evaluation]:
    """Evaluations by scaling, each frame predicted once; `none` of a metric model only.

    Raises:
        DataError: no frame could be scored.
    """
    median = EvaluationOptions("median", data.min_depth, data.max_depth, data.crop)
    options = {"median": median, **({"none": replace(median, scaling="none")} if is_metric else {})}
    rows: dict[str, list[FrameRow]] = {scaling: [] for scaling in options}
    unscored = []
    for record in records:
        if record.depth is None:
            continue
        disparity, truth = predictor.disparity(read_rgb(record.image), record.intrinsics), record.depth.read()
        for scaling, rules in options.items():
            frame = score_frame(disparity, truth, rules)
            if frame is None:
                unscored.append(record.name)
                break
            pixels = int(frame.scored.sum())
            row = FrameRow(record.name, pixels, frame.coverage, frame.scale, frame.metrics, frame.parts)
            rows[scaling].append(row)
    if not rows["median"]:
        raise DataError(f"{data.name}: none of {len(records)} frames can be scored")
    return {
        scaling: Evaluation(
            predictor.name,
            options[scaling],
            tuple(of_scaling),
            tuple(unscored),
            mean_metrics([row.metrics for row in of_scaling]),
        )
        for scaling, of_scaling in rows.items()
    }


def worst_panels(
    predictor: Predictor,
    records: Sequence[FrameRecord],
    rows: Sequence[FrameRow],
    data: ScoredData,
    options: EvaluationOptions,
) -> list[list[Any]]:
    """Prediction and error of these frames, one a row, with captions; no camera images, which are not ours to ship."""
    by_name = {record.name: record for record in records}
    panels: list[list[Any]] = []
    for row in rows:
        ((_, frame),) = predict_and_score_all(predictor, [by_name[row.name]], options)
        if frame is None:
            continue
        prediction, _, error = truth_panels(frame)
        caption = f"{data.name}: {row.name}   abs_rel {row.metrics.abs_rel:.3f}"
        panels += [[label_panel(caption, 2 * PANEL_WIDTH + 4)], [prediction, error]]
    return panels


def main(arguments: Sequence[str]) -> int:
    """Run `score` with options from the command line or a file."""
    return run_function(score, arguments)


def _write_picture(path: Path, panels: list[list[Any]]) -> None:
    titles = ["prediction (near is bright)", "error |d - g| / g where there is truth, white from 0.5"]
    sheet = assemble([[label_panel(title, PANEL_WIDTH) for title in titles], *panels])
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85]):
        raise DataError(f"{path} could not be written: is the disk full?")
