"""Scans as sparse depth, and which scan belongs to which image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node import bag_messages
from depth_node.camera import PinholeCamera
from depth_node.errors import CloudError
from training.prepare.lidar import cloud_points, match_stamps, sparse_depth

CAMERA = PinholeCamera(40, 30, 20.0, 20.0, 19.5, 14.5)
POINTS = np.array([[1, 2, 3, 9], [4, 5, 6, 9], [np.nan, 0, 1, 9]], np.float32)


def cloud(points: np.ndarray = POINTS) -> Any:
    return bag_messages.point_cloud(0, "lidar", points, ("x", "y", "z", "intensity"))


def test_finite_points_of_a_cloud() -> None:
    np.testing.assert_array_equal(cloud_points(cloud()), [[1, 2, 3], [4, 5, 6]])
    assert cloud_points(cloud(POINTS[:0])).shape == (0, 3)


def test_organised_big_endian_cloud_with_padded_rows() -> None:
    message = cloud()
    rows = np.zeros((2, 48), np.uint8)  # two points of 16 bytes, and 16 bytes of padding
    grid = np.array([[[1, 2, 3, 0], [4, 5, 6, 0]], [[7, 8, 9, 0], [10, 11, 12, 0]]], ">f4")
    rows[:, :32] = grid.reshape(2, 8).view(np.uint8)
    message.height, message.width, message.row_step, message.is_bigendian = 2, 2, 48, True
    message.data = rows.reshape(-1)
    np.testing.assert_array_equal(cloud_points(message), [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]])


@pytest.mark.parametrize(("name", "value"), [("width", 4), ("row_step", 8), ("height", 2), ("point_step", 8)])
def test_sizes_that_do_not_fit_the_data(name: str, value: int) -> None:
    message = cloud()
    setattr(message, name, value)
    with pytest.raises(CloudError, match="bytes in steps of"):
        cloud_points(message)


def test_cloud_without_coordinates() -> None:
    with pytest.raises(CloudError, match="fields range, azimuth; expected x, y and z"):
        cloud_points(bag_messages.point_cloud(0, "lidar", POINTS[:, :2], ("range", "azimuth")))


@given(st.integers(0, 39), st.integers(0, 29), st.floats(0.5, 80), st.floats(1.01, 3))
def test_nearest_point_of_a_pixel_wins(column: int, row: int, z: float, farther: float) -> None:
    ray = np.array([(column - 19.5) / 20, (row - 14.5) / 20, 1.0])
    depth = sparse_depth(np.array([ray * z * farther, ray * z, -ray * z]), CAMERA)
    assert np.count_nonzero(depth) == 1
    assert depth[row, column] == pytest.approx(z, rel=1e-6)


def test_points_that_a_lens_model_folds_back_are_left_out() -> None:
    # r (1 - 0.3 r^2) turns at r = 1.05 and is back at the centre at r = 1.83: by hand.
    lens = PinholeCamera(40, 30, 20.0, 20.0, 19.5, 14.5, "plumb_bob", (-0.3, 0.0, 0.0, 0.0, 0.0))
    seen = sparse_depth(np.array([[0.2, 0.0, 1.0]]), lens)
    assert seen[14, round(19.5 + 20 * 0.2 * (1 - 0.3 * 0.04))] == 1
    assert not sparse_depth(np.array([[1.8, 0.0, 1.0]]), lens).any()


def test_scan_and_image_are_each_nearest_to_the_other() -> None:
    assert match_stamps([0, 10, 20, 30], [2, 29], 5) == {0: 0, 3: 1}
    assert match_stamps([0, 10], [4, 6], 3) == {}
    assert match_stamps([20, 0], [1, 19], 3) == {0: 1, 1: 0}
    assert match_stamps([], [1], 3) == match_stamps([1], [], 3) == {}
