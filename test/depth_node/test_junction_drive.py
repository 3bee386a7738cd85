"""The vehicle that turns at a junction moves as KITTI's do, and drives into nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from depth_node.camera import PinholeCamera
from depth_node.synthetic import SyntheticFrame, VehicleMotion, junction_drive, vehicle

CAMERA = PinholeCamera(32, 16, 18.5, 18.5, 15.5, 7.5)
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def drives() -> list[list[SyntheticFrame]]:
    """How the camera moves: its images, which take their time, are left out."""
    blank = np.zeros((16, 32, 3), np.uint8), np.ones((16, 32), np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vehicle, "render_rolling", lambda *_: blank)
        return [list(junction_drive(CAMERA, 80, seed=seed)) for seed in SEEDS]


def poses(drive: list[SyntheticFrame]) -> NDArray[np.float64]:
    return np.stack([frame.T_world_camera for frame in drive])


def rates(drive: list[SyntheticFrame]) -> NDArray[np.float64]:
    """Degrees per second about the camera's x (pitch), y (yaw) and z (roll) axes: [frames - 1, 3]."""
    turns = Rotation.from_matrix(poses(drive)[:, :3, :3])
    return np.degrees((turns[:-1].inv() * turns[1:]).as_rotvec()) / 0.1


def test_it_turns_into_another_street(drives: list[list[SyntheticFrame]]) -> None:
    for drive in drives:
        forward = poses(drive)[:, :2, 2]  # the optical axis, on the ground
        angle = np.degrees(
            np.arccos(np.dot(forward[0], forward[-1]) / np.prod(np.linalg.norm(forward, axis=1)[[0, -1]]))
        )
        assert 75 < angle < 105  # the first street bends, too
    sides = {float(np.sign(rates(drive)[:, 1].sum())) for drive in drives}
    assert sides == {-1.0, 1.0}


def test_it_brakes_before_and_speeds_up_after(drives: list[list[SyntheticFrame]]) -> None:
    for drive in drives:
        speed = np.linalg.norm(np.diff(poses(drive)[:, :2, 3], axis=0), axis=1) / 0.1
        assert speed[0] == pytest.approx(8.0, abs=0.3)
        assert speed.min() == pytest.approx(4.5, abs=0.3)
        assert speed[-1] > 6


def test_it_pitches_and_rolls_as_much_as_vehicles_do(drives: list[list[SyntheticFrame]]) -> None:
    """KITTI's odometry drives 03 and 00: 1.7 and 2.3 degrees per second of pitch, 1.6 and 1.8 of roll (rms)."""
    pitch, yaw, roll = np.sqrt(np.mean(np.concatenate([rates(drive) for drive in drives]) ** 2, axis=0))
    assert 1.3 < pitch < 2.4
    assert 1.2 < roll < 2.2
    assert 10 < yaw < 25


def test_a_motion_without_shaking_stays_level() -> None:
    still = VehicleMotion(pitch_rate=0.0, roll_rate=0.0, heave_rate=0.0, dive=0.0)
    drive = list(junction_drive(CAMERA, 3, seed=1, motion=still, rate=0.5))
    np.testing.assert_allclose(poses(drive)[:, 2, 2], 0, atol=1e-12)  # the optical axis is level
    np.testing.assert_allclose(poses(drive)[:, 2, 3], 1.65)


def test_the_lane_is_free_and_a_seed_is_a_drive() -> None:
    first, again = (list(junction_drive(CAMERA, 4, seed=1, rate=0.5)) for _ in range(2))
    other = next(iter(junction_drive(CAMERA, 1, seed=2)))
    assert min(np.nanmin(frame.depth) for frame in first) > 2.0
    for frame, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(frame.rgb, same.rgb)
    assert not np.array_equal(first[0].rgb, other.rgb)
