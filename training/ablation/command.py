"""`python -m training ablate`: recipes against each other on equal budgets, as the table that papers print."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from training.ablation.runs import Outcome, as_run, score_run
from training.ablation.table import ablation_table
from training.ablation.variants import Budget, Variant, compose_recipe
from training.command_line import run_function
from training.data.kitti_2015 import read_kitti_2015
from training.data.records import FrameRecord
from training.data.source import Source
from training.errors import DataError, TrainingError
from training.evaluation.baseline import ConstantMap
from training.evaluation.metrics import DepthMetrics
from training.evaluation.predictors import CheckpointPredictor, Predictor
from training.evaluation.run import EvaluationOptions
from training.evaluation.run import evaluate as run_evaluation
from training.evaluation.tables import protocol
from training.recipes import merged
from training.report.cost import measure_cost
from training.report.page import Report, write_report
from training.report.sheet import comparison_sheet, spread_records
from training.runs import train_run

RUNS = "runs"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunKey:
    """One run: of which variant, with which seed."""

    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant}_seed{self.seed}"


def ablate(
    *,
    variants: dict[str, Variant],
    evaluation: Source,
    output: Path = Path("out/ablation"),
    root: Path = Path("."),
    common: dict[str, Any] | None = None,
    seeds: list[int] | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    cameras: Source | None = None,
    baseline: Path | None = None,
    batch: int = 8,
    repetitions: int = 20,
    pictures: int = 3,
) -> int:
    """Train variants of recipes on equal budgets and write the table: accuracy, cost, and error of a learned camera.

    Each run is trained in a process of its own and goes on where it was stopped; what is trained and scored is not
    done again. Writes report.md and report.html, ablation.json with the numbers of every run, and the runs themselves
    below runs/, for `report` and TensorBoard.

    Args:
        variants: rows of the table by name: {recipe: FILE, set: {what differs, nested as in the recipe}}.
        evaluation: frames with true depth that the last checkpoint of each run is scored on, below `root`.
        output: folder to write to.
        root: folder that all data are below; the recipes' data.root.
        common: what is the same in all variants, nested as in a recipe: size, batch, frames to train on.
        seeds: of the runs of each variant; one run with seed 0 if not given.
        steps: optimiser steps of each run.
        minutes: minutes of training of each run, instead of steps; a slower variant then takes fewer steps.
        cameras: calibrated video that learned cameras are compared with, below `root`.
        baseline: KITTI 2015 folder below `root` whose `training` list gives one map for all images, to compare with.
        batch: frames that are predicted at once.
        repetitions: timed inferences a backend; 0 leaves latencies out.
        pictures: frames on the contact sheet of the first seed, 0 for no sheet.

    Raises:
        DataError: there are no variants, or data are missing.
        TrainingError: a run failed; the table has the others.
    """
    if not variants or any("/" in name for name in variants):
        raise DataError(
            f"variants are {list(variants)}: expected names of folders, as in config/training/ablation.yaml"
        )
    budget, seeds = Budget(steps, minutes), seeds or [0]
    common = merged({"data": {"root": str(root)}}, common or {})
    plan = {
        RunKey(name, seed): compose_recipe(variant, common, budget, _identity(output, RunKey(name, seed)))
        for seed in seeds
        for name, variant in variants.items()
    }
    options = EvaluationOptions()
    records = [record for record in evaluation.read(root) if record.is_target]
    camera_records = cameras.read(root) if cameras else []
    constant = None if baseline is None else _score_constant_map(root / baseline, records, options)
    logger.info("%d runs of %s each", len(plan), budget)
    outcomes: dict[str, dict[int, Outcome]] = {name: {} for name in variants}
    failed = []
    for number, (key, recipe) in enumerate(plan.items(), start=1):
        folder, started = output / RUNS / str(key), monotonic()
        try:
            train_run(folder, recipe)
        except TrainingError as error:
            logger.error("%d/%d %s: %s", number, len(plan), key, error)
            failed.append(str(key))
            continue
        outcome = score_run(folder, records, options, camera_records, batch)
        outcomes[key.variant][key.seed] = outcome
        _write_numbers(output, outcomes)
        result = f"abs_rel {outcome.metrics.abs_rel:.3f} after {outcome.steps} steps"
        logger.info("%d/%d %s: %s (%.0f s)", number, len(plan), key, result, monotonic() - started)
    first = {name: RunKey(name, min(runs)) for name, runs in outcomes.items() if runs}
    runs = {name: as_run(name, output / RUNS / str(key)) for name, key in first.items()}
    costs = {name: measure_cost(run, repetitions) for name, run in runs.items()}
    scores = {name: list(of_seeds.values()) for name, of_seeds in outcomes.items() if of_seeds}
    table = ablation_table(scores, costs, constant, str(budget), protocol(options))
    sheet = None
    if pictures and runs:
        predictors: dict[str, Predictor] = {name: CheckpointPredictor(run.file) for name, run in runs.items()}
        sheet = comparison_sheet(predictors, spread_records(records, pictures), options)
    write_report(output, Report("Ablation", [table], sheet=sheet))
    print(table.markdown())
    print(f"written to {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    if failed:
        raise TrainingError(f"{len(failed)} of {len(plan)} runs failed, and are not in the table: {', '.join(failed)}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run `ablate` with options from the command line or a file."""
    return run_function(ablate, arguments)


def _identity(output: Path, key: RunKey) -> dict[str, Any]:
    """What tells a run from the others: its name, folder and seed."""
    return {"name": str(key), "runs": str(output / RUNS), "seed_everything": key.seed}


def _score_constant_map(kitti_2015: Path, records: Sequence[FrameRecord], options: EvaluationOptions) -> DepthMetrics:
    constant = ConstantMap(read_kitti_2015(kitti_2015, "training"))
    return run_evaluation(constant, records, options, progress=False).mean


def _write_numbers(output: Path, outcomes: Mapping[str, Mapping[int, Outcome]]) -> None:
    content = {
        name: {str(seed): asdict(outcome) for seed, outcome in of_seeds.items()} for name, of_seeds in outcomes.items()
    }
    (output / "ablation.json").write_text(json.dumps(content, indent=2) + "\n")
