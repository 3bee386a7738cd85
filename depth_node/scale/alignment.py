"""Direct alignment of two images over the motion between them, by the depth of the first.

The residual of pixel x of image a with inverse depth rho is I_b(q) - (1 + alpha) I_a(x) - beta, where q is the pixel of
P = R u + t rho, with the ray u of x and T_b_a = (R, t). Intensities are compared as they are, with Huber weights, as in
Engel, Koltun and Cremers, "Direct sparse odometry" (TPAMI 2018); Gauss-Newton, coarse to fine, intrinsics known.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.scale.filter import MAD_TO_SIGMA
from depth_node.scale.pyramid import Float32, Points, Pyramid, sample

Float64 = NDArray[np.float64]

ITERATIONS = 10
SETTLED_RAD = 1e-5

_HUBER = 1.345  # standard deviations: 95 % efficiency for normal residuals
_MIN_POINTS = 60
_LEAST_SIGMA = 0.004  # of intensities 0 to 1: a step of an 8-bit image
_NEAREST = 0.1  # of P's z: a point that comes nearer than a tenth of its depth is as good as passed

# Standard deviations of alpha and beta, between neighbouring images of one camera.
_BRIGHTNESS_INFORMATION = np.diag([0.0] * 6 + [0.2**-2, 0.1**-2])


@dataclass(frozen=True)
class Alignment:
    """How image b lies to image a.

    rotation [3, 3], translation [3]: T_b_a, in the unit of depth. residual: standard deviation (robust) of what is
    left, intensities 0 to 1. inliers: share of the points within three of these. overlap: share that b shows.
    """

    rotation: Float64
    translation: Float64
    residual: float
    inliers: float
    overlap: float


def align(
    points: tuple[Points, ...], image_b: Pyramid, camera: PinholeCamera, rotation: Float64, translation: Float64
) -> Alignment | None:
    """Align image_b to the points of each level of image a; rotation [3, 3], translation [3]: T_b_a to start from.

    camera: of both images, at any resolution. None if too little of a is seen in b for an answer.
    """
    brightness = np.zeros(2)
    for level in reversed(range(len(points))):
        height, width = image_b.levels[level].shape[:2]
        at_level = camera.resized(width, height)
        for _ in range(ITERATIONS):
            terms = _linearized(image_b.levels[level], points[level], at_level, rotation, translation, brightness)
            if terms is None:
                return None
            jacobian, residual = terms
            step = _step(jacobian, residual, brightness)
            turn = rotation_matrix(step[:3])
            rotation, translation = turn @ rotation, turn @ translation + step[3:6]
            brightness = brightness + step[6:]
            if np.abs(step[:3]).max() < SETTLED_RAD:
                break
    final = _linearized(image_b.levels[0], points[0], at_level, rotation, translation, brightness)
    if final is None:
        return None
    magnitude = np.abs(final[1])
    sigma = _sigma(magnitude)
    inliers, overlap = float(np.mean(magnitude < 3 * sigma)), len(magnitude) / points[0].intensity.size
    return Alignment(rotation, translation, sigma, inliers, overlap)


def rotation_matrix(axis_angle: Float64) -> Float64:
    """exp of so(3), [3] -> [3, 3]."""
    return np.asarray(cv2.Rodrigues(axis_angle)[0], np.float64)


def _linearized(
    level: Float32, points: Points, camera: PinholeCamera, rotation: Float64, translation: Float64, brightness: Float64
) -> tuple[Float32, Float32] | None:
    """Jacobian [8, N] and residuals [N] of the points that are seen; None if these are too few.

    By omega and tau of T_b_a <- exp(omega, tau) T_b_a, that is P -> exp(omega) P + rho tau, then alpha and beta.
    """
    focal = np.array([[camera.fx], [camera.fy]], np.float32)
    center = np.array([[camera.cx], [camera.cy]], np.float32)
    rays = (points.pixels - center) / focal
    moved = rotation[:, :2].astype(np.float32) @ rays + rotation[:, 2:].astype(np.float32)
    moved += translation.astype(np.float32)[:, None] * points.inverse_depth
    in_front = moved[2] > _NEAREST
    plane = moved[:2] / np.where(in_front, moved[2], np.float32(1))
    seen, inside = sample(level, (plane * focal + center).astype(np.float32))
    inside &= in_front
    if np.count_nonzero(inside) < _MIN_POINTS:
        return None
    seen, plane, z, rho = seen[:, inside], plane[:, inside], moved[2, inside], points.inverse_depth[inside]
    before = points.intensity[inside]
    alpha, beta = (np.float32(value) for value in brightness)
    residual: Float32 = seen[0] - (1 + alpha) * before - beta
    x, y = plane
    by_x, by_y = seen[1:] * focal  # per x / z and y / z
    by_z = -(by_x * x + by_y * y)
    along = rho / z
    jacobian = np.stack(
        [
            y * by_z - by_y,
            by_x - x * by_z,
            x * by_y - y * by_x,
            by_x * along,
            by_y * along,
            by_z * along,
            -before,
            np.full_like(before, -1),
        ]
    )
    return jacobian, residual


def _step(jacobian: Float32, residual: Float32, brightness: Float64) -> Float64:
    """One step [8] of Gauss-Newton with Huber weights."""
    magnitude = np.abs(residual)
    limit = np.float32(_HUBER * _sigma(magnitude))
    weighted = jacobian * (limit / np.maximum(magnitude, limit))
    variance = _sigma(magnitude) ** 2
    information = (weighted @ jacobian.T).astype(np.float64) / variance + _BRIGHTNESS_INFORMATION
    gradient = (weighted @ residual).astype(np.float64) / variance
    gradient[6:] += np.diag(_BRIGHTNESS_INFORMATION)[6:] * brightness
    return np.asarray(np.linalg.solve(information, -gradient), np.float64)


def _sigma(magnitude: Float32) -> float:
    return max(MAD_TO_SIGMA * float(np.median(magnitude)), _LEAST_SIGMA)
