"""Clouds against the message definition, the pinhole formula in float64, and the genuine sensor_msgs_py."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera, backproject
from depth_node.clouds import dense_cloud, organized_cloud, voxel_filter
from depth_node.errors import CloudError

HEADER = Header(frame_id="camera_optical")
FISHEYE = PinholeCamera(70, 65, 30.0, 30.0, 34.5, 32.0, "equidistant", (-0.01, 0.02, -0.01, 0.003))

seeds = st.integers(0, 2**32 - 1)


def random_frame(seed: int, height: int, width: int) -> tuple[np.ndarray, PinholeCamera, np.ndarray]:
    """Depth float32 [h, w] metres, one of ten pixels NaN; a camera; colours uint8 [h, w, 3]."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 80, (height, width)).astype(np.float32)
    depth[rng.random((height, width)) < 0.1] = np.nan
    fx, fy, cx, cy = rng.uniform(5, 1000), rng.uniform(5, 1000), rng.uniform(0, width), rng.uniform(0, height)
    return depth, PinholeCamera(width, height, fx, fy, cx, cy), rng.integers(0, 256, (height, width, 3), np.uint8)


def random_points(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [N, 3] within 50 m, one of ten of them NaN, and colours uint8 [N, 3]."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-50, 50, (count, 3)).astype(np.float32)
    points[rng.random(count) < 0.1] = np.nan
    return points, rng.integers(0, 256, (count, 3), np.uint8)


def stored(cloud: PointCloud2) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 3] and colours [N, 3] as the fields of the message say, one point at a time."""
    positions, colors = [], []
    for row in range(cloud.height):
        for column in range(cloud.width):
            offset = row * cloud.row_step + column * cloud.point_step
            *position, packed = struct.unpack_from("<fffI", cloud.data, offset)
            assert not math.isnan(struct.unpack_from("<f", cloud.data, offset + 12)[0])  # a colour is no invalid point
            positions.append(position)
            colors.append([packed >> 16, packed >> 8 & 255, packed & 255])
    return np.reshape(positions, (-1, 3)), np.reshape(colors, (-1, 3))


def test_header_fields_and_steps() -> None:
    cloud = organized_cloud(*random_frame(0, 5, 10), 2, HEADER)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (3, 5, 16, 80)
    assert len(cloud.data) == 3 * 80
    assert cloud.header == HEADER
    assert not cloud.is_bigendian
    assert not cloud.is_dense
    fields = [(field.name, field.offset, field.datatype, field.count) for field in cloud.fields]
    assert fields == [(name, 4 * i, PointField.FLOAT32, 1) for i, name in enumerate(["x", "y", "z", "rgb"])]


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_every_point_is_the_pinhole_formula_of_its_pixel(seed: int, height: int, width: int, stride: int) -> None:
    """x = (u - cx) z / fx, y = (v - cy) z / fy (REP 103 optical frame), in float64."""
    depth, camera, rgb = random_frame(seed, height, width)
    cloud = organized_cloud(depth, camera, rgb, stride, HEADER)
    assert (cloud.height, cloud.width) == (math.ceil(height / stride), math.ceil(width / stride))
    positions, colors = stored(cloud)
    v, u = (axis.ravel() for axis in np.mgrid[0:height:stride, 0:width:stride])
    z = depth[v, u].astype(np.float64)
    expected = np.stack([(u - camera.cx) * z / camera.fx, (v - camera.cy) * z / camera.fy, z], axis=-1)
    np.testing.assert_allclose(positions, expected, rtol=1e-6)
    np.testing.assert_array_equal(colors, rgb[v, u])


@pytest.mark.parametrize("stride", [1, 3])
def test_cloud_of_a_distorted_camera_is_its_backprojection(stride: int) -> None:
    depth, _, rgb = random_frame(1, FISHEYE.height, FISHEYE.width)  # more rows than are made at a time
    positions, _ = stored(organized_cloud(depth, FISHEYE, rgb, stride, HEADER))
    np.testing.assert_array_equal(positions, backproject(depth, FISHEYE, stride).reshape(-1, 3))


def test_cropped_images_are_taken_as_they_lie() -> None:
    depth, camera, rgb = random_frame(2, 8, 12)
    camera = camera.cropped(3, 2, 6, 5)
    window = np.s_[2:7, 3:9]
    cropped = organized_cloud(depth[window], camera, rgb[window], 2, HEADER)
    assert cropped.data == organized_cloud(depth[window].copy(), camera, rgb[window].copy(), 2, HEADER).data


def test_clouds_own_their_data() -> None:
    frame = random_frame(3, 5, 6)
    first = organized_cloud(*frame, 1, HEADER)
    before = first.data.tobytes()
    organized_cloud(frame[0] + 1, *frame[1:], 1, HEADER)
    assert first.data.tobytes() == before


@given(seeds, st.integers(0, 30))
def test_dense_cloud_has_the_valid_points_in_their_order(seed: int, count: int) -> None:
    points, rgb = random_points(seed, count)
    valid = ~np.isnan(points[:, 2])
    cloud = dense_cloud(points, rgb, HEADER)
    assert (cloud.height, cloud.width, cloud.row_step) == (1, valid.sum(), 16 * valid.sum())
    assert len(cloud.data) == cloud.row_step
    assert cloud.is_dense
    assert cloud.header == HEADER
    positions, colors = stored(cloud)
    np.testing.assert_array_equal(positions, points[valid])
    np.testing.assert_array_equal(colors, rgb[valid])


def test_dense_cloud_of_an_image_is_the_organized_one_without_its_holes() -> None:
    depth, camera, rgb = random_frame(4, 7, 9)
    organized = organized_cloud(depth, camera, rgb, 2, HEADER)
    dense = dense_cloud(backproject(depth, camera, 2), rgb[::2, ::2], HEADER)
    positions, colors = stored(organized)
    valid = ~np.isnan(positions[:, 2])
    assert dense.fields == organized.fields
    np.testing.assert_array_equal(stored(dense)[0], positions[valid])
    np.testing.assert_array_equal(stored(dense)[1], colors[valid])


@given(seeds, st.integers(0, 60), st.floats(0.5, 200))
def test_voxels_hold_centroid_and_mean_colour(seed: int, count: int, size: float) -> None:
    """Against a dictionary of voxels filled point by point in float64."""
    points, rgb = random_points(seed, count)
    members: dict[tuple[int, ...], list[int]] = {}
    for index, point in enumerate(points.astype(np.float64)):
        if not np.isnan(point).any():
            members.setdefault(tuple(int(np.floor(value * (1.0 / size))) for value in point[::-1]), []).append(index)
    centroids, colors = voxel_filter(points, rgb, size)
    assert (centroids.dtype, colors.dtype) == (np.float32, np.uint8)
    assert centroids.shape == colors.shape == (len(members), 3)
    for centroid, color, (_, indices) in zip(centroids, colors, sorted(members.items()), strict=True):
        np.testing.assert_allclose(centroid, points[indices].mean(axis=0, dtype=np.float64), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(color, rgb[indices].mean(axis=0), atol=0.5 + 1e-9)


def test_voxels_of_an_image_are_those_of_its_points() -> None:
    depth, camera, rgb = random_frame(5, 8, 10)
    points = backproject(depth, camera)
    of_image = voxel_filter(points, rgb, 5.0)
    of_list = voxel_filter(points.reshape(-1, 3), rgb.reshape(-1, 3), 5.0)
    np.testing.assert_array_equal(of_image[0], of_list[0])
    np.testing.assert_array_equal(of_image[1], of_list[1])


def test_small_voxels_keep_every_point_exactly() -> None:
    points, rgb = random_points(6, 500)
    kept, colors = voxel_filter(points, rgb, 0.01)
    valid = ~np.isnan(points[:, 2])
    assert {(*p, *c) for p, c in zip(kept.tolist(), colors.tolist(), strict=True)} == {
        (*p, *c) for p, c in zip(points[valid].tolist(), rgb[valid].tolist(), strict=True)
    }


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan])
def test_voxels_without_a_size_are_refused(size: float) -> None:
    with pytest.raises(CloudError, match="expected more than 0 m"):
        voxel_filter(*random_points(7, 5), size)


@pytest.mark.parametrize(("size", "reach"), [(1e-6, 50.0), (1e-300, 50.0), (0.1, 3e38)])
def test_more_voxels_than_can_be_numbered_are_refused(size: float, reach: float) -> None:
    points = np.array([[-reach, -reach, 0.5], [reach, reach, reach]], np.float32)
    with pytest.raises(CloudError, match="choose larger voxels"):
        voxel_filter(points, np.zeros((2, 3), np.uint8), size)


def test_same_bytes_as_sensor_msgs_py() -> None:
    create_cloud = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="needs a ROS machine").create_cloud
    depth, camera, rgb = random_frame(8, 11, 17)
    points, cloud = backproject(depth, camera), organized_cloud(depth, camera, rgb, 1, HEADER)
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
    depth, camera, rgb = random_frame(9, 11, 17)
    points, cloud = backproject(depth, camera), organized_cloud(depth, camera, rgb, 1, HEADER)
    read = point_cloud2.read_points(cloud)
    np.testing.assert_array_equal(np.stack([read[name] for name in "xyz"], axis=-1), points.reshape(-1, 3))
    colors = read["rgb"].view(np.uint32)
    np.testing.assert_array_equal(colors >> 16, rgb[..., 0].ravel())
    np.testing.assert_array_equal(colors >> 8 & 255, rgb[..., 1].ravel())
    np.testing.assert_array_equal(colors & 255, rgb[..., 2].ravel())
    valid = ~np.isnan(points).any(axis=-1)
    assert len(point_cloud2.read_points(cloud, skip_nans=True)) == valid.sum()
