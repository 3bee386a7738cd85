"""Where pixels are seen from elsewhere, and all derivatives, against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from depth_node.intrinsics.projection import PixelCamera, observe, patch_warps, rotation_angle, rotation_matrix
from pinhole_by_hand import HEIGHT, INTRINSICS, WIDTH, Array, seen_by_hand

LENSES = [0.0, 0.05, -0.1]


def some_views(seed: int, k: float, views: int = 3, points: int = 8) -> tuple[Array, Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    pixels = np.stack([rng.uniform(20, WIDTH - 20, points), rng.uniform(20, HEIGHT - 20, points)])
    rotations = Rotation.from_rotvec(rng.normal(0, 0.1, (views, 3))).as_matrix()
    change = np.array([0.1, 0.02, -0.01, 0.15, k])
    return pixels, rng.uniform(0, 0.6, points), change, rotations, rng.normal(0, 0.4, (views, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_rotation_matrix_is_the_exponential(axis_angle: list[float]) -> None:
    expected = Rotation.from_rotvec(axis_angle)
    matrix = rotation_matrix(np.array(axis_angle))
    np.testing.assert_allclose(matrix, expected.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotation_angle(matrix), expected.magnitude(), atol=1e-7)


def test_small_angles_are_exact() -> None:
    tiny = np.array([3e-9, -2e-9, 1e-9])
    np.testing.assert_allclose(rotation_angle(rotation_matrix(tiny)), np.linalg.norm(tiny), rtol=1e-6)
    np.testing.assert_array_equal(rotation_matrix(np.zeros(3)), np.eye(3))


@pytest.mark.parametrize(("k", "atol"), [(0.0, 1e-9), (0.02, 1e-3), (-0.1, 0.05)])
def test_points_are_seen_where_the_pinhole_model_says(k: float, atol: float) -> None:
    """Distortion is undone by a few steps of a fixed point: to a thousandth of a pixel where there is little of it."""
    pixels, inverse_depth, change, rotations, translations = some_views(0, k)
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    observed = observe(pixels, inverse_depth, camera, rotations, translations)
    expected = seen_by_hand(pixels, inverse_depth, change, rotations, translations)
    np.testing.assert_allclose(observed.pixels, expected, atol=atol)


@pytest.mark.parametrize("k", LENSES)
def test_jacobians_by_pose_and_depth(k: float) -> None:
    pixels, inverse_depth, change, rotations, translations = some_views(1, k)
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    observed, step = observe(pixels, inverse_depth, camera, rotations, translations), 1e-6
    tolerance = {"rtol": 1e-5 + 0.02 * abs(k), "atol": 1e-4 + 0.5 * abs(k)}
    for axis in range(6):
        moved = []
        for sign in (1, -1):
            delta = sign * step * np.eye(6)[axis]
            turn = Rotation.from_rotvec(delta[:3]).as_matrix()
            shifted = translations @ turn.T + delta[3:]
            moved.append(seen_by_hand(pixels, inverse_depth, change, turn @ rotations, shifted))
        np.testing.assert_allclose(observed.pose[:, axis], (moved[0] - moved[1]) / (2 * step), **tolerance)
    moved = [seen_by_hand(pixels, inverse_depth + s * step, change, rotations, translations) for s in (1, -1)]
    np.testing.assert_allclose(observed.inverse_depth, (moved[0] - moved[1]) / (2 * step), **tolerance)


@pytest.mark.parametrize("k", LENSES)
def test_jacobians_by_camera(k: float) -> None:
    pixels, inverse_depth, change, rotations, translations = some_views(3, k)
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    observed, step = observe(pixels, inverse_depth, camera, rotations, translations), 1e-6
    for axis, unit in enumerate((1, WIDTH, HEIGHT, 1, 1)):
        moved = [
            seen_by_hand(pixels, inverse_depth, change + s * step * np.eye(5)[axis], rotations, translations)
            for s in (1, -1)
        ]
        expected = (moved[0] - moved[1]) / (2 * step)
        atol = 1e-3 + 0.02 * abs(k) * np.abs(expected).max()
        np.testing.assert_allclose(unit * observed.camera[:, axis], expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("k", LENSES)
def test_patch_warps_are_the_derivative_by_the_pixel(k: float) -> None:
    pixels, inverse_depth, change, rotations, translations = some_views(5, k)
    gradient = np.random.default_rng(5).normal(0, 0.01, (2, pixels.shape[1]))
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    warps = patch_warps(observe(pixels, inverse_depth, camera, rotations, translations), gradient)
    step = 1e-4
    for axis in (0, 1):
        shift = step * np.eye(2)[:, axis, None]
        moved = [
            seen_by_hand(pixels + s * shift, inverse_depth + s * step * gradient[axis], change, rotations, translations)
            for s in (1, -1)
        ]
        np.testing.assert_allclose(warps[:, :, axis], (moved[0] - moved[1]) / (2 * step), atol=1e-5 + 0.01 * abs(k))
