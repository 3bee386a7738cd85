"""`python -m training evaluate_intrinsics`: error of the camera that a model assumes or estimates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from depth_node.model import read_model
from training.checkpoints import POSE_CARD, load_depth_network, read_checkpoint
from training.command_line import run_function
from training.data.records import FrameRecord, Intrinsics
from training.data.source import Kind
from training.errors import DataError
from training.evaluation.command import read_records
from training.evaluation.learned_cameras import LearnedCamera, consecutive, see_camera
from training.geometry.focal_evidence import unobservable
from training.pose_checkpoints import TrainedPose, load_pose_network

HEADER = ("camera", "true fx/W", "fx/W", "fx", "fy", "cx", "cy")


@dataclass(frozen=True)
class IntrinsicsError:
    """Relative errors |estimate - truth| / truth.

    Those of cx and cy are of (cx + 0.5) / W and (cy + 0.5) / H, the distance from the image's edge, so that no error
    depends on the resolution.
    """

    fx: float
    fy: float
    cx: float
    cy: float


def intrinsics_error(estimate: Intrinsics, truth: Intrinsics) -> IntrinsicsError:
    """Errors of normalised intrinsics (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H)."""
    return IntrinsicsError(*(abs(e - t) / t for e, t in zip(estimate, truth, strict=True)))


@dataclass(frozen=True)
class CameraScore:
    """What a model says of one sequence's camera, against the truth.

    error: None where the focal length was learned, and the camera does not turn, so that it cannot be told.
    learned: how it was learned; None for a prior, the same for all sequences.
    """

    estimate: Intrinsics
    truth: Intrinsics
    error: IntrinsicsError | None
    learned: LearnedCamera | None = None


def evaluate_intrinsics(
    *,
    root: Path,
    output: Path,
    checkpoint: Path | None = None,
    model: Path | None = None,
    dataset: Kind = "kitti_raw",
    select: list[str] | None = None,
    camera: str | None = None,
    learned_camera: int = 0,
    batch: int = 8,
) -> int:
    """Compare the camera that a model learned, or assumes as its prior, with the known camera of each sequence.

    Prints the relative errors of fx, fy, cx and cy and writes them to summary.json and summary.md. Where intrinsics
    were learned and the camera of a sequence hardly turns, it says so in place of numbers, which would mean nothing.

    Args:
        root: folder of the data set.
        output: folder to write to.
        checkpoint: checkpoint of `train`; its learned intrinsics where it has some, else the prior.
        model: exported ONNX file of a depth network; its prior.
        dataset: how `root` is laid out; one with calibrations.
        select: names of the drives or sequences; all that are there if not given.
        camera: image folder, for data sets with several.
        learned_camera: which of the vectors that were learned, one for each entry of data.train, from 0.
        batch: pairs of frames that are looked at at once.

    Raises:
        DataError: data are missing, no camera is known, or not exactly one of checkpoint and model is given.
    """
    records = read_records(dataset, root, select=select, camera=camera)
    if checkpoint is not None and model is None:
        trained = learned_intrinsics(checkpoint)
        if trained is not None:
            scores = score_learned(trained, records, learned_camera, batch)
        else:
            scores = score_prior(load_depth_network(checkpoint).card.prior, records)
    elif model is not None and checkpoint is None:
        scores = score_prior(read_model(model).spec.intrinsics_prior, records)
    else:
        raise DataError("expected one of checkpoint and model")
    output.mkdir(parents=True, exist_ok=True)
    content = {"file": str(checkpoint or model), "sequences": {name: asdict(score) for name, score in scores.items()}}
    (output / "summary.json").write_text(json.dumps(content, indent=2) + "\n")
    (output / "summary.md").write_text(markdown_intrinsics(scores))
    kind = "camera" if all(score.learned for score in scores.values()) else "prior"
    table = Table(*HEADER, title=f"relative errors of the {kind} of {checkpoint or model}")
    for name, score in scores.items():
        table.add_row(name, *_cells(score))
    Console().print(table)
    for name, score in scores.items():
        if score.learned is not None and not score.learned.observable:
            print(f"{name}: {unobservable(score.learned.edge_shift)}")
    return 0


def learned_intrinsics(checkpoint: Path) -> TrainedPose | None:
    """The pose network of a checkpoint that learned intrinsics with it; None for one that did not, or has none.

    Raises:
        CheckpointError: the file cannot be read.
    """
    if POSE_CARD not in read_checkpoint(checkpoint):
        return None
    trained = load_pose_network(checkpoint)
    return None if trained.intrinsics is None else trained


def score_prior(prior: Intrinsics, records: Sequence[FrameRecord]) -> dict[str, CameraScore]:
    """One score for each sequence whose camera is known.

    Raises:
        DataError: there is none.
    """
    cameras = {record.sequence: record.intrinsics for record in records if record.intrinsics is not None}
    if not cameras:
        raise DataError(f"none of {len(records)} frames has a known camera: expected a calibrated data set")
    return {name: CameraScore(prior, truth, intrinsics_error(prior, truth)) for name, truth in cameras.items()}


def score_learned(
    trained: TrainedPose, records: Sequence[FrameRecord], camera: int = 0, batch: int = 8
) -> dict[str, CameraScore]:
    """One score for each sequence whose camera is known and that has neighbouring frames.

    Raises:
        DataError: there is none, or the checkpoint learned no such camera.
    """
    if trained.intrinsics is not None and not 0 <= camera < trained.intrinsics.options.cameras:
        raise DataError(f"learned_camera is {camera}: the checkpoint has {trained.intrinsics.options.cameras}, from 0")
    sequences: dict[str, list[FrameRecord]] = {}
    for record in records:
        if record.intrinsics is not None:
            sequences.setdefault(record.sequence, []).append(record)
    scores = {}
    for name, frames in sequences.items():
        truth = frames[0].intrinsics
        if truth is None or not consecutive(frames):
            continue
        learned = see_camera(trained, frames, camera, batch)
        error = intrinsics_error(learned.intrinsics, truth) if learned.observable else None
        scores[name] = CameraScore(learned.intrinsics, truth, error, learned)
    if not scores:
        raise DataError(f"none of {len(records)} frames has a known camera and a next frame: expected calibrated video")
    return scores


def main(arguments: Sequence[str]) -> int:
    """Run `evaluate_intrinsics` with options from the command line."""
    return run_function(evaluate_intrinsics, arguments)


def markdown_intrinsics(scores: Mapping[str, CameraScore]) -> str:
    """One row a camera."""
    rows = [f"| {name} | {' | '.join(_cells(score))} |" for name, score in scores.items()]
    return "\n".join([f"| {' | '.join(HEADER)} |", f"|{' --- |' * len(HEADER)}", *rows]) + "\n"


def _cells(score: CameraScore) -> list[str]:
    error = score.error
    if error is None:
        return [f"{score.truth[0]:.4f}", "cannot be told", "-", "-", "-", "-"]
    spread = f" ± {score.estimate[0] * score.learned.spread:.4f}" if score.learned else ""
    errors = [f"{100 * value:.2f} %" for value in (error.fx, error.fy, error.cx, error.cy)]
    return [f"{score.truth[0]:.4f}", f"{score.estimate[0]:.4f}{spread}", *errors]
