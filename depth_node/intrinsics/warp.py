"""Where a pixel of image a with known inverse depth lies in image b, and how the intensity there changes.

A pixel x of a has the ray u = ((x - cx) / fx, (y - cy) / fy, 1). With inverse depth rho, T_b_a = (R, t) and P = R u + t rho, it
lies in b at q = (fx Px/Pz + cx, fy Py/Pz + cy). P is the point divided by its depth, so that points at infinity need no exception.
All arrays are stored axis first, [D, N] for N pixels, float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics in pixels of one pyramid level; pixel centres are integers."""

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of(cls, intrinsics: Float64 | tuple[float, ...], width: int, height: int) -> Pinhole:
        """From (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H)."""
        fx, fy, cx, cy = (float(value) for value in intrinsics)
        return cls(fx * width, fy * height, cx * width - 0.5, cy * height - 0.5)


@dataclass(frozen=True)
class Warp:
    """Pixels of image a in image b. rays: [2, N] (x/z, y/z) in a; points P: [3, N]; pixels q: [2, N]."""

    rays: Float
    points: Float
    pixels: Float


def rotation_matrix(axis_angle: Float64) -> Float64:
    """exp of so(3) [3, 3], exact at zero (Rodrigues)."""
    x, y, z = axis_angle
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = float(np.linalg.norm(axis_angle))
    if angle < 1e-4:  # Taylor series; the next term is below 1e-17
        a, b = 1 - angle**2 / 6, 0.5 - angle**2 / 24
    else:
        a, b = np.sin(angle) / angle, (1 - np.cos(angle)) / angle**2
    return np.eye(3) + a * skew + b * (skew @ skew)


def rotation_angle(rotation: Float64) -> float:
    """Radians that a rotation [3, 3] turns by; exact for small ones, where the trace is not."""
    sine = 0.5 * np.linalg.norm(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return float(np.arctan2(sine, 0.5 * (np.trace(rotation) - 1)))


def warp(pixels: Float, inverse_depth: Float, camera: Pinhole, rotation: Float64, translation: Float64) -> Warp:
    """Pixels [2, N] of image a with inverse depth [N] (1/unit of `translation`), seen in b.

    rotation [3, 3], translation [3]: T_b_a. Points behind the camera give pixels that are not finite or make no sense:
    see `Warp.points`.
    """
    center = np.array([[camera.cx], [camera.cy]], pixels.dtype)
    focal = np.array([[camera.fx], [camera.fy]], pixels.dtype)
    rays = (pixels - center) / focal
    points = rotation[:, :2].astype(pixels.dtype) @ rays
    points += rotation[:, 2:].astype(pixels.dtype)
    points += translation.astype(pixels.dtype)[:, None] * inverse_depth
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = points[:2] / points[2] * focal + center
    return Warp(rays, points, seen)


def intensity_jacobian(
    warped: Warp,
    gradient: Float,
    inverse_depth: Float,
    camera: Pinhole,
    rotation: Float64,
    translation: Float64,
) -> tuple[Float, Float, Float]:
    """Derivatives of the intensity seen in b, for an image gradient [2, N] there (per pixel).

    Returns
        pose [6, N]: by rotation and translation (omega, tau) of T_b_a <- exp(omega, tau) T_b_a, that is
            P -> exp(omega) P + tau rho;
        intrinsics [3, N]: by log f (fx and fy alike), cx and cy (pixels), of both images at once;
        depth [N]: by log rho.
    """
    dtype = gradient.dtype
    matrix, shift = rotation.astype(dtype), translation.astype(dtype)
    x, y, z = warped.points
    # By P: the gradient through q = f P_xy / P_z + c.
    by_point = np.empty((3, gradient.shape[1]), dtype)
    inverse_z = 1 / z
    by_point[0] = gradient[0] * inverse_z * dtype.type(camera.fx)
    by_point[1] = gradient[1] * inverse_z * dtype.type(camera.fy)
    by_point[2] = -(by_point[0] * x + by_point[1] * y) * inverse_z
    hx, hy, hz = by_point

    pose = np.empty((6, gradient.shape[1]), dtype)
    pose[0] = y * hz - z * hy
    pose[1] = z * hx - x * hz
    pose[2] = x * hy - y * hx
    pose[3:] = by_point * inverse_depth

    # By the ray in a: u = (x - c) / f, so that d/dlog f = -u, d/dcx = -1/fx.
    by_ray = matrix[:, :2].T @ by_point
    intrinsics = np.empty((3, gradient.shape[1]), dtype)
    center = np.array([[camera.cx], [camera.cy]], dtype)
    intrinsics[0] = np.sum(gradient * (warped.pixels - center) - by_ray * warped.rays, axis=0)
    intrinsics[1] = gradient[0] - by_ray[0] / dtype.type(camera.fx)
    intrinsics[2] = gradient[1] - by_ray[1] / dtype.type(camera.fy)
    depth = (shift @ by_point) * inverse_depth
    return pose, intrinsics, depth
