"""One run of an ablation: scored once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.checkpoints import read_checkpoint
from training.data.records import FrameRecord
from training.evaluation.intrinsics import learned_intrinsics, score_learned
from training.evaluation.metrics import DepthMetrics
from training.evaluation.predictors import CheckpointPredictor
from training.evaluation.run import EvaluationOptions, evaluate
from training.report.runs import Run
from training.runs import CHECKPOINT, RECIPE

RESULT = "result.json"


@dataclass(frozen=True)
class Outcome:
    """Numbers of one run.

    steps: optimiser steps. samples_per_second: of the training loop, None where it logged too little. focal_error:
    relative error of the learned fx, mean over the sequences that can tell it; None where nothing was learned or can be
    told. cameras: why, or how many sequences told it.
    """

    steps: int
    samples_per_second: float | None
    metrics: DepthMetrics
    focal_error: float | None
    cameras: str


def score_run(
    folder: Path,
    records: Sequence[FrameRecord],
    options: EvaluationOptions,
    camera_records: Sequence[FrameRecord],
    batch: int,
) -> Outcome:
    """Score the last checkpoint of a trained run, or read what was scored before."""
    file = folder / RESULT
    if file.exists():
        content = json.loads(file.read_text())
        return Outcome(**{**content, "metrics": DepthMetrics(**content["metrics"])})
    predictor = CheckpointPredictor(folder / CHECKPOINT)
    evaluation = evaluate(predictor, records, options, batch, progress=False)
    focal_error, cameras = _focal_error(folder / CHECKPOINT, camera_records, batch)
    recipe = yaml.safe_load((folder / RECIPE).read_text())
    rate = samples_per_second(folder / CHECKPOINT.parent.parent, recipe["data"]["batch_size"])
    steps = int(read_checkpoint(folder / CHECKPOINT)["global_step"])
    outcome = Outcome(steps, rate, evaluation.mean, focal_error, cameras)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    partial.rename(file)
    return outcome


def as_run(name: str, folder: Path) -> Run:
    """What the tables of `report` take."""
    return Run(name, folder / CHECKPOINT, folder / CHECKPOINT.parent.parent)


def samples_per_second(log: Path, batch_size: int) -> float | None:
    """Rate of the training loop between the first and the last entry of each event file; None without two entries."""
    steps, seconds = 0, 0.0
    for file in sorted(log.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        if "train/loss" not in events.Tags()["scalars"]:
            continue
        entries = events.Scalars("train/loss")
        steps += entries[-1].step - entries[0].step
        seconds += entries[-1].wall_time - entries[0].wall_time
    return steps * batch_size / seconds if seconds > 0 else None


def _focal_error(checkpoint: Path, records: Sequence[FrameRecord], batch: int) -> tuple[float | None, str]:
    trained = learned_intrinsics(checkpoint)
    if trained is None:
        return None, "known"
    if not records:
        return None, "learned, not compared"
    scores = score_learned(trained, records, batch=batch)
    errors = [score.error.fx for score in scores.values() if score.error is not None]
    if not errors:
        return None, "cannot be told"
    return sum(errors) / len(errors), f"{len(errors)} of {len(scores)} sequences"
