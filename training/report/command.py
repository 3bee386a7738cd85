"""`python -m training report`: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from training.command_line import run_function
from training.data.records import FrameRecord
from training.data.source import Kind
from training.errors import DataError
from training.evaluation.command import Velodyne, read_records
from training.evaluation.predictors import CheckpointPredictor, ModelPredictor, Predictor
from training.evaluation.run import Evaluation, EvaluationOptions, evaluate
from training.evaluation.tables import protocol, write_tables
from training.report.cost import measure_cost
from training.report.curves import draw_curves, read_log, validation_tags
from training.report.page import Report, write_report
from training.report.runs import Run, find_runs
from training.report.sheet import comparison_sheet, spread_records
from training.report.tables import cost_table, curve_table, metric_table, part_table


def report(
    runs: list[Path],
    *,
    output: Path = Path("out/report"),
    root: Path | None = None,
    dataset: Kind = "kitti_2015",
    split: str | None = None,
    select: list[str] | None = None,
    camera: str | None = None,
    depth_root: Path | None = None,
    velodyne: Velodyne = "eigen",
    scaling: Literal["median", "none"] = "median",
    crop: Literal["garg", "none"] = "garg",
    max_depth: float = 80.0,
    batch: int = 1,
    repetitions: int = 20,
    pictures: int = 6,
    title: str = "Depth networks",
) -> int:
    """Put runs side by side: metrics on the same frames, size, speed, training time, validation curves, pictures.

    Writes report.md, and report.html, one file that needs no other. The evaluation of each run is kept below
    evaluations/.

    Args:
        runs: folders of trainings (runs/NAME/version_N; their best.ckpt, else last.ckpt), checkpoints or model files.
        output: folder to write to.
        root: folder of a data set to evaluate all runs on; without it, the report has no metrics of its own.
        dataset: how `root` is laid out.
        split: kitti_2015: `training` or `validation`. Others: path of a list of `DATE/DRIVE INDEX l|r` a line.
        select: names of the drives or sequences; all that are there if not given.
        camera: image folder, for data sets with several.
        depth_root: kitti_raw: folder of KITTI's depth PNGs, to use instead of velodyne scans.
        velodyne: kitti_raw without depth_root: `eigen` projects scans as the published numbers have it, `exact` by the
            camera's geometry.
        scaling: `median` per image, or `none`.
        crop: Garg's crop, or none.
        max_depth: truth farther than this (metres) is not scored; predictions are capped to it.
        batch: frames that a checkpoint predicts at once.
        repetitions: timed inferences a backend; 0 leaves latencies out.
        pictures: frames on the contact sheet, 0 for no sheet.
        title: heading of the page.

    Raises:
        DataError: a path is no run, or data are missing.
    """
    if batch < 1 or repetitions < 0 or pictures < 0:
        raise DataError(f"batch {batch}, repetitions {repetitions}, pictures {pictures}: expected 1, 0, 0 or more")
    found = find_runs(runs)
    options = EvaluationOptions(scaling, max_depth=max_depth, crop=crop)
    records: list[FrameRecord] = []
    if root is not None:
        found_records = read_records(
            dataset, root, split=split, select=select, camera=camera, depth_root=depth_root, velodyne=velodyne
        )
        records = [record for record in found_records if record.is_target]  # not the neighbours of a list's frames
    content = compare(found, records, options, batch=batch, repetitions=repetitions, pictures=pictures, title=title)
    write_report(output, content[0])
    for name, evaluation in content[1].items():
        folder = output / "evaluations" / name.replace("/", "_")
        write_tables(folder, evaluation, {"dataset": dataset, "root": str(root), "split": split or "all"})
    print(f"written to {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    return 0


def compare(
    runs: Sequence[Run],
    records: Sequence[FrameRecord],
    options: EvaluationOptions,
    *,
    batch: int,
    repetitions: int,
    pictures: int,
    title: str,
) -> tuple[Report, dict[str, Evaluation]]:
    """The report, and the evaluations it is made of; none without records."""
    logs = {run.name: read_log(run.log) for run in runs if run.log is not None}
    tables = [cost_table({run.name: measure_cost(run, repetitions) for run in runs}, logs)]
    evaluations: dict[str, Evaluation] = {}
    sheet = None
    if records:
        predictors = {run.name: _predictor(run) for run in runs}
        evaluations = {name: evaluate(predictor, records, options, batch) for name, predictor in predictors.items()}
        tables = [metric_table(evaluations, f"{protocol(options)}."), part_table(evaluations), *tables]
        if pictures:
            sheet = comparison_sheet(predictors, spread_records(records, pictures), options)
    tags = validation_tags(logs)
    if tags:
        tables.append(curve_table(logs, tags))
    return Report(title, tables, draw_curves(logs, tags) if tags else None, sheet), evaluations


def main(arguments: Sequence[str]) -> int:
    """Run `report` with options from the command line."""
    return run_function(report, arguments, operand="runs")


def _predictor(run: Run) -> Predictor:
    return ModelPredictor(run.file) if run.is_model_file else CheckpointPredictor(run.file)
