"""Where pixels of a reference view with known inverse depth are seen in others, and all derivatives.

A pixel (x, y) has the ray u = ((x - cx) / fx, (y - cy) / fy, 1). With inverse depth rho and T_view_reference = (R, t)
it is seen at (fx a + cx, fy b + cy), (a, b) = (Px, Py) / Pz, P = R u + rho t: the point over its depth, so that points
at infinity need no exception. M views, N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class PixelCamera:
    """Intrinsics in pixels; pixel centres are integers."""

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of(cls, intrinsics: tuple[float, float, float, float], change: Float64, width: int, height: int) -> PixelCamera:
        """From (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H) and changes as `changed` takes them."""
        fx, fy, cx, cy = changed(intrinsics, change)
        return cls(fx * width, fy * height, cx * width - 0.5, cy * height - 0.5)


def changed(intrinsics: tuple[float, float, float, float], change: Float64) -> tuple[float, float, float, float]:
    """Normalised intrinsics after changes [4] of (log f, cx/W, cy/H, log fx/fy); f: geometric mean of fx and fy."""
    fx, fy, cx, cy = intrinsics
    log_f, right, down, log_aspect = (float(value) for value in change)
    return fx * math.exp(log_f + log_aspect / 2), fy * math.exp(log_f - log_aspect / 2), cx + right, cy + down


@dataclass(frozen=True)
class Observation:
    """pixels: [M, 2, N]. in_front: [M, N]. Derivatives of the pixels, x and y along axis 1:

    pose: [M, 2, 6, N] by (omega, tau) of T <- exp(omega, tau) T, that is P -> exp(omega) P + rho tau;
    camera: [M, 2, 5, N] by log f (fx and fy alike), cx, cy (pixels), log fx/fy (with the same f), and by k at zero, of
        all views at once, for lenses that distort rays radially by 1 + k (x^2 + y^2);
    inverse_depth: [M, 2, N].
    """

    pixels: Float64
    in_front: NDArray[np.bool_]
    pose: Float64
    camera: Float64
    inverse_depth: Float64


def rotation_matrix(axis_angle: Float64) -> Float64:
    """exp of so(3): [..., 3] -> [..., 3, 3], exact at zero (Rodrigues)."""
    x, y, z = np.moveaxis(np.asarray(axis_angle, np.float64), -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*np.shape(x), 3, 3)
    angle = np.sqrt(x * x + y * y + z * z)[..., None, None]
    half = np.sinc(angle / (2 * np.pi))  # sin(angle / 2) / (angle / 2)
    rotation: Float64 = np.eye(3) + np.sinc(angle / np.pi) * skew + 0.5 * half**2 * (skew @ skew)
    return rotation


def rotation_angle(rotation: Float64) -> Float64:
    """Radians that rotations [..., 3, 3] turn by; exact for small ones, where the trace is not."""
    r = rotation
    twice_sine = np.sqrt(
        (r[..., 2, 1] - r[..., 1, 2]) ** 2 + (r[..., 0, 2] - r[..., 2, 0]) ** 2 + (r[..., 1, 0] - r[..., 0, 1]) ** 2
    )
    angle: Float64 = np.arctan2(twice_sine, np.trace(r, axis1=-2, axis2=-1) - 1)
    return angle


def observe(
    pixels: Float64, inverse_depth: Float64, camera: PixelCamera, rotations: Float64, translations: Float64
) -> Observation:
    """Pixels [2, N] of inverse depth [N], in views with rotations [M, 3, 3], translations [M, 3]: T_view_reference."""
    views, count = len(rotations), pixels.shape[1]
    focal, center = np.array([[camera.fx], [camera.fy]]), np.array([[camera.cx], [camera.cy]])
    rays = (pixels - center) / focal
    points = rotations @ np.concatenate([rays, np.ones((1, count))]) + translations[:, :, None] * inverse_depth
    in_front = points[:, 2] > 0.1
    inverse_z = 1 / np.where(in_front, points[:, 2], 1.0)
    plane = points[:, :2] * inverse_z[:, None]
    a, b = plane[:, 0], plane[:, 1]
    along = inverse_depth * inverse_z

    pose = np.zeros((views, 2, 6, count))
    pose[:, 0, 0] = -a * b
    pose[:, 0, 1] = 1 + a * a
    pose[:, 0, 2] = -b
    pose[:, 1, 0] = -1 - b * b
    pose[:, 1, 1] = a * b
    pose[:, 1, 2] = a
    pose[:, 0, 3] = pose[:, 1, 4] = along
    pose[:, 0, 5] = -a * along
    pose[:, 1, 5] = -b * along
    pose *= focal[:, None]

    def by_point(direction: Float64) -> Float64:
        """Derivative of the pixels [M, 2, N] for P moving along direction [M, 3]."""
        moved: Float64 = (direction[:, :2, None] - plane * direction[:, 2, None, None]) * inverse_z[:, None] * focal
        return moved

    # The rays change with the camera, too: log f shrinks them, cx and cy shift them, log fx/fy stretches, k bends them.
    by_ray = by_point(rotations[:, :, 0]), by_point(rotations[:, :, 1])
    radius, seen_radius = np.sum(rays**2, axis=0), np.sum(plane**2, axis=1, keepdims=True)
    along_ray = by_ray[0] * rays[0] + by_ray[1] * rays[1]
    intrinsics = np.empty((views, 2, 5, count))
    intrinsics[:, :, 0] = focal * plane - along_ray
    intrinsics[:, :, 1] = np.array([[1.0], [0.0]]) - by_ray[0] / camera.fx
    intrinsics[:, :, 2] = np.array([[0.0], [1.0]]) - by_ray[1] / camera.fy
    stretch = np.array([[0.5], [-0.5]])
    intrinsics[:, :, 3] = stretch * focal * plane - 0.5 * (by_ray[0] * rays[0] - by_ray[1] * rays[1])
    intrinsics[:, :, 4] = focal * plane * seen_radius - along_ray * radius
    return Observation(focal * plane + center, in_front, pose, intrinsics, by_point(translations))


def patch_warps(observed: Observation, inverse_depth_gradient: Float64) -> Float64:
    """Derivative [M, 2, 2, N] of where points are seen by their pixel, for inverse depth with a gradient [2, N] there.

    A shift of the pixel turns its ray as the opposite shift of the principal point does, without what that does to the
    view.
    """
    warps = np.eye(2)[:, :, None] - observed.camera[:, :, 1:3]
    warps += observed.inverse_depth[:, :, None] * inverse_depth_gradient
    return warps
