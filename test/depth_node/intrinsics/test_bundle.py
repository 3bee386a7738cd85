"""Projection, patches and bundle adjustment of learned intrinsics, against finite differences and simulated tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from depth_node.intrinsics.bundle import CameraPrior, Tracks, adjust
from depth_node.intrinsics.depth_errors import DepthErrorModel
from depth_node.intrinsics.patches import align_patches
from depth_node.intrinsics.projection import PixelCamera, observe, patch_warps, rotation_angle, rotation_matrix

Array = NDArray[np.float64]

WIDTH, HEIGHT = 640, 240
INTRINSICS = (0.7, 0.7 * WIDTH / HEIGHT, 0.51, 0.48)


def seen_by_hand(
    pixels: Array, inverse_depth: Array, change: Array, rotations: Array, translations: Array, k: float = 0.0
) -> Array:
    """[M, 2, N], written point by point from the pinhole model, lens distortion and its inverse included."""
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    seen = np.empty((len(rotations), 2, pixels.shape[1]))
    for n, (x, y) in enumerate(pixels.T):
        bent = np.array([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy])
        straight = bent.copy()
        for _ in range(50):
            straight = bent / (1 + k * (straight @ straight))
        for m, (rotation, translation) in enumerate(zip(rotations, translations, strict=True)):
            point = rotation @ np.append(straight, 1.0) + inverse_depth[n] * translation
            plane = point[:2] / point[2]
            plane = plane * (1 + k * (plane @ plane))
            seen[m, :, n] = camera.fx * plane[0] + camera.cx, camera.fy * plane[1] + camera.cy
    return seen


def some_views(seed: int, views: int = 3, points: int = 8) -> tuple[Array, Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    pixels = np.stack([rng.uniform(20, WIDTH - 20, points), rng.uniform(20, HEIGHT - 20, points)])
    rotations = Rotation.from_rotvec(rng.normal(0, 0.1, (views, 3))).as_matrix()
    change = np.array([0.1, 0.02, -0.01, 0.15])
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


def test_points_are_seen_where_the_pinhole_model_says() -> None:
    pixels, inverse_depth, change, rotations, translations = some_views(0)
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    observed = observe(pixels, inverse_depth, camera, rotations, translations)
    expected = seen_by_hand(pixels, inverse_depth, change, rotations, translations)
    np.testing.assert_allclose(observed.pixels, expected, atol=1e-9)


@pytest.mark.parametrize("seed", [1, 2])
def test_jacobians_by_pose_and_depth(seed: int) -> None:
    pixels, inverse_depth, change, rotations, translations = some_views(seed)
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    observed, step = observe(pixels, inverse_depth, camera, rotations, translations), 1e-6
    for axis in range(6):
        moved = []
        for sign in (1, -1):
            delta = sign * step * np.eye(6)[axis]
            turn = Rotation.from_rotvec(delta[:3]).as_matrix()
            shifted = translations @ turn.T + delta[3:]
            moved.append(seen_by_hand(pixels, inverse_depth, change, turn @ rotations, shifted))
        np.testing.assert_allclose(observed.pose[:, :, axis], (moved[0] - moved[1]) / (2 * step), rtol=1e-5, atol=1e-4)
    moved = [seen_by_hand(pixels, inverse_depth + s * step, change, rotations, translations) for s in (1, -1)]
    np.testing.assert_allclose(observed.inverse_depth, (moved[0] - moved[1]) / (2 * step), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("seed", [3, 4])
def test_jacobians_by_camera_and_distortion(seed: int) -> None:
    pixels, inverse_depth, change, rotations, translations = some_views(seed)
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    observed, step = observe(pixels, inverse_depth, camera, rotations, translations), 1e-6
    for axis, unit in enumerate((1, WIDTH, HEIGHT, 1)):
        moved = [
            seen_by_hand(pixels, inverse_depth, change + s * step * np.eye(4)[axis], rotations, translations)
            for s in (1, -1)
        ]
        expected = (moved[0] - moved[1]) / (2 * step)
        np.testing.assert_allclose(unit * observed.camera[:, :, axis], expected, rtol=1e-5, atol=1e-3)
    bent = [seen_by_hand(pixels, inverse_depth, change, rotations, translations, k=s * step) for s in (1, -1)]
    np.testing.assert_allclose(observed.camera[:, :, 4], (bent[0] - bent[1]) / (2 * step), rtol=1e-5, atol=1e-4)


def test_patch_warps_are_the_derivative_by_the_pixel() -> None:
    pixels, inverse_depth, change, rotations, translations = some_views(5)
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
        np.testing.assert_allclose(warps[:, :, axis], (moved[0] - moved[1]) / (2 * step), atol=1e-5)


def test_patches_are_found_to_a_few_hundredths_of_a_pixel() -> None:
    rng = np.random.default_rng(6)
    texture = gaussian_filter(rng.normal(size=(120, 160)), 1.5)
    texture = (0.5 + 0.1 * texture / texture.std()).astype(np.float32)
    warp, shift = np.array([[1.1, 0.05], [-0.04, 0.95]]), np.array([3.3, -2.6])
    y, x = np.mgrid[0:120, 0:160].astype(float)
    # The view shows at q what the reference shows at warp^-1 (q - shift), brighter and with less contrast.
    back = np.tensordot(np.linalg.inv(warp), np.stack([x - shift[0], y - shift[1]]), axes=1)
    view = (0.1 + 0.7 * map_coordinates(texture, [back[1], back[0]], order=3, mode="nearest")).astype(np.float32)
    pixels = np.stack([rng.uniform(40, 110, 40), rng.uniform(40, 80, 40)])
    true = warp @ pixels + shift[:, None]
    begin = true + rng.uniform(-0.7, 0.7, true.shape)
    begin[:, 0] = np.nan
    warps = np.broadcast_to(warp[None, :, :, None], (1, 2, 2, 40))
    found = align_patches(texture, [view], pixels, begin[None], warps, iterations=6)[0]
    assert np.isnan(found[:, 0]).all()
    held = np.isfinite(found[0])
    assert held.sum() >= 35
    assert np.median(np.abs(found - true)[:, held]) < 0.03


def test_a_patch_of_something_else_is_refused() -> None:
    rng = np.random.default_rng(7)
    images = [gaussian_filter(rng.normal(size=(80, 80)), 1.5).astype(np.float32) * 0.3 + 0.5 for _ in range(2)]
    pixels = np.array([[30.0, 40.0, 50.0], [30.0, 40.0, 50.0]])
    warps = np.broadcast_to(np.eye(2)[None, :, :, None], (1, 2, 2, 3))
    assert np.isnan(align_patches(images[0], images[1:], pixels, pixels[None], warps)).all()


def simulated(
    seed: int, turn: float = 0.02, forward: float = 0.25, noise: float = 0.1, points: int = 150, views: int = 6
) -> Tracks:
    """Tracks of the camera INTRINSICS: it drives and turns by about `turn` radians from view to view, not evenly."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([rng.uniform(10, WIDTH - 10, points), rng.uniform(10, HEIGHT - 10, points)])
    true_depth = rng.uniform(0.2, 2.5, points)
    turns = np.cumsum(turn * rng.normal([0.3, 1.0, 0.1], 0.5, (views, 3)), axis=0)
    ways = np.cumsum(forward * rng.normal([0.0, 0.0, -0.3], 0.03, (views, 3)), axis=0)
    seen = seen_by_hand(pixels, true_depth, np.zeros(4), Rotation.from_rotvec(turns).as_matrix(), ways)
    seen = seen + rng.normal(0, noise, seen.shape)
    outside = (seen[:, 0] < 0) | (seen[:, 0] > WIDTH) | (seen[:, 1] < 0) | (seen[:, 1] > HEIGHT)
    seen = np.where(outside[:, None], np.nan, seen)
    across = pixels[0] / WIDTH - 0.5
    predicted = true_depth * (1 + 0.2 * across + rng.normal(0, 0.1, points))
    return Tracks(pixels, seen, predicted / np.median(predicted), WIDTH, HEIGHT)


SIGMAS = np.array([0.3, 0.01, 0.02, 1e-6])
PRIOR = CameraPrior(np.zeros(4), np.diag(SIGMAS**-2))


def longer(factor: float) -> tuple[float, float, float, float]:
    fx, fy, cx, cy = INTRINSICS
    return fx * factor, fy * factor, cx, cy


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
def test_bundle_adjustment_finds_the_focal_length(factor: float) -> None:
    for seed in range(3):
        rough = adjust(simulated(seed), longer(factor), PRIOR, DepthErrorModel())
        assert rough is not None
        found = adjust(simulated(seed), longer(factor), PRIOR, DepthErrorModel(), start=rough, iterations=12)
        assert found is not None
        assert factor * np.exp(found.camera[0]) == pytest.approx(1, abs=0.04)
        assert found.noise < 0.15
        assert found.inliers > 0.9


def test_windows_claim_what_they_know() -> None:
    """Squares of deviations from the truth over the stated variance: chi-squared with a degree of freedom each."""
    squares = []
    for seed in range(30):
        tracks = simulated(seed)
        rough = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel())
        found = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel(), start=rough)
        assert found is not None
        information = found.information[:4, :4] + np.diag([0.0, 1e6, 1e6, 1e12])  # the rest is known
        squares.append((np.linalg.solve(information, found.vector[:4])[0]) ** 2 / np.linalg.inv(information)[0, 0])
    # The mean of 30 is within 0.56 .. 1.57 in 95 of 100 cases; Gauss-Newton's covariance is not exact.
    assert 0.4 < np.mean(squares) < 1.8


def test_pure_translation_says_nothing_of_the_focal_length() -> None:
    still = adjust(simulated(1, turn=0.0), INTRINSICS, PRIOR, DepthErrorModel())
    turning = adjust(simulated(1), INTRINSICS, PRIOR, DepthErrorModel())
    assert still is not None
    assert turning is not None
    assert turning.information[0, 0] > 50 * still.information[0, 0]
    posterior = np.linalg.inv(still.information[:4, :4] + PRIOR.information)
    assert np.sqrt(posterior[0, 0]) > 0.5 * 0.3


def test_stretched_pixels_are_found() -> None:
    """fx 8 % longer and fy 8 % shorter than assumed: nothing of it in f, all of it in their ratio."""
    fx, fy, cx, cy = INTRINSICS
    assumed = fx * np.exp(-0.08), fy * np.exp(0.08), cx, cy
    free = CameraPrior(np.zeros(4), np.diag(np.array([0.3, 0.01, 0.02, 0.15]) ** -2))
    for seed in range(3):
        tracks = simulated(seed)
        rough = adjust(tracks, assumed, free, DepthErrorModel())
        found = adjust(tracks, assumed, free, DepthErrorModel(), start=rough)
        assert found is not None
        assert found.camera[0] == pytest.approx(0, abs=0.04)
        assert found.camera[3] == pytest.approx(0.16, abs=0.04)
        square = adjust(tracks, assumed, PRIOR, DepthErrorModel(), start=rough)
        assert square is not None
        assert square.camera[3] == pytest.approx(0, abs=1e-4)


def test_outliers_do_not_matter() -> None:
    tracks = simulated(2)
    wrong = tracks.seen.copy()
    wrong[:, :, :25] += np.random.default_rng(2).uniform(-20, 20, wrong[:, :, :25].shape)
    rough = adjust(replace(tracks, seen=wrong), INTRINSICS, PRIOR, DepthErrorModel())
    found = adjust(replace(tracks, seen=wrong), INTRINSICS, PRIOR, DepthErrorModel(), start=rough)
    assert found is not None
    assert found.camera[0] == pytest.approx(0, abs=0.04)
    assert found.inliers < 0.9


def test_too_few_points_are_no_window() -> None:
    assert adjust(simulated(0, points=30), INTRINSICS, PRIOR, DepthErrorModel()) is None


def test_points_of_unknown_depth_are_left_out() -> None:
    tracks = simulated(0)
    unknown = tracks.inverse_depth.copy()
    unknown[:20] = np.nan
    found = adjust(replace(tracks, inverse_depth=unknown), INTRINSICS, PRIOR, DepthErrorModel())
    assert found is not None
    assert np.isnan(found.inverse_depth[:20]).all()
    assert np.isfinite(found.inverse_depth[20:]).sum() > 60
