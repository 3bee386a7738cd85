"""`python -m training evaluate_pose`: the trajectory that a pose network sees, against known poses."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from evo.core.trajectory import PosePath3D
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from training.command_line import run_function
from training.data.records import FrameRecord
from training.data.source import Kind
from training.errors import DataError
from training.evaluation.command import read_records
from training.evaluation.motion_predictors import CheckpointMotion, MotionPredictor, StraightMotion
from training.evaluation.trajectories import (
    SnippetError,
    SnippetForm,
    TrajectoryErrors,
    Transforms,
    chain,
    motions_of,
    snippet_ate,
    trajectory_errors,
)

FORMS: tuple[SnippetForm, ...] = ("sfmlearner", "monodepth2", "rmse")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrajectoryScore:
    """One recording without gaps: its snippet errors by form, and the errors of the whole where it can be aligned.

    poses, truth: T_first_camera [N, 4, 4]; poses are aligned to the truth (Sim(3)) where that is possible.
    """

    name: str
    frames: int
    snippets: dict[SnippetForm, SnippetError]
    whole: TrajectoryErrors | None
    stamps_ns: tuple[int, ...]
    poses: Transforms
    truth: Transforms


def evaluate_pose(
    *,
    root: Path,
    output: Path,
    checkpoint: Path | None = None,
    baseline: Literal["straight"] | None = None,
    dataset: Kind = "kitti_odometry",
    select: list[str] | None = None,
    camera: str | None = None,
    snippet: int = 5,
    batch: int = 8,
) -> int:
    """Score the motion that a pose network sees against known poses.

    Prints the errors and writes summary.json, summary.md, and for each recording a plot and its trajectory, estimated
    and true, in the TUM format that evo's own tools read.

    Args:
        root: folder of the data set.
        output: folder to write to.
        checkpoint: checkpoint of the task SelfSupervisedDepth, or of import_monodepth2.
        baseline: `straight`: the same motion straight ahead for every frame.
        dataset: how `root` is laid out; one with poses.
        select: names of the sequences; all that are there if not given.
        camera: image folder, for data sets with several.
        snippet: frames of a snippet: 5 in most papers, 3 in some.
        batch: pairs that are predicted at once.

    Raises:
        DataError: data are missing, or the options do not go together.
    """
    if (checkpoint is None) == (baseline is None):
        raise DataError("expected one of checkpoint and baseline")
    if snippet < 2 or batch < 1:
        raise DataError(f"snippet is {snippet}, batch is {batch}: expected at least 2 frames and 1 pair")
    recordings = recordings_with_poses(read_records(dataset, root, select=select, camera=camera), snippet)
    predictor = StraightMotion() if checkpoint is None else CheckpointMotion(checkpoint, batch)
    scores = [score_recording(predictor, recording, snippet) for recording in recordings]
    write_scores(output, predictor.name, snippet, scores)
    console = Console()
    console.print(_terminal_table(predictor.name, snippet, scores))
    console.print(f"written to {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run `evaluate_pose` with options from the command line."""
    return run_function(evaluate_pose, arguments)


def recordings_with_poses(records: Sequence[FrameRecord], shortest: int) -> list[list[FrameRecord]]:
    """Consecutive frames with poses, split at gaps, of at least `shortest` frames.

    Raises:
        DataError: there is no such recording.
    """
    recordings = []
    with_pose = sorted((r for r in records if r.pose is not None), key=lambda r: (r.sequence, r.index))
    numbered = [(record.sequence, record.index - place, record) for place, record in enumerate(with_pose)]
    for _, group in groupby(numbered, key=lambda entry: entry[:2]):
        recording = [record for _, _, record in group]
        if len(recording) >= shortest:
            recordings.append(recording)
        else:
            logger.warning("%s: %d frames in a row are too few for a snippet", recording[0].name, len(recording))
    if not recordings:
        raise DataError(f"none of {len(records)} frames is one of {shortest} consecutive ones with poses")
    return recordings


def score_recording(predictor: MotionPredictor, recording: Sequence[FrameRecord], snippet: int) -> TrajectoryScore:
    """Errors of one recording without gaps, whose records have poses."""
    T_world_camera = np.stack([record.pose for record in recording if record.pose is not None])
    truth = np.linalg.inv(T_world_camera[0]) @ T_world_camera
    motions, true_motions = predictor.motions(recording), motions_of(truth)
    poses = chain(motions)
    whole = trajectory_errors(poses, truth)
    return TrajectoryScore(
        name=recording[0].name,
        frames=len(recording),
        snippets={form: snippet_ate(motions, true_motions, snippet, form) for form in FORMS},
        whole=whole[0] if whole else None,
        stamps_ns=tuple(record.stamp_ns for record in recording),
        poses=whole[1] if whole else poses,
        truth=truth,
    )


def write_scores(folder: Path, predictor: str, snippet: int, scores: Sequence[TrajectoryScore]) -> None:
    """Write summary.json, summary.md, and a plot and two trajectories for each recording."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "predictor": predictor,
        "snippet": snippet,
        "recordings": [
            {
                "name": score.name,
                "frames": score.frames,
                "ate": {form: asdict(error) for form, error in score.snippets.items()},
                "whole": asdict(score.whole) if score.whole else None,
            }
            for score in scores
        ],
    }
    (folder / "summary.json").write_text(json.dumps(content, indent=2) + "\n")
    header, *rows = _rows(snippet, scores)
    lines = [f"{predictor}", "", f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    (folder / "summary.md").write_text("\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n")
    for score in scores:
        stem = score.name.replace("/", "_")
        write_plot(folder / f"{stem}.png", score)
        for kind, poses in (("estimate", score.poses), ("truth", score.truth)):
            write_tum(folder / f"{stem}_{kind}.txt", poses, score.stamps_ns)


def write_tum(path: Path, poses: Transforms, stamps_ns: Sequence[int]) -> None:
    """A line `stamp x y z qx qy qz qw` for each pose [N, 4, 4], as the TUM RGB-D benchmark has it; seconds, metres."""
    quaternions = PosePath3D(poses_se3=list(poses)).orientations_quat_wxyz
    columns = [np.array(stamps_ns) * 1e-9, poses[:, :3, 3], np.roll(quaternions, -1, axis=1)]
    np.savetxt(path, np.column_stack(columns), fmt="%.9f")


def write_plot(path: Path, score: TrajectoryScore) -> None:
    """The way seen from above, in the frame of the first camera: x to the right, z ahead, metres."""
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.add_subplot()
    aligned = "estimate, aligned" if score.whole else "estimate, not aligned"
    for label, poses, style in (("truth", score.truth, "k--"), (aligned, score.poses, "C0-")):
        axes.plot(poses[:, 0, 3], poses[:, 2, 3], style, label=label)
    axes.plot(0, 0, "ko", markersize=4)
    axes.set(xlabel="x / m", ylabel="z / m", title=f"{score.name}, {score.frames} frames", aspect="equal")
    axes.set_adjustable("datalim")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _rows(snippet: int, scores: Sequence[TrajectoryScore]) -> list[list[str]]:
    """Header and a row a recording."""
    ates = [f"ATE-{snippet} {form} / m" for form in FORMS]
    rows = [["recording", "frames", *ates, "APE / m", "RPE / m", "RPE / deg", "drift / %", "scale"]]
    for score in scores:
        snippets = [f"{error.mean:.4f} ± {error.std:.4f}" for error in score.snippets.values()]
        rows.append([score.name, str(score.frames), *snippets, *_whole(score.whole)])
    return rows


def _whole(errors: TrajectoryErrors | None) -> list[str]:
    if errors is None:
        return ["not aligned", "-", "-", "-", "-"]
    drift = "-" if errors.drift is None else f"{errors.drift:.1f}"
    return [
        f"{errors.ape_rmse:.2f}",
        f"{errors.rpe_translation:.4f}",
        f"{errors.rpe_rotation:.4f}",
        drift,
        f"{errors.scale:.3g}",
    ]


def _terminal_table(predictor: str, snippet: int, scores: Sequence[TrajectoryScore]) -> Table:
    header, *rows = _rows(snippet, scores)
    table = Table("", *(row[0] for row in rows), title=predictor)
    for place, name in enumerate(header[1:], start=1):
        table.add_row(name, *(row[place] for row in rows))
    return table
