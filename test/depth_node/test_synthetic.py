"""Synthetic worlds against closed forms; and warped by true depth, K and pose, one frame gives the other."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError
from depth_node.synthetic import (
    MovingCar,
    Primitive,
    Street,
    SyntheticFrame,
    World,
    render,
    street_drive,
    street_world,
)
from depth_node.synthetic.street import T_BASE_CAMERA

CAMERA = PinholeCamera(64, 48, 50.0, 52.0, 31.2, 23.7)
FRONT_CAMERA = PinholeCamera(640, 192, 372.0, 372.0, 319.5, 95.5)
GREY = (0.5, 0.5, 0.5)


def camera_at(x: float, y: float, z: float) -> np.ndarray:
    """T_world_camera of a camera that looks along the world's x axis."""
    pose = T_BASE_CAMERA.copy()
    pose[:3, 3] = x, y, z
    return pose


def solid(shape: str, position: tuple[float, float, float], half_size: tuple[float, float, float]) -> Primitive:
    pose = np.eye(4)
    pose[:3, 3] = position
    return Primitive(shape, pose, half_size, "plain", GREY)  # type: ignore[arg-type]


def pixel_rays(camera: PinholeCamera) -> tuple[np.ndarray, np.ndarray]:
    v, u = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    return (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy


def test_depth_of_flat_ground_is_height_over_downward_slope() -> None:
    world = World(street=Street(kerb_height=0.0), max_range=1e3)
    _, depth = render(world, CAMERA, camera_at(0, 0, 1.65))
    _, y = pixel_rays(CAMERA)
    expected = np.where(1.65 / np.where(y > 0, y, np.nan) < 1e3, 1.65 / y, np.nan)
    np.testing.assert_allclose(depth, expected, rtol=1e-5)


def test_depth_of_facing_wall_is_its_distance() -> None:
    world = World((solid("box", (12.5, 0, 0), (0.5, 50, 50)),), street=None)
    _, depth = render(world, CAMERA, camera_at(0, 0, 1.65))
    np.testing.assert_allclose(depth, 12.0, rtol=1e-5)


@given(st.floats(-1.2, 1.2), st.floats(0.5, 2.0))
@settings(max_examples=20, deadline=None)
def test_depth_of_sphere_follows_the_quadratic(side: float, radius: float) -> None:
    world = World((solid("ellipsoid", (8.0, side, 1.0), (radius,) * 3),), street=None)
    _, depth = render(world, CAMERA, camera_at(0, 0, 1.0))
    x, y = pixel_rays(CAMERA)
    # |z (x, y, 1) - c|^2 = r^2 with the centre c = (-side, 0, 8) in camera axes.
    a, b, c = x**2 + y**2 + 1, -x * side + 8.0, side**2 + 64.0 - radius**2
    discriminant = b**2 - a * c
    clear = np.abs(discriminant) > 1e-9
    expected = np.where(discriminant > 0, (b - np.sqrt(np.abs(discriminant))) / a, np.nan)
    np.testing.assert_allclose(depth[clear], expected[clear], rtol=1e-5)


def test_depth_of_upright_cylinder_and_its_cap() -> None:
    world = World((solid("cylinder", (10.0, 0, 2.0), (2.0, 2.0, 1.0)),), street=None)
    _, depth = render(world, CAMERA, camera_at(0, 0, 5.0))
    x, y = pixel_rays(CAMERA)
    # From 2 m above the cap (z = 3): where the ray meets the cap's plane inside the rim, depth is 2 / y.
    cap = 2.0 / np.where(y > 0, y, np.nan)
    on_cap = np.hypot(cap * x, cap - 10.0) < 1.99
    assert on_cap.sum() > 20
    np.testing.assert_allclose(depth[on_cap], cap[on_cap], rtol=1e-5)
    a, b, c = x**2 + 1, 10.0, 96.0
    side = (b - np.sqrt(np.maximum(b**2 - a * c, 0))) / a
    on_side = (b**2 - a * c > 1e-6) & (np.abs(3.0 - side * y) < 0.99)
    assert on_side.sum() > 20
    np.testing.assert_allclose(depth[on_side], side[on_side], rtol=1e-5)


def test_rotated_box_seen_from_inside_a_bounding_rectangle_that_crosses_the_camera_plane() -> None:
    """A long wall on the left reaches from behind the camera to far ahead; its depth is 3 / -x on the left side."""
    pose = np.eye(4)
    pose[:2, :2] = [[0, -1], [1, 0]]  # long side along the box's own y axis
    pose[:3, 3] = 0, 4, 0
    world = World((Primitive("box", pose, (1.0, 500.0, 500.0), "plain", GREY),), street=None, max_range=400)
    _, depth = render(world, CAMERA, camera_at(0, 0, 0))
    x, _ = pixel_rays(CAMERA)
    left = x < -3 / 390
    np.testing.assert_allclose(depth[left], (3 / -x)[left], rtol=1e-5)
    assert np.isnan(depth[x > 0]).all()


def test_kerb_face_stands_between_road_and_pavement() -> None:
    street = Street(road_half_width=3.0, kerb_height=0.2)
    sideways = np.eye(4)
    sideways[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]  # looks along the world's y axis
    sideways[:3, 3] = 0, 0, 1.2
    _, depth = render(World(street=street), CAMERA, sideways)
    _, y = pixel_rays(CAMERA)
    column, slope = depth[:, 32], y[:, 32]
    face = (slope > 1.0 / 3 + 1e-9) & (slope < 1.2 / 3 - 1e-9)
    assert face.sum() >= 3
    np.testing.assert_allclose(column[face], 3.0, rtol=1e-5)
    np.testing.assert_allclose(column[slope > 0.4], 1.2 / slope[slope > 0.4], rtol=1e-5)
    pavement = (slope > 0.01) & (slope < 0.3)
    np.testing.assert_allclose(column[pavement], 1.0 / slope[pavement], rtol=1e-5)


def test_same_seed_gives_the_same_street_and_another_seed_another() -> None:
    frames = [next(street_drive(street_world(seed, length=60), CAMERA, 1)) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(frames[0].rgb, frames[1].rgb)
    np.testing.assert_array_equal(frames[0].depth, frames[1].depth)
    assert np.abs(frames[0].rgb.astype(int) - frames[2].rgb).mean() > 10


def test_drive_keeps_height_speed_and_rate_and_turns() -> None:
    frames = list(street_drive(street_world(1), CAMERA, 30, speed=9.0, rate=10.0))
    positions = np.array([frame.T_world_camera[:3, 3] for frame in frames])
    forward = np.array([frame.T_world_camera[:3, 2] for frame in frames])
    np.testing.assert_allclose(positions[:, 2], 1.65)
    # The lane beside the centre line is a little longer or shorter than the centre line, by curvature times offset.
    np.testing.assert_allclose(np.linalg.norm(np.diff(positions, axis=0), axis=1), 0.9, rtol=0.1)
    assert np.ptp(np.unwrap(np.arctan2(forward[:, 1], forward[:, 0]))) > np.deg2rad(3)
    assert {b.stamp_ns - a.stamp_ns for a, b in itertools.pairwise(frames)} == {100_000_000}


def test_distorted_camera_is_refused() -> None:
    camera = dataclasses.replace(CAMERA, distortion=(0.1, 0.0, 0.0, 0.0))
    with pytest.raises(CameraError, match="distortion"):
        render(World(), camera, camera_at(0, 0, 1.65))


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_warp_by_true_depth_and_pose_reproduces_the_frame(seed: int) -> None:
    target, source = street_drive(street_world(seed), FRONT_CAMERA, 2, start=40)
    warped, valid = warp(target, source)
    assert valid.mean() > 0.5
    error = (warped - target.rgb)[valid]
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 35
    unwarped = (source.rgb.astype(np.float64) - target.rgb)[valid]
    assert 10 * np.log10(255**2 / np.mean(unwarped**2)) < 25  # there was something to undo


def warp(target: SyntheticFrame, source: SyntheticFrame) -> tuple[np.ndarray, np.ndarray]:
    """The target's image, fetched from the source: float64 [H, W, 3], and where it is seen in both [H, W]."""
    camera = target.camera
    x, y = pixel_rays(camera)
    depth = np.nan_to_num(target.depth.astype(np.float64), nan=1e6)
    points = np.stack([x * depth, y * depth, depth, np.ones_like(depth)], axis=-1)
    points = points @ (np.linalg.inv(source.T_world_camera) @ target.T_world_camera).T
    u = camera.fx * points[..., 0] / points[..., 2] + camera.cx
    v = camera.fy * points[..., 1] / points[..., 2] + camera.cy
    inside = (points[..., 2] > 0) & (u >= 0) & (u < camera.width - 1) & (v >= 0) & (v < camera.height - 1)
    left, top = (np.where(inside, np.floor(p), 0).astype(int) for p in (u, v))
    right_share, lower_share = np.where(inside, u - left, 0), np.where(inside, v - top, 0)
    warped = np.zeros(target.rgb.shape)
    valid = inside & ~outlines(target.depth)
    source_outlines = outlines(source.depth)
    for down, weight_v in ((0, 1 - lower_share), (1, lower_share)):
        for right, weight_u in ((0, 1 - right_share), (1, right_share)):
            corner = top + down, left + right
            warped += (weight_v * weight_u)[..., None] * source.rgb[corner]
            same_surface = np.abs(source.depth[corner] / points[..., 2] - 1) < 0.03
            valid &= same_surface & ~source_outlines[corner]
    return warped, valid


def outlines(depth: np.ndarray) -> np.ndarray:
    """Pixels at occluding edges, whose colour may mix two surfaces."""
    inverse = 1 / np.nan_to_num(depth, nan=1e6)
    return cv2.dilate(inverse, np.ones((3, 3))) > 1.15 * cv2.erode(inverse, np.ones((3, 3)))


def test_an_oncoming_car_closes_in_by_both_speeds_and_faces_the_camera() -> None:
    world = World(street=Street())  # straight, empty
    camera = PinholeCamera(width=320, height=160, fx=260, fy=260, cx=159.5, cy=80)
    oncoming = MovingCar(arc=30.0, speed=-6.0)
    frames = list(street_drive(world, camera, frames=4, speed=8.0, traffic=[oncoming]))
    nearest = [float(np.nanmin(frame.depth[frame.moving == 1])) for frame in frames]
    # The camera stands 0 m along, the bonnet 2.1 m in front of the car's middle; 14 m/s are 1.4 m a frame.
    np.testing.assert_allclose(nearest, 30 - 2.14 - 1.4 * np.arange(4), atol=0.1)
    rows, columns = np.nonzero(frames[0].moving)
    assert columns.mean() < camera.cx  # it keeps to its own right
    front = frames[0].rgb[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].max(axis=(0, 1))
    assert (front > 150).all()  # white headlamps; tail lamps would be red
    standing = next(iter(street_drive(world, camera, frames=1)))
    assert not standing.moving.any()
    hidden = frames[0].moving == 0
    np.testing.assert_array_equal(frames[0].depth[hidden], standing.depth[hidden])
