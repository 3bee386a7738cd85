"""Where pixels of a reference view with known inverse depth are seen in others, and all derivatives.

A pixel (x, y) has the ray u, of which (1 + k |u|^2) u = ((x - cx) / fx, (y - cy) / fy). With inverse depth rho and
T_view_reference = (R, t) it is seen at (fx a + cx, fy b + cy), (a, b) = (1 + k |p|^2) p, p = (Px, Py) / Pz,
P = R (u, 1) + rho t: the point over its depth, so that points at infinity need no exception. M views, N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


CAMERA = 6  # log f, cx, cy, log fx/fy, k, readout
DISTORTION, READOUT = 4, 5  # of these
POSE = 6  # omega, tau
_UNDISTORTING = 4  # steps of a fixed point; exact to 1e-6 for what counts as nearly undistorted


@dataclass(frozen=True)
class PixelCamera:
    """Intrinsics in pixels; pixel centres are integers. k: of the radial distortion 1 + k (x^2 + y^2)."""

    fx: float
    fy: float
    cx: float
    cy: float
    k: float = 0.0

    @classmethod
    def of(cls, intrinsics: tuple[float, float, float, float], change: Float64, width: int, height: int) -> PixelCamera:
        """From (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H) and changes [6]: (log f, cx/W, cy/H, log fx/fy, k, readout)."""
        fx, fy, cx, cy = changed(intrinsics, change[:4])
        return cls(fx * width, fy * height, cx * width - 0.5, cy * height - 0.5, float(change[DISTORTION]))


def changed(intrinsics: tuple[float, float, float, float], change: Float64) -> tuple[float, float, float, float]:
    """Normalised intrinsics after changes [4] of (log f, cx/W, cy/H, log fx/fy); f: geometric mean of fx and fy."""
    fx, fy, cx, cy = intrinsics
    log_f, right, down, log_aspect = (float(value) for value in change)
    return fx * math.exp(log_f + log_aspect / 2), fy * math.exp(log_f - log_aspect / 2), cx + right, cy + down


@dataclass(frozen=True)
class Observation:
    """pixels: [M, 2, N]. in_front: [M, N]. jacobian: [M, 12, 2, N], derivatives of the pixels by

    camera: log f (fx and fy alike), cx, cy (pixels), log fx/fy (with the same f), and k, of all views at once; and the
        readout, zero here, see `rolling_shutter`;
    pose: (omega, tau) of T <- exp(omega, tau) T, that is P -> exp(omega) P + rho tau;
    inverse_depth.
    """

    pixels: Float64
    in_front: NDArray[np.bool_]
    jacobian: Float64

    @property
    def camera(self) -> Float64:
        """[M, 6, 2, N]."""
        return self.jacobian[:, :CAMERA]

    @property
    def pose(self) -> Float64:
        """[M, 6, 2, N]."""
        return self.jacobian[:, CAMERA : CAMERA + POSE]

    @property
    def inverse_depth(self) -> Float64:
        """[M, 2, N]."""
        return self.jacobian[:, CAMERA + POSE]


def rotation_matrix(axis_angle: Float64) -> Float64:
    """exp of so(3): [..., 3] -> [..., 3, 3], exact at zero (Rodrigues)."""
    vectors = np.asarray(axis_angle, np.float64)
    skew = np.zeros((*vectors.shape, 3))
    for (row, column), axis in (((2, 1), 0), ((0, 2), 1), ((1, 0), 2)):
        skew[..., row, column] = vectors[..., axis]
        skew[..., column, row] = -vectors[..., axis]
    angle = np.sqrt(np.sum(vectors * vectors, axis=-1))[..., None, None]
    half = np.sinc(angle / (2 * np.pi))  # sin(angle / 2) / (angle / 2)
    rotation: Float64 = np.eye(3) + np.sinc(angle / np.pi) * skew + 0.5 * half**2 * (skew @ skew)
    return rotation


def rotation_vector(rotation: Float64) -> Float64:
    """log of rotations [..., 3, 3] by less than a half turn: axis times angle [..., 3]."""
    vector: Float64 = _twice_sine(rotation) * (0.5 / np.sinc(rotation_angle(rotation) / np.pi))[..., None]
    return vector


def rotation_angle(rotation: Float64) -> Float64:
    """Radians that rotations [..., 3, 3] turn by; exact for small ones, where the trace is not."""
    twice_sine = np.sqrt(np.sum(_twice_sine(rotation) ** 2, axis=-1))
    angle: Float64 = np.arctan2(twice_sine, np.trace(rotation, axis1=-2, axis2=-1) - 1)
    return angle


def _twice_sine(rotation: Float64) -> Float64:
    """Axis times twice the sine of the angle [..., 3]."""
    r = rotation
    return np.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], axis=-1)


def observe(
    pixels: Float64, inverse_depth: Float64, camera: PixelCamera, rotations: Float64, translations: Float64
) -> Observation:
    """Pixels [2, N] of inverse depth [N], in views with rotations [M, 3, 3], translations [M, 3]: T_view_reference."""
    views, count = len(rotations), pixels.shape[1]
    focal, center = np.array([[camera.fx], [camera.fy]]), np.array([[camera.cx], [camera.cy]])
    bent = (pixels - center) / focal
    rays = bent
    for _ in range(_UNDISTORTING if camera.k else 0):
        rays = bent / (1 + camera.k * _squares(rays))
    points = rotations[:, :, :2] @ rays + rotations[:, :, 2:] + translations[:, :, None] * inverse_depth
    in_front = points[:, 2] > 0.1
    inverse_z = 1 / np.where(in_front, points[:, 2], 1.0)
    plane = points[:, :2] * inverse_z[:, None]
    a, b = plane[:, 0], plane[:, 1]
    along = inverse_depth * inverse_z

    jacobian = np.empty((views, CAMERA + POSE + 1, 2, count))
    pose = jacobian[:, CAMERA : CAMERA + POSE]
    pose[:, 1, 1] = a * b
    pose[:, 0, 0] = -pose[:, 1, 1]
    pose[:, 0, 1] = -1 - b * b
    pose[:, 1, 0] = 1 + a * a
    pose[:, 2, 0] = -b
    pose[:, 2, 1] = a
    pose[:, 3, 0] = pose[:, 4, 1] = along
    pose[:, 3, 1] = pose[:, 4, 0] = 0
    pose[:, 5] = -plane * along[:, None]
    # Of P moving along x and y of the reference, which is by the ray, and along the translation.
    directions = np.concatenate([rotations[:, :, :2], translations[:, :, None]], axis=2).transpose(0, 2, 1)
    by_point = (directions[:, :, :2, None] - plane[:, None] * directions[:, :, 2:, None]) * inverse_z[:, None, None]
    by_ray, jacobian[:, -1] = by_point[:, :2], by_point[:, 2]
    # The rays change with the camera, too: log f shrinks them, cx and cy shift them, log fx/fy stretches, k bends them.
    if camera.k:
        bending = _distortion(plane, camera.k)
        _bend(jacobian[:, CAMERA:], *bending)
        _bend(by_ray, *bending)
        xx, xy, yy = _distortion(rays, camera.k)
        by_x, by_y = by_ray[:, 0], by_ray[:, 1]
        by_ray = np.stack([yy * by_x - xy * by_y, xx * by_y - xy * by_x], axis=1) / (xx * yy - xy * xy)

    radius, seen_radius = _squares(rays), (a * a + b * b)[:, None]
    seen = plane * (1 + camera.k * seen_radius)
    across, down = by_ray[:, 0] * bent[0], by_ray[:, 1] * bent[1]
    jacobian[:, 0] = seen - across - down
    jacobian[:, 1] = (np.array([[1.0], [0.0]]) - by_ray[:, 0]) / camera.fx
    jacobian[:, 2] = (np.array([[0.0], [1.0]]) - by_ray[:, 1]) / camera.fy
    jacobian[:, 3] = np.array([[0.5], [-0.5]]) * seen - 0.5 * (across - down)
    jacobian[:, READOUT] = 0
    jacobian[:, DISTORTION] = plane * seen_radius - (by_ray[:, 0] * rays[0] + by_ray[:, 1] * rays[1]) * radius
    jacobian *= focal
    return Observation(focal * seen + center, in_front, jacobian)


def _squares(vectors: Float64) -> Float64:
    """Squared lengths [N] of [2, N]."""
    x, y = vectors
    squares: Float64 = x * x + y * y
    return squares


def _distortion(plane: Float64, k: float) -> tuple[Float64, Float64, Float64]:
    """Derivative of (1 + k |p|^2) p by p at [..., 2, N]: entries xx, xy (and yx), yy [..., N]."""
    x, y = plane[..., 0, :], plane[..., 1, :]
    across, down = k * x * x, k * y * y
    radial = 1 + across + down
    return radial + 2 * across, 2 * k * x * y, radial + 2 * down


def _bend(derivatives: Float64, xx: Float64, xy: Float64, yy: Float64) -> None:
    """In place, derivatives [M, K, 2, N] of x and y by the chain rule, through a symmetric matrix [M, N]."""
    x = xx[:, None] * derivatives[:, :, 0] + xy[:, None] * derivatives[:, :, 1]
    derivatives[:, :, 1] = xy[:, None] * derivatives[:, :, 0] + yy[:, None] * derivatives[:, :, 1]
    derivatives[:, :, 0] = x


def patch_warps(observed: Observation, inverse_depth_gradient: Float64) -> Float64:
    """Derivative [M, 2, 2, N] of where points are seen by their pixel, for inverse depth with a gradient [2, N] there.

    A shift of the pixel turns its ray as the opposite shift of the principal point does, without what that does to the
    view.
    """
    warps = np.eye(2)[:, :, None] - observed.camera[:, 1:3].transpose(0, 2, 1, 3)
    warps += observed.inverse_depth[:, :, None] * inverse_depth_gradient
    return warps
