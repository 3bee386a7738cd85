"""Direct alignment of two images over pose, intrinsics, brightness and smooth depth errors: Gauss-Newton, coarse to fine.

The residual of pixel x of image a is I_b(q(x)) - (1 + alpha) I_a(x) - beta with q from `warp` and log rho' = log rho + sum_k b_k phi_k.
As in Engel, Koltun and Cremers (2018), "Direct sparse odometry", intensities are compared as they are, with Huber weights;
other than there, inverse depth is a network's, and what is wrong with it is described by a few smooth modes b with a prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.views import Points, View, depth_basis_sigma, sample
from depth_node.intrinsics.warp import Float, Float64, Pinhole, intensity_jacobian, rotation_matrix, warp

POSE, BRIGHTNESS, INTRINSICS = slice(0, 6), slice(6, 8), slice(8, 11)
BASIS = 11  # first of the depth modes
HUBER = 1.345  # standard deviations: 95 % efficiency for normal residuals


@dataclass(frozen=True)
class Motion:
    """T_b_a: rotation [3, 3], and translation [3] in the unit of depth."""

    rotation: Float64
    translation: Float64

    @classmethod
    def none(cls) -> Motion:
        return cls(np.eye(3), np.zeros(3))


@dataclass(frozen=True)
class GaussianPrior:
    """Of (log f / f0, cx / W, cy / H) less their reference values. mean: [3], information: [3, 3]."""

    mean: Float64
    information: Float64


@dataclass(frozen=True)
class Alignment:
    """What a pair of images says.

    motion: T_b_a. parameters: [3], where the problem was linearised last, as in `GaussianPrior`.
    information, vector: [3 + K] squared and [3 + K], of intrinsics and depth modes together, around zero of both, with pose
        and brightness marginalised and without any prior: the pair's cost is x^T information x / 2 - vector^T x.
    sigma: of the residuals, intensities 0 to 1. inliers: share of points within three sigma. overlap: share that b shows.
    inflation: by how much correlated residuals make variances larger than independent ones would.
    """

    motion: Motion
    parameters: Float64
    modes: Float64
    information: Float64
    vector: Float64
    sigma: float
    inliers: float
    overlap: float
    inflation: float
    points: int


def align(
    view_a: View,
    view_b: View,
    points: tuple[Points, ...],
    intrinsics: tuple[float, float, float, float],
    prior: GaussianPrior,
    start: Motion,
    depth_noise: float = 0.1,
    mode_sigma: Float64 | None = None,
    iterations: tuple[int, ...] = (8, 8, 10, 12),
) -> Alignment | None:
    """Align view_b to view_a. points: of view_a, per level. intrinsics: normalised reference, to which `prior` relates.

    None if too little of a is seen in b for an answer.
    """
    sigma_modes = depth_basis_sigma() if mode_sigma is None else mode_sigma
    size = BASIS + len(sigma_modes)
    state = np.zeros(size)
    state[INTRINSICS] = prior.mean
    motion = start
    weak = np.zeros((size, size))
    weak[6:8, 6:8] = np.diag([1 / 0.2**2, 1 / 0.1**2])
    weak[INTRINSICS, INTRINSICS] = prior.information
    weak[BASIS:, BASIS:] = np.diag(1 / sigma_modes**2)
    center = np.zeros(size)
    center[INTRINSICS] = prior.mean
    last = None
    for level in reversed(range(len(points))):
        fine = level <= 1
        free = np.arange(size) if fine else np.arange(8)
        sigma = None
        for _ in range(iterations[min(level, len(iterations) - 1)]):
            system = _linearize(view_b.levels[level], points[level], intrinsics, motion, state, depth_noise, sigma)
            if system is None:
                return None
            sigma = system.sigma
            hessian = system.hessian + weak
            gradient = system.gradient + weak @ (state - center)
            step = np.zeros(size)
            step[free] = -np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
            motion = _moved(motion, step[POSE])
            state[6:] += step[6:]
            last = system
            if np.abs(step[:3]).max() < 1e-5 and abs(step[8]) < 1e-4:
                break
    if last is None:
        return None
    system = _linearize(view_b.levels[0], points[0], intrinsics, motion, state, depth_noise, None, regions=True)
    if system is None:
        return None
    return _summary(system, motion, state, weak)


@dataclass
class _System:
    hessian: Float64
    gradient: Float64
    sigma: float
    inliers: float
    overlap: float
    points: int
    scores: Float64 | None
    squares: Float64 | None


def _linearize(
    level: NDArray[np.float32],
    points: Points,
    intrinsics: tuple[float, float, float, float],
    motion: Motion,
    state: Float64,
    depth_noise: float,
    sigma: float | None,
    regions: bool = False,
) -> _System | None:
    height, width = level.shape[:2]
    fx, fy, cx, cy = intrinsics
    scale = np.exp(state[8])
    camera = Pinhole.of((fx * scale, fy * scale, cx + state[9], cy + state[10]), width, height)
    inverse = points.inverse_depth * np.exp(state[BASIS:].astype(np.float32) @ points.basis)
    warped = warp(points.pixels, inverse, camera, motion.rotation, motion.translation)
    seen, inside = sample(level, warped.pixels)
    inside &= warped.points[2] > 0.1
    count = int(inside.sum())
    if count < 60:
        return None
    residual = seen[0] - np.float32(1 + state[6]) * points.intensity - np.float32(state[7])
    pose, camera_jacobian, depth_jacobian = intensity_jacobian(
        warped, seen[1:], inverse, camera, motion.rotation, motion.translation
    )
    jacobian = np.empty((len(state), len(residual)), np.float32)
    jacobian[POSE] = pose
    jacobian[6] = -points.intensity
    jacobian[7] = -1
    jacobian[8] = camera_jacobian[0]
    jacobian[9] = camera_jacobian[1] * width
    jacobian[10] = camera_jacobian[2] * height
    jacobian[BASIS:] = depth_jacobian * points.basis
    from_depth = (depth_noise * depth_jacobian) ** 2
    if sigma is None:
        sigma = 1.4826 * float(np.median(np.abs(residual[inside])))
    sigma = max(sigma, 0.004)
    variance = sigma**2 + from_depth
    normalized = residual / np.sqrt(variance)
    magnitude = np.abs(normalized)
    weight = np.where(magnitude <= HUBER, 1, HUBER / np.maximum(magnitude, 1e-6)) / variance * inside
    weighted = jacobian * weight.astype(np.float32)
    weighted[:, ~inside] = 0
    clean = np.where(inside, jacobian, 0)
    hessian = (weighted @ clean.T).astype(np.float64)
    gradient = (weighted @ np.where(inside, residual, 0)).astype(np.float64)
    new_sigma = 1.4826 * float(np.median(np.abs(residual[inside])))
    system = _System(
        hessian,
        gradient,
        new_sigma,
        float(np.mean(magnitude[inside] < 3)),
        count / len(residual),
        count,
        None,
        None,
    )
    if regions:
        each = (weighted * np.where(inside, residual, 0)).astype(np.float64)
        order = int(points.region.max()) + 1
        system.scores = np.stack([np.bincount(points.region, row, order) for row in each], axis=1)
        system.squares = each @ each.T
    return system


def _moved(motion: Motion, step: Float64) -> Motion:
    rotation = rotation_matrix(step[:3])
    return Motion(rotation @ motion.rotation, rotation @ motion.translation + step[3:])


def _summary(system: _System, motion: Motion, state: Float64, weak: Float64) -> Alignment:
    hessian, gradient = system.hessian.copy(), system.gradient
    hessian[6:8, 6:8] += weak[6:8, 6:8]
    gradient = gradient.copy()
    gradient[6:8] += weak[6:8, 6:8] @ state[6:8]
    # Pose and brightness out: Schur complement.
    inner = np.linalg.solve(hessian[:8, :8] + 1e-9 * np.eye(8), hessian[:8, 8:])
    information = hessian[8:, 8:] - hessian[:8, 8:].T @ inner
    slope = gradient[8:] - inner.T @ gradient[:8]
    vector = information @ state[8:] - slope
    inflation = _inflation(system, hessian, weak)
    return Alignment(
        motion,
        state[INTRINSICS].copy(),
        state[BASIS:].copy(),
        information / inflation,
        vector / inflation,
        system.sigma,
        system.inliers,
        system.overlap,
        inflation,
        system.points,
    )


def _inflation(system: _System, hessian: Float64, weak: Float64) -> float:
    """Variance of the score of log f with residuals correlated within regions, over that of independent ones."""
    assert system.scores is not None and system.squares is not None
    others = np.r_[0:8, 9 : len(hessian)]
    regular = hessian + weak
    solution = np.linalg.solve(regular[np.ix_(others, others)], regular[others, 8])
    direction = np.zeros(len(hessian))
    direction[8], direction[others] = 1, -solution
    clustered = np.sum((system.scores @ direction) ** 2)
    independent = direction @ system.squares @ direction
    return float(max(1.0, clustered / independent)) if independent > 0 else 1.0
