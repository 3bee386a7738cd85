"""Cameras that move while they read their rows, against exact motion."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from depth_node.intrinsics.bundle import CameraPrior, adjust, solve
from depth_node.intrinsics.depth_errors import DepthErrorModel
from depth_node.intrinsics.projection import PixelCamera, observe
from depth_node.intrinsics.rolling_shutter import Velocities, by_readout
from depth_node.intrinsics.tracks import Tracks
from pinhole_by_hand import HEIGHT, INTRINSICS, WIDTH, Array

SECONDS = -np.array([0.1, 0.2, 0.32, 0.4, 0.5, 0.6])  # of views, before the reference: one was dropped
CAMERA = PixelCamera.of(INTRINSICS, np.zeros(6), WIDTH, HEIGHT)


def pose_at(time: float, seed: int) -> tuple[Array, Array]:
    """World to camera, R and t: it goes ahead at 2 units per second, and sways as slow sines."""
    rng = np.random.default_rng(seed)
    frequencies, phases = rng.uniform(0.3, 0.8, 3), rng.uniform(0, 2 * np.pi, 3)
    turn = np.array([0.06, 0.12, 0.05]) * np.sin(2 * np.pi * frequencies * time + phases)
    center = np.array([0.1 * np.sin(2 * time), 0.0, 2.0 * time])
    rotation = Rotation.from_rotvec(turn).as_matrix()
    return rotation, -rotation @ center


def relative_poses(seed: int) -> tuple[Array, Array]:
    """T_view_reference of all views, each at its own time."""
    to_reference, shift = pose_at(0.0, seed)
    poses = [pose_at(time, seed) for time in SECONDS]
    rotations = np.stack([rotation @ to_reference.T for rotation, _ in poses])
    translations = np.stack([t - rotation @ to_reference.T @ shift for rotation, t in poses])
    return rotations, translations


def seen_by_rows(pixels: Array, inverse_depth: Array, readout: float, seed: int) -> Array:
    """[M, 2, N]: every row at its own time, in the reference and in the views; the views' rows by iteration."""
    seen = np.empty((len(SECONDS), 2, pixels.shape[1]))
    for n, (x, y) in enumerate(pixels.T):
        rotation, shift = pose_at(readout * ((y + 0.5) / HEIGHT - 0.5), seed)
        ray = np.array([(x - CAMERA.cx) / CAMERA.fx, (y - CAMERA.cy) / CAMERA.fy, 1.0])
        point = rotation.T @ (ray / inverse_depth[n] - shift)
        for m, time in enumerate(SECONDS):
            row = HEIGHT / 2
            for _ in range(20):
                rotation, shift = pose_at(time + readout * ((row + 0.5) / HEIGHT - 0.5), seed)
                there = rotation @ point + shift
                row = CAMERA.fy * there[1] / there[2] + CAMERA.cy
            seen[m, :, n] = CAMERA.fx * there[0] / there[2] + CAMERA.cx, row
    return seen


def some_points(seed: int, count: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    pixels = np.stack([rng.uniform(10, WIDTH - 10, count), rng.uniform(10, HEIGHT - 10, count)])
    return pixels, rng.uniform(0.05, 0.4, count)


def test_velocities_of_a_motion_that_is_quadratic_in_time_are_exact() -> None:
    times = np.concatenate([[0.0], SECONDS])
    angles, ways = 0.3 * times + 0.2 * times**2, 1.5 * times - 0.4 * times**2
    rotations = Rotation.from_rotvec(np.outer(angles, [0, 0, 1.0])).as_matrix()[1:]
    translations = np.outer(ways, [0, 0, 1.0])[1:]  # along the axis, which it does not turn
    found = Velocities.of(rotations, translations, SECONDS)
    expected = np.zeros((len(times), 6))
    expected[:, 2], expected[:, 5] = 0.3 + 0.4 * times, 1.5 - 0.8 * times
    np.testing.assert_allclose(found.reference, expected[0], atol=1e-9)
    np.testing.assert_allclose(found.views, expected[1:], atol=1e-9)


def test_a_single_view_has_the_mean_velocity() -> None:
    rotation = Rotation.from_rotvec([0.0, -0.02, 0.0]).as_matrix()[None]
    found = Velocities.of(rotation, np.zeros((1, 3)), np.array([-0.1]))
    np.testing.assert_allclose(found.reference, [0, 0.2, 0, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(found.views, [[0, 0.2, 0, 0, 0, 0]], atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_derivative_by_the_readout(seed: int) -> None:
    """Against differences of exact motion; velocities between views are not exact."""
    pixels, inverse_depth = some_points(seed, 40)
    rotations, translations = relative_poses(seed)
    observed = observe(pixels, inverse_depth, CAMERA, rotations, translations)
    late, late_in_reference = (observed.pixels[:, 1] + 0.5) / HEIGHT - 0.5, (pixels[1] + 0.5) / HEIGHT - 0.5
    velocities = Velocities.of(rotations, translations, SECONDS)
    found = by_readout(observed.pose, rotations, translations, velocities, late, late_in_reference)
    step = 1e-5
    moved = [seen_by_rows(pixels, inverse_depth, sign * step, seed) for sign in (1, -1)]
    expected = (moved[0] - moved[1]) / (2 * step)
    inside = np.abs(late) < 0.5
    found, expected = found.transpose(0, 2, 1)[inside], expected.transpose(0, 2, 1)[inside]
    scale = np.abs(expected).max()
    assert scale > 20  # pixels per second
    assert np.abs(found - expected).max() < 0.1 * scale
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.04 * scale


@pytest.mark.parametrize("readout", [0.03, -0.015, 0.0])
def test_windows_find_the_readout_and_the_focal_length_with_it(readout: float) -> None:
    sigmas = np.array([0.3, 0.005, 0.01, 1e-6, 1e-6, 0.02])
    prior = CameraPrior(np.zeros(6), np.diag(sigmas**-2))
    longer = (INTRINSICS[0] * 1.15, INTRINSICS[1] * 1.15, *INTRINSICS[2:])
    found, without = [], []
    for seed in range(4):
        pixels, inverse_depth = some_points(seed, 120)
        seen = seen_by_rows(pixels, inverse_depth, readout, seed)
        seen += np.random.default_rng(seed).normal(0, 0.05, seen.shape)
        inside = (seen[:, 0] > 0) & (seen[:, 0] < WIDTH) & (seen[:, 1] > 0) & (seen[:, 1] < HEIGHT)
        seen = np.where(inside[:, None], seen, np.nan)
        information = np.broadcast_to(np.eye(2)[:, :, None] / 0.05**2, (len(SECONDS), 2, 2, 120))
        depth = inverse_depth / np.median(inverse_depth)
        tracks = Tracks(pixels, seen, information, depth, 0.0, SECONDS, WIDTH, HEIGHT)
        for estimates, free in ((found, prior), (without, global_shutter(prior))):
            rough = solve(tracks, longer, free, DepthErrorModel())
            adjustment = adjust(tracks, longer, free, DepthErrorModel(), rough)
            assert adjustment is not None
            estimates.append((1.15 * np.exp(adjustment.camera[0]) - 1, adjustment.camera[5]))
    errors, readouts = np.transpose(found)
    np.testing.assert_allclose(readouts, readout, atol=0.005)
    assert np.mean(readouts) == pytest.approx(readout, abs=0.002)
    assert np.abs(errors).max() < 0.03
    if readout == 0.03:
        assert np.abs(np.transpose(without)[0]).max() > 2 * np.abs(errors).max()


def global_shutter(prior: CameraPrior) -> CameraPrior:
    information = prior.information.copy()
    information[5, 5] = 1e12
    return CameraPrior(prior.mean, information)
