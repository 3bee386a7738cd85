"""The organised cloud against the message definition, and against the genuine sensor_msgs_py."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import PointField
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera, backproject
from depth_node.clouds import organized_cloud

HEADER = Header(frame_id="camera_optical")


def random_cloud(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [h, w, 3], one of ten of them NaN, and colours uint8 [h, w, 3]."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-50, 50, (height, width, 3)).astype(np.float32)
    points[rng.random((height, width)) < 0.1] = np.nan
    return points, rng.integers(0, 256, (height, width, 3), np.uint8)


def test_header_fields_and_steps() -> None:
    cloud = organized_cloud(*random_cloud(0, 3, 5), HEADER)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (3, 5, 16, 80)
    assert len(cloud.data) == 3 * 80
    assert cloud.header == HEADER
    assert not cloud.is_bigendian
    assert not cloud.is_dense
    fields = [(field.name, field.offset, field.datatype, field.count) for field in cloud.fields]
    assert fields == [(name, 4 * i, PointField.FLOAT32, 1) for i, name in enumerate(["x", "y", "z", "rgb"])]


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7))
def test_every_point_lies_where_the_fields_say(seed: int, height: int, width: int) -> None:
    points, rgb = random_cloud(seed, height, width)
    cloud = organized_cloud(points, rgb, HEADER)
    for row in range(height):
        for column in range(width):
            offset = row * cloud.row_step + column * cloud.point_step
            x, y, z, packed = struct.unpack_from("<fffI", cloud.data, offset)
            np.testing.assert_array_equal([x, y, z], points[row, column])
            red, green, blue = (int(value) for value in rgb[row, column])
            assert packed == red << 16 | green << 8 | blue
            assert not np.isnan(struct.unpack_from("<f", cloud.data, offset + 12)[0])  # a colour is no invalid point


def test_strided_colours_are_taken() -> None:
    points, _ = random_cloud(1, 4, 6)
    _, rgb = random_cloud(1, 8, 12)
    every_second = organized_cloud(points, rgb[::2, ::2], HEADER)
    assert every_second.data == organized_cloud(points, rgb[::2, ::2].copy(), HEADER).data


def test_points_are_those_of_the_pinhole_formula() -> None:
    """x = (u - cx) z / fx, y = (v - cy) z / fy (REP 103 optical frame), in float64."""
    camera = PinholeCamera(8, 6, fx=10.0, fy=12.0, cx=3.3, cy=2.1)
    depth = np.random.default_rng(2).uniform(1, 80, (6, 8)).astype(np.float32)
    depth[2, 5] = np.nan
    cloud = organized_cloud(backproject(depth, camera, 2), np.zeros((3, 4, 3), np.uint8), HEADER)
    stored = np.frombuffer(cloud.data, "<f4").reshape(3, 4, 4)
    for row in range(3):
        for column in range(4):
            u, v, z = 2.0 * column, 2.0 * row, float(depth[2 * row, 2 * column])
            expected = [(u - 3.3) * z / 10.0, (v - 2.1) * z / 12.0, z]
            np.testing.assert_allclose(stored[row, column, :3], expected, rtol=1e-6)


def test_same_bytes_as_sensor_msgs_py() -> None:
    create_cloud = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="needs a ROS machine").create_cloud
    points, rgb = random_cloud(3, 11, 17)
    cloud = organized_cloud(points, rgb, HEADER)
    structured = np.zeros((11, 17), [(name, "<f4") for name in ("x", "y", "z", "rgb")])
    for axis, name in enumerate("xyz"):
        structured[name] = points[..., axis]
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    structured["rgb"] = packed.view(np.float32)
    genuine = create_cloud(HEADER, list(cloud.fields), structured.ravel())
    assert genuine.data == cloud.data
    assert genuine.fields == cloud.fields
    assert (genuine.point_step, genuine.is_bigendian, genuine.is_dense) == (16, False, False)


def test_sensor_msgs_py_reads_every_point() -> None:
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="needs a ROS machine")
    points, rgb = random_cloud(4, 11, 17)
    cloud = organized_cloud(points, rgb, HEADER)
    read = point_cloud2.read_points(cloud)
    np.testing.assert_array_equal(np.stack([read[name] for name in "xyz"], axis=-1), points.reshape(-1, 3))
    colors = read["rgb"].view(np.uint32)
    np.testing.assert_array_equal(colors >> 16, rgb[..., 0].ravel())
    np.testing.assert_array_equal(colors >> 8 & 255, rgb[..., 1].ravel())
    np.testing.assert_array_equal(colors & 255, rgb[..., 2].ravel())
    valid = ~np.isnan(points).any(axis=-1)
    assert len(point_cloud2.read_points(cloud, skip_nans=True)) == valid.sum()
