"""`python -m training evaluate`: depth metrics of a checkpoint, a model file or a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from training.command_line import run_function
from training.data.kitti_2015 import read_kitti_2015
from training.data.records import FrameRecord
from training.data.source import Kind, Source
from training.errors import DataError
from training.evaluation.baseline import ConstantMap
from training.evaluation.eigen_truth import with_eigen_truth
from training.evaluation.pictures import write_contact_sheet
from training.evaluation.post_processing import FlipPostProcessed
from training.evaluation.predictors import BatchModelPredictor, CheckpointPredictor, ModelPredictor, Predictor
from training.evaluation.run import EvaluationOptions, Scaling
from training.evaluation.run import evaluate as run_evaluation
from training.evaluation.tables import terminal_table, write_tables

Velodyne = Literal["eigen", "exact"]


def evaluate(
    *,
    root: Path,
    output: Path,
    checkpoint: Path | None = None,
    model: Path | None = None,
    baseline: Literal["constant"] | None = None,
    dataset: Kind = "kitti_2015",
    split: str | None = None,
    select: list[str] | None = None,
    camera: str | None = None,
    depth_root: Path | None = None,
    velodyne: Velodyne = "eigen",
    baseline_root: Path | None = None,
    scaling: Literal["median", "none"] = "median",
    scale: float | None = None,
    flip: bool = False,
    min_depth: float = 1e-3,
    max_depth: float = 80.0,
    crop: Literal["garg", "none"] = "garg",
    bands: tuple[float, ...] = (0.0, 10.0, 20.0, 40.0, 80.0),
    batch: int = 1,
    backend: str = "auto",
    precision: str = "auto",
    pictures: int = 8,
) -> int:
    """Score depth against truth.

    Prints the mean and writes frames.csv (numbers per frame), parts.csv (the same by distance and image region),
    summary.json, summary.md and sheet.png (contact sheet).

    Args:
        root: folder of the data set.
        output: folder to write to.
        checkpoint: checkpoint of `train`, run in PyTorch.
        model: exported ONNX file, run by the node's own pipeline.
        baseline: `constant`: one map for all images, the mean inverse depth of KITTI 2015's `training` list.
        dataset: how `root` is laid out. kitti_2015 has disparity truth, kitti_raw velodyne scans or depth PNGs,
            prepared the lidar depth of one's own bags.
        split: kitti_2015: `training` or `validation`. Others: path of a list of `DATE/DRIVE INDEX l|r` a line.
        select: names of the drives or sequences; all that are there if not given.
        camera: image folder, for data sets with several.
        depth_root: kitti_raw: folder of KITTI's depth PNGs (the improved truth), to use instead of velodyne scans.
        velodyne: kitti_raw without depth_root: `eigen` projects scans as the published numbers have it, `exact` by the
            camera's geometry.
        baseline_root: KITTI 2015 folder with the `training` list of the baseline; `root` for kitti_2015.
        scaling: `median` per image, or `none`.
        scale: one factor for all images, in place of `scaling`.
        flip: predict the mirrored image, too, and blend the two (Monodepth's post-processing): twice the cost.
        min_depth: truth nearer than this (metres) is not scored.
        max_depth: truth farther than this (metres) is not scored; predictions are capped to it.
        crop: Garg's crop, or none.
        bands: limits in metres of the distances that are scored apart.
        batch: frames that a checkpoint or model predicts at once.
        backend: for `model`: auto, tensorrt, openvino or onnxruntime.
        precision: for `model`: auto, fp32, or with TensorRT tf32, fp16 or int8.
        pictures: frames on the contact sheet, 0 for no sheet.

    Raises:
        DataError: data are missing, or the options do not go together.
    """
    factor: Scaling = scaling if scale is None else scale
    options = EvaluationOptions(factor, min_depth, max_depth, crop, bands)
    if batch < 1 or (batch > 1 and baseline is not None):
        raise DataError(f"batch is {batch}: expected 1, or more for a checkpoint or model")
    records = read_records(
        dataset, root, split=split, select=select, camera=camera, depth_root=depth_root, velodyne=velodyne
    )
    records = [record for record in records if record.is_target]  # not the neighbours of a list's frames
    predictor = create_predictor(
        checkpoint=checkpoint,
        model=model,
        backend=backend,
        precision=precision,
        batch=batch,
        baseline=baseline,
        baseline_root=baseline_root or (root if dataset == "kitti_2015" else None),
    )
    if flip:
        predictor = FlipPostProcessed(predictor)
    evaluation = run_evaluation(predictor, records, options, batch)
    provenance = {
        "dataset": dataset,
        "root": str(root),
        "split": split or "all",
        "truth": _truth_name(dataset, depth_root, velodyne),
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
    dataset: Kind,
    root: Path,
    *,
    split: str | None = None,
    select: Sequence[str] | None = None,
    camera: str | None = None,
    depth_root: Path | None = None,
    velodyne: Velodyne = "eigen",
) -> list[FrameRecord]:
    """Frames to evaluate on, with truth as `velodyne` says where it is laser scans.

    Raises:
        DataError: nothing was found, or an option belongs to another data set.
    """
    names = list(select or [])
    list_file = None
    if split is not None and dataset == "kitti_2015":
        names.append(split)
    elif split is not None:
        list_file = Path(split).absolute()
    records = Source(
        dataset,
        select=names,
        cameras=[camera] if camera else [],
        split_file=list_file,
        depth_path=depth_root.absolute() if depth_root else None,
    ).read(root)
    return with_eigen_truth(records) if velodyne == "eigen" else records


def create_predictor(
    *,
    checkpoint: Path | None,
    model: Path | None,
    backend: str,
    precision: str,
    batch: int,
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
        if batch > 1:
            return BatchModelPredictor(model, batch, backend, precision)
        return ModelPredictor(model, backend, precision)
    if baseline_root is None:
        raise DataError("the constant baseline needs training truths: give baseline_root, a KITTI 2015 folder")
    return ConstantMap(read_kitti_2015(baseline_root, "training"))


def _truth_name(dataset: Kind, depth_root: Path | None, velodyne: Velodyne) -> str:
    if dataset != "kitti_raw":
        return dataset
    return f"velodyne scans, {velodyne}" if depth_root is None else f"depth PNGs in {depth_root}"
