"""Trajectory errors against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from training.evaluation.trajectories import Transforms, chain, motions_of, snippet_ate, trajectory_errors


def transform(translation: list[float], rotation_y: float = 0.0) -> Transforms:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("y", rotation_y, degrees=True).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def steps(count: int, translation: list[float], rotation_y: float = 0.0) -> Transforms:
    """The same T_later_earlier `count` times."""
    return np.repeat(transform(translation, rotation_y)[None], count, axis=0)


AHEAD = [0.0, 0.0, -1.0]  # of T_later_earlier when the camera goes 1 m forward


def helix(frames: int) -> Transforms:
    """T_world_camera on a rising circle of 40 m radius, 1.2 m between frames."""
    angles = np.arange(frames) * 0.03
    poses = np.repeat(np.eye(4)[None], frames, axis=0)
    poses[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * [0, 1, 0]).as_matrix()
    poses[:, :3, 3] = np.stack([40 * np.cos(angles), 0.1 * np.arange(frames), 40 * np.sin(angles)], axis=-1)
    return poses


def test_motions_and_chain_undo_each_other() -> None:
    rng = np.random.default_rng(0)
    poses = np.repeat(np.eye(4)[None], 9, axis=0)
    poses[:, :3, :3] = Rotation.random(9, rng=0).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(9, 3))
    np.testing.assert_allclose(poses[0] @ chain(motions_of(poses)), poses, atol=1e-12)
    # A point in the first camera's frame, seen by the second: through the world.
    point = np.array([1.0, 2.0, 3.0, 1.0])
    np.testing.assert_allclose(poses[1] @ motions_of(poses)[0] @ point, poses[0] @ point, atol=1e-12)


@given(st.floats(0.01, 2), st.floats(0.1, 10))
def test_sideways_drift_by_hand(drift: float, scale: float) -> None:
    """Positions i (d, 0, 1) against i (0, 0, 1): squares after scaling are (0 + 1 + 4 + 9 + 16) d^2 / (1 + d^2)."""
    estimate, truth = steps(4, [-drift * scale, 0, -scale]), steps(4, AHEAD)
    squares = 30 * drift**2 / (1 + drift**2)
    assert snippet_ate(estimate, truth).mean == pytest.approx(np.sqrt(squares) / 5)
    assert snippet_ate(estimate, truth, form="monodepth2").snippets == 4
    assert snippet_ate(estimate, truth, form="rmse").mean == pytest.approx(np.sqrt(squares / 5))


def test_the_two_published_forms_differ_where_the_camera_turns() -> None:
    """An estimate that turns by 90 degrees about y with each step, against a straight truth; three frames."""
    estimate, truth = steps(2, AHEAD, rotation_y=90), steps(2, AHEAD)
    # Chained T_later_earlier: (0, 0, -1), (-1, 0, -1) against (0, 0, -1), (0, 0, -2); the best scale is 1.
    # The snippet at the end has two frames, and no error.
    monodepth2 = snippet_ate(estimate, truth, length=3, form="monodepth2")
    assert (monodepth2.mean, monodepth2.snippets) == (pytest.approx(np.sqrt(2) / 3 / 2), 2)
    # Positions: (-1, 0, 0), (-1, 0, -1) against (0, 0, 1), (0, 0, 2); the best scale is -2/3.
    sfmlearner = snippet_ate(estimate, truth, length=3, form="sfmlearner")
    assert (sfmlearner.mean, sfmlearner.snippets) == (pytest.approx(np.sqrt(33 / 9) / 3), 1)


def test_every_snippet_has_its_own_scale() -> None:
    truth = steps(20, AHEAD)
    estimate = truth.copy()
    estimate[10:, :3, 3] *= 3  # within a snippet across the jump this is an error, elsewhere none
    error = snippet_ate(estimate, truth)
    assert error.snippets == 17
    across = [snippet_ate(estimate[i : i + 4], truth[i : i + 4]).mean for i in range(17)]
    assert [i for i, value in enumerate(across) if value > 1e-9] == [7, 8, 9]
    assert error.mean == pytest.approx(np.mean(across))
    assert error.std == pytest.approx(np.std(across))


def test_a_standing_estimate_has_the_truth_for_its_error() -> None:
    assert snippet_ate(steps(4, [0, 0, 0]), steps(4, AHEAD)).mean == pytest.approx(np.sqrt(30) / 5)


def test_another_world_frame_and_scale_are_no_error() -> None:
    truth = helix(120)
    estimate = truth.copy()
    turn = Rotation.from_euler("xyz", [20, 30, 40], degrees=True).as_matrix()
    estimate[:, :3, :3] = turn @ truth[:, :3, :3]
    estimate[:, :3, 3] = (0.25 * truth[:, :3, 3] + [1, 2, 3]) @ turn.T
    result = trajectory_errors(estimate, truth)
    assert result is not None
    errors, aligned = result
    np.testing.assert_allclose(aligned, truth, atol=1e-9)
    assert errors.scale == pytest.approx(4)
    assert (errors.ape_rmse, errors.rpe_translation, errors.drift) == pytest.approx((0, 0, 0), abs=1e-9)
    assert errors.rpe_rotation == pytest.approx(0, abs=1e-4)


def test_rotation_error_between_neighbours() -> None:
    truth = helix(50)
    estimate = truth.copy()
    turns = Rotation.from_rotvec(0.5 * np.arange(50)[:, None] * [0, 1, 0], degrees=True).as_matrix()
    estimate[:, :3, :3] = truth[:, :3, :3] @ turns
    result = trajectory_errors(estimate, truth)
    assert result is not None
    assert result[0].rpe_rotation == pytest.approx(0.5, rel=1e-6)
    assert result[0].ape_rmse == pytest.approx(0, abs=1e-9)
    assert result[0].drift is None  # 60 m of way


def test_one_position_out_of_place() -> None:
    """A jump of 1 m in one of 400 frames hardly moves the alignment: APE is 1 m over the root of 400."""
    truth = helix(400)
    estimate = truth.copy()
    estimate[200, 1, 3] += 1.0
    result = trajectory_errors(estimate, truth)
    assert result is not None
    assert result[0].ape_rmse == pytest.approx(1 / 20, rel=0.02)
    assert result[0].ape_max == pytest.approx(1, rel=0.02)
    assert result[0].rpe_translation == pytest.approx(np.sqrt(2 / 399), rel=0.02)


def test_a_straight_estimate_is_not_aligned() -> None:
    straight = chain(steps(30, AHEAD))
    assert trajectory_errors(straight, helix(31)) is None
    assert trajectory_errors(helix(31), straight) is None
    assert trajectory_errors(chain(steps(30, [0, 0, 0])), helix(31)) is None
