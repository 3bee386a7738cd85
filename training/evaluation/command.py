"""`python -m training evaluate`: depth metrics of a checkpoint, a model file or a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from training.command_line import run_function
from training.data.kitti_2015 import read_kitti_2015
from training.data.kitti_raw import read_kitti_raw
from training.data.records import FrameRecord
from training.data.tum import read_tum
from training.errors import DataError
from training.evaluation.baseline import ConstantMap
from training.evaluation.pictures import write_contact_sheet
from training.evaluation.predictors import CheckpointPredictor, ModelPredictor, Predictor
from training.evaluation.run import EvaluationOptions, Scaling
from training.evaluation.run import evaluate as run_evaluation
from training.evaluation.tables import terminal_table, write_tables

Dataset = Literal["kitti_2015", "kitti_raw", "tum"]


def evaluate(
    *,
    root: Path,
    output: Path,
    checkpoint: Path | None = None,
    model: Path | None = None,
    baseline: Literal["constant"] | None = None,
    dataset: Dataset = "kitti_2015",
    split: str | None = None,
    drives: list[str] | None = None,
    camera: str = "image_02",
    depth_root: Path | None = None,
    baseline_root: Path | None = None,
    scaling: Scaling = "median",
    min_depth: float = 1e-3,
    max_depth: float = 80.0,
    crop: Literal["garg", "none"] = "garg",
    backend: str = "auto",
    pictures: int = 8,
) -> int:
    """Score depth against truth.

    Prints the mean and writes frames.csv (numbers per frame), summary.json, summary.md and sheet.png (contact sheet).

    Args:
        root: folder of the data set.
        output: folder to write to.
        checkpoint: checkpoint of `train`, run in PyTorch.
        model: exported ONNX file, run by the node's own pipeline.
        baseline: `constant`: one map for all images, the mean inverse depth of KITTI 2015's `training` list.
        dataset: how `root` is laid out. kitti_2015 has disparity truth, kitti_raw velodyne scans or depth PNGs.
        split: kitti_2015: `training` or `validation`. kitti_raw: path of a list of `DATE/DRIVE INDEX l|r` a line.
        drives: kitti_raw: names of the drives; all that are there if not given.
        camera: kitti_raw: image folder.
        depth_root: kitti_raw: folder of KITTI's depth PNGs, to use instead of velodyne scans.
        baseline_root: KITTI 2015 folder with the `training` list of the baseline; `root` for kitti_2015.
        scaling: `median` per image, `none`, or a factor for all images.
        min_depth: truth nearer than this (metres) is not scored.
        max_depth: truth farther than this (metres) is not scored; predictions are capped to it.
        crop: Garg's crop, or none.
        backend: for `model`: auto, openvino or onnxruntime.
        pictures: frames on the contact sheet, 0 for no sheet.

    Raises:
        DataError: data are missing, or the options do not go together.
    """
    options = EvaluationOptions(scaling, min_depth, max_depth, crop)
    records = read_records(dataset, root, split, drives, camera=camera, depth_root=depth_root)
    predictor = create_predictor(
        checkpoint=checkpoint,
        model=model,
        backend=backend,
        baseline=baseline,
        baseline_root=baseline_root or (root if dataset == "kitti_2015" else None),
    )
    evaluation = run_evaluation(predictor, records, options)
    provenance = {
        "dataset": dataset,
        "root": str(root),
        "split": split or "all",
        "file": str(checkpoint or model or ""),
    }
    write_tables(output, evaluation, provenance)
    if pictures > 0:
        write_contact_sheet(output / "sheet.png", predictor, records, evaluation, pictures)
    console = Console()
    console.print(terminal_table(evaluation))
    console.print(f"written to {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run `evaluate` with options from the command line."""
    return run_function(evaluate, arguments)


def read_records(
    dataset: Dataset,
    root: Path,
    split: str | None,
    drives: Sequence[str] | None,
    *,
    camera: str = "image_02",
    depth_root: Path | None = None,
) -> list[FrameRecord]:
    """Frames to evaluate on.

    Raises:
        DataError: nothing was found, or an option belongs to another data set.
    """
    if dataset != "kitti_raw" and (drives or depth_root):
        raise DataError(f"drives and depth_root belong to kitti_raw, not to {dataset}")
    if dataset == "kitti_raw":
        split_file = None if split is None else Path(split)
        return read_kitti_raw(root, drives, (camera,), depth_root=depth_root, split_file=split_file)
    if dataset == "kitti_2015":
        return read_kitti_2015(root, split)
    if split is not None:
        raise DataError(f"split is {split!r}, but {dataset} has none")
    return read_tum(root)


def create_predictor(
    *,
    checkpoint: Path | None,
    model: Path | None,
    backend: str,
    baseline: Literal["constant"] | None,
    baseline_root: Path | None,
) -> Predictor:
    """The one predictor that was asked for.

    Raises:
        DataError: none or several were asked for, or the baseline has no training truths.
    """
    given = [name for name, value in (("checkpoint", checkpoint), ("model", model), ("baseline", baseline)) if value]
    if len(given) != 1:
        raise DataError(
            f"{' and '.join(given) or 'nothing to evaluate'} given: expected one of checkpoint, model, baseline"
        )
    if checkpoint is not None:
        return CheckpointPredictor(checkpoint)
    if model is not None:
        return ModelPredictor(model, backend)
    if baseline_root is None:
        raise DataError("the constant baseline needs training truths: give baseline_root, a KITTI 2015 folder")
    return ConstantMap(read_kitti_2015(baseline_root, "training"))
