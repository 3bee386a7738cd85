"""Normal equations with points and shared errors eliminated, against the dense ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.normal_equations import DepthDeviation, NormalEquations, normal_equations
from depth_node.intrinsics.projection import CAMERA, POSE
from depth_node.intrinsics.tracks import SharedNoise, TrackWeights, Whitening

Array = NDArray[np.float64]

VIEWS, POINTS, MODES, SHARED, MODE_INFORMATION = 3, 9, 2, 0.4, 2.5


def problem(seed: int) -> tuple[NormalEquations, Array, Array]:
    """The equations, and the dense Hessian and gradient of camera, poses, modes and points."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(VIEWS, POINTS, 2, 2)) + 2 * np.eye(2)
    information = np.moveaxis(factors @ factors.transpose(0, 1, 3, 2), 1, -1)
    is_seen = np.ones((VIEWS, POINTS), bool)
    is_seen[0, 3] = False
    jacobian, residuals = rng.normal(size=(VIEWS, CAMERA + POSE + 1, 2, POINTS)), rng.normal(size=(VIEWS, 2, POINTS))
    depth = DepthDeviation(
        rng.normal(size=POINTS),
        rng.uniform(1, 3, POINTS),
        rng.normal(size=(MODES, POINTS)),
        rng.normal(size=MODES),
        MODE_INFORMATION,
    )
    whitening = Whitening.of(information)
    weights = TrackWeights.of(0 * residuals, whitening, is_seen, redescending=False)
    noise = SharedNoise.of(whitening, weights, is_seen, SHARED)
    found = normal_equations(noise.own.applied(jacobian), noise.own.applied(residuals), noise, depth)

    size = CAMERA + POSE * VIEWS + MODES
    hessian, gradient = np.zeros((size + POINTS, size + POINTS)), np.zeros(size + POINTS)
    for point in range(POINTS):
        views = np.flatnonzero(is_seen[:, point])
        rows, own = np.zeros((2 * len(views), size + POINTS)), np.zeros((2 * len(views), 2 * len(views)))
        for number, view in enumerate(views):
            place = slice(2 * number, 2 * number + 2)
            rows[place, :CAMERA] = jacobian[view, :CAMERA, :, point].T
            pose = CAMERA + POSE * view
            rows[place, pose : pose + POSE] = jacobian[view, CAMERA : CAMERA + POSE, :, point].T
            rows[place, size + point] = jacobian[view, -1, :, point]
            own[place, place] = np.linalg.inv(information[view, :, :, point])
        offset = np.linalg.inv(information[views, :, :, point].mean(axis=0))
        every = np.tile(np.eye(2), (len(views), 1))
        weight = np.linalg.inv((1 - SHARED) * own + SHARED * every @ offset @ every.T)
        hessian += rows.T @ weight @ rows
        gradient += rows.T @ weight @ residuals[views, :, point].ravel()
        # deviation = inverse depth - predicted - modes^T amplitudes
        by_depth = np.zeros(size + POINTS)
        by_depth[size - MODES : size], by_depth[size + point] = -depth.modes[:, point], 1
        hessian += depth.information[point] * np.outer(by_depth, by_depth)
        gradient += depth.information[point] * depth.deviation[point] * by_depth
    modes = slice(size - MODES, size)
    hessian[modes, modes] += MODE_INFORMATION * np.eye(MODES)
    gradient[modes] += MODE_INFORMATION * depth.amplitudes
    return found, hessian, gradient


def test_the_step_is_that_of_the_dense_equations() -> None:
    for seed in range(3):
        found, hessian, gradient = problem(seed)
        expected = -np.linalg.solve(hessian, gradient)
        change = -np.linalg.solve(found.hessian, found.gradient)
        np.testing.assert_allclose(change, expected[: len(change)], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.point_step(change), expected[len(change) :], rtol=1e-6, atol=1e-9)


def test_the_camera_alone_has_the_covariance_that_it_has_in_all() -> None:
    found, hessian, gradient = problem(5)
    of_camera, slope = found.of_camera()
    np.testing.assert_allclose(np.linalg.inv(of_camera), np.linalg.inv(hessian)[:CAMERA, :CAMERA], rtol=1e-5)
    expected = np.linalg.solve(hessian, gradient)[:CAMERA]
    np.testing.assert_allclose(np.linalg.solve(of_camera, slope), expected, rtol=1e-5)


def test_the_modes_alone_have_the_covariance_that_they_have_with_the_camera_held() -> None:
    found, hessian, gradient = problem(6)
    of_modes, slope = found.of_modes(MODES)
    held, modes = slice(CAMERA, None), slice(POSE * VIEWS, POSE * VIEWS + MODES)
    expected = np.linalg.inv(hessian[held, held])[modes, modes]
    np.testing.assert_allclose(np.linalg.inv(of_modes), expected, rtol=1e-5)
    step = np.linalg.solve(hessian[held, held], gradient[held])[modes]
    np.testing.assert_allclose(np.linalg.solve(of_modes, slope), step, rtol=1e-5)
