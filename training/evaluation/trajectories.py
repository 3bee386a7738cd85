"""Trajectories from frame-to-frame motions, and their errors: over short snippets, and as a whole (evo)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from evo.core.filters import FilterException
from evo.core.metrics import APE, RPE, PoseRelation, Unit
from evo.core.trajectory import PosePath3D
from numpy.typing import NDArray

Transforms = NDArray[np.float64]
SnippetForm = Literal["sfmlearner", "monodepth2", "rmse"]

DRIFT_LENGTH = 100  # metres
STRAIGHT = 1e-6  # spread across a line, relative to that along it


@dataclass(frozen=True)
class SnippetError:
    """Mean and standard deviation over all snippets, metres."""

    mean: float
    std: float
    snippets: int


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors of a whole trajectory after Sim(3) alignment to the truth (Umeyama, 1991).

    ape_rmse, ape_max: distance between positions, metres. rpe_translation, rpe_rotation: error of the motion between
    neighbouring frames (RMSE), metres and degrees. drift: mean position error after each 100 m of way, per cent; None
    for a shorter way. scale: the factor that the estimate was multiplied by.
    """

    ape_rmse: float
    ape_max: float
    rpe_translation: float
    rpe_rotation: float
    drift: float | None
    scale: float


def motions_of(poses: Transforms) -> Transforms:
    """T_later_earlier [N - 1, 4, 4] between neighbours of poses T_world_camera [N, 4, 4]."""
    return _inverse(poses[1:]) @ poses[:-1]


def chain(motions: Transforms) -> Transforms:
    """T_first_camera [N, 4, 4] of N - 1 motions T_later_earlier, beginning with the identity."""
    poses = [np.eye(4)]
    for T_earlier_later in _inverse(motions):
        poses.append(poses[-1] @ T_earlier_later)
    return np.stack(poses)


def snippet_ate(
    motions: Transforms, truth: Transforms, length: int = 5, form: SnippetForm = "sfmlearner"
) -> SnippetError:
    """Absolute trajectory error over all overlapping snippets of `length` frames.

    Each snippet starts at its first camera and is scaled on its own to the truth (least squares), so that neither
    drift nor a changing scale counts. There are two published forms, whose numbers differ slightly:

    - `sfmlearner` (Zhou et al., CVPR 2017, table 3): positions of the cameras, whole snippets only;
    - `monodepth2` (Godard et al., ICCV 2019, table 7, and the evaluation code published with it): T_later_earlier are
      chained instead of their inverses, in estimate and truth alike, and shorter snippets at the sequence's end count.

    Both divide the root of the summed squares by the number of frames, not by its root. `rmse` is the root mean square
    error of the snippets of `sfmlearner`, which is the square root of `length` times larger.

    motions, truth: T_later_earlier [N - 1, 4, 4].
    """
    errors = []
    for first, end in _windows(len(motions), length, keep_short=form == "monodepth2"):
        if form == "monodepth2":
            estimated, true = (chain(_inverse(m[first:end]))[:, :3, 3] for m in (motions, truth))
        else:
            estimated, true = (chain(m[first:end])[:, :3, 3] for m in (motions, truth))
        squares = _squares_after_scaling(estimated, true)
        frames = end - first + 1
        errors.append(np.sqrt(squares / frames) if form == "rmse" else np.sqrt(squares) / frames)
    return SnippetError(float(np.mean(errors)), float(np.std(errors)), len(errors))


def trajectory_errors(estimate: Transforms, truth: Transforms) -> tuple[TrajectoryErrors, Transforms] | None:
    """Errors of a whole trajectory, and the estimate aligned to the truth; None where alignment is ambiguous.

    estimate, truth: T_world_camera [N, 4, 4], in any two world frames. What lies on a straight line can be turned about
    it, and is not aligned.
    """
    if any(_is_straight(poses[:, :3, 3]) for poses in (estimate, truth)):
        return None
    path, true_path = PosePath3D(poses_se3=list(estimate)), PosePath3D(poses_se3=list(truth))
    _, _, scale = path.align(true_path, correct_scale=True)
    ape = APE(PoseRelation.translation_part)
    ape.process_data((true_path, path))
    positions = ape.get_all_statistics()
    errors = TrajectoryErrors(
        ape_rmse=float(positions["rmse"]),
        ape_max=float(positions["max"]),
        rpe_translation=_rpe(PoseRelation.translation_part, true_path, path)["rmse"],
        rpe_rotation=_rpe(PoseRelation.rotation_angle_deg, true_path, path)["rmse"],
        drift=_drift(true_path, path),
        scale=float(scale),
    )
    return errors, np.stack(path.poses_se3)


def _inverse(transforms: Transforms) -> Transforms:
    return np.asarray(np.linalg.inv(transforms), np.float64)


def _is_straight(positions: NDArray[np.float64]) -> bool:
    spread = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False)
    return bool(spread[1] <= STRAIGHT * spread[0])


def _windows(motions: int, length: int, keep_short: bool) -> Iterator[tuple[int, int]]:
    """First motion and end of each snippet."""
    last = motions if keep_short else motions - (length - 2)
    for first in range(last):
        yield first, min(first + length - 1, motions)


def _squares_after_scaling(estimated: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    norm = np.sum(estimated**2)
    scale = np.sum(estimated * true) / norm if norm > 0 else 0.0
    return float(np.sum((scale * estimated - true) ** 2))


def _rpe(relation: PoseRelation, true_path: PosePath3D, path: PosePath3D) -> dict[str, float]:
    rpe = RPE(relation, delta=1, delta_unit=Unit.frames, all_pairs=True)
    rpe.process_data((true_path, path))
    return dict(rpe.get_all_statistics())


def _drift(true_path: PosePath3D, path: PosePath3D) -> float | None:
    rpe = RPE(
        PoseRelation.translation_part, delta=DRIFT_LENGTH, delta_unit=Unit.meters, rel_delta_tol=0.1, all_pairs=True
    )
    try:
        rpe.process_data((true_path, path))
    except FilterException:
        return None
    return float(100 * rpe.get_all_statistics()["mean"] / DRIFT_LENGTH)
