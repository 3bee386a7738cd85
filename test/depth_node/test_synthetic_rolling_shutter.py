"""Rendered rolling shutters: every row from where the camera is when it is read."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.synthetic import handheld_walk, junction_drive, render, street_world
from depth_node.synthetic.rolling_shutter import render_rolling
from depth_node.synthetic.street import T_BASE_CAMERA, base_pose

CAMERA = PinholeCamera(96, 48, 60.0, 60.0, 47.5, 23.5)
WORLD = street_world(2)


def pose(time: float) -> NDArray[np.float64]:
    """It turns to the right by a radian per second, and goes ahead."""
    assert WORLD.street is not None
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(time), 0, np.sin(time)], [0, 1, 0], [-np.sin(time), 0, np.cos(time)]]
    return np.asarray(base_pose(WORLD.street, 20.0 + 5 * time) @ T_BASE_CAMERA @ turn, np.float64)


@pytest.mark.parametrize("readout", [0.06, -0.06])
def test_rows_are_seen_from_where_the_camera_is_by_then(readout: float) -> None:
    _, depth = render_rolling(WORLD, CAMERA, pose, 1.0, readout)
    for row in (4, 20, 44):  # near the middle of a band of eight
        _, expected = render(WORLD, CAMERA, pose(1.0 + readout * (row / CAMERA.height - 0.5)))
        np.testing.assert_allclose(depth[row], expected[row], rtol=1e-4)
    _, global_shutter = render(WORLD, CAMERA, pose(1.0))
    assert np.nanmean(np.abs(depth[4] / global_shutter[4] - 1)) > 0.01


def test_without_a_readout_it_is_a_global_shutter() -> None:
    for rolling, whole in zip(
        render_rolling(WORLD, CAMERA, pose, 1.0, 0.0), render(WORLD, CAMERA, pose(1.0)), strict=True
    ):
        np.testing.assert_array_equal(rolling, whole)


def test_walks_and_drives_can_have_one() -> None:
    for still, rolling in (
        (handheld_walk(WORLD, CAMERA, 2), handheld_walk(WORLD, CAMERA, 2, readout=0.03)),
        (junction_drive(CAMERA, 2), junction_drive(CAMERA, 2, readout=0.03)),
    ):
        for a, b in zip(still, rolling, strict=True):
            assert a.rgb.shape == b.rgb.shape
            np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)
            assert a.stamp_ns == b.stamp_ns
            assert (a.rgb != b.rgb).any()
