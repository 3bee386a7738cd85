"""The road plane before a moving camera, in the unit of its motion, by aligning images of the road.

Roads have little texture, so that optical flow is smooth where it should be sharp there, and triangulated points of
them are biased. A plane m . X = 1 has the inverse depth m . r along the ray r = (x, y, 1): three numbers that all
pixels of the road together tell by least squares of the images' differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

# The road before a camera that looks ahead, in camera heights: from, to, half width.
_NEAR, _FAR, _HALF_WIDTH = 3.0, 11.0, 1.6
_MAX_SAMPLES = 6000
_CONTRAST = 6.0  # pixels; larger structures are light and shade
_COARSE, _FINE = 2.5, 0.8  # pixels that images are blurred by
_TILT = math.radians(3)  # standard deviation of the camera's pitch and roll against the road
_STEP = 0.05  # between heights that are tried, relative
_ITERATIONS = 12
MIN_CORRELATION = 0.5


@dataclass(frozen=True)
class RoadPlane:
    """The road before a camera: the points X of its optical frame (REP 103) with normal . X = -height.

    normal: float64 [3], unit, up, (0, -1, 0) for a level camera. height: of the camera, in the unit of the motion that
    it was seen by. correlation: of the images on it, 1 at best.
    """

    normal: Float64
    height: float
    correlation: float


def road_plane(
    images: Mapping[int, Gray], T_neighbour_reference: Mapping[int, Float64], K: Float64, expected: tuple[float, float]
) -> RoadPlane | None:
    """The road that the reference camera sees; None if it sees none.

    images: uint8 [H, W] by offset, the reference is 0. T_neighbour_reference: [4, 4] each, in any unit of length.
    K: [3, 3], pixels. expected: least and greatest height that is tried, in that unit.
    """
    height, width = images[0].shape
    rays, pixels = _road_rays(K, width, height)
    if rays.shape[1] < 200:
        return None
    neighbours = sorted(T_neighbour_reference)
    m = np.zeros(3)
    best = -1.0
    for blur in (_COARSE, _FINE):
        filtered = {k: _local_contrast(images[k], blur) for k in (0, *neighbours)}
        here = _sample(filtered[0], pixels)
        views = [(filtered[k], T_neighbour_reference[k]) for k in neighbours]
        if blur == _COARSE:
            few = slice(None, None, 4)
            steps = max(2, round(math.log(expected[1] / expected[0]) / _STEP))
            for tried in np.geomspace(*expected, steps):
                m_tried = np.array([0.0, 1 / tried, 0.0])
                correlation = _correlation(here[few], views, rays[:, few], K, m_tried)
                if correlation > best:
                    best, m = correlation, m_tried
        m = _aligned(here, views, rays, K, m)
    correlation = _correlation(here, views, rays, K, m)
    length = float(np.linalg.norm(m))
    if not (correlation > MIN_CORRELATION and length * expected[1] > 0.8 and length * expected[0] < 1.25):
        return None
    return RoadPlane(-m / length, 1 / length, correlation)


def _road_rays(K: Float64, width: int, height: int) -> tuple[Float64, Float32]:
    """Rays [3, N] and pixels [2, N] of the road, for a level camera."""
    x, y = np.meshgrid(np.arange(2, width - 2), np.arange(2, height - 2))
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones(x.shape)]).reshape(3, -1)
    with np.errstate(divide="ignore"):
        ahead = 1 / rays[1]
    road = np.flatnonzero((ahead > _NEAR) & (ahead < _FAR) & (np.abs(rays[0]) * ahead < _HALF_WIDTH))
    road = road[:: max(1, len(road) // _MAX_SAMPLES)]
    return rays[:, road], np.stack([x.ravel()[road], y.ravel()[road]]).astype(np.float32)


def _local_contrast(image: Gray, blur: float) -> Float32:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), blur)
    detail = smooth - cv2.GaussianBlur(smooth, (0, 0), _CONTRAST)
    spread = cv2.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * _CONTRAST))
    return np.asarray(detail / (spread + 1.0), np.float32)


def _sample(image: Float32, pixels: Float32) -> Float32:
    x, y = pixels[:, :, None]
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderValue=np.nan)[:, 0], np.float32)


def _seen(T: Float64, rays: Float64, K: Float64, m: Float64) -> tuple[Float32, Float64]:
    """Where the plane is seen, pixels [2, N], and how that changes with inverse depth, [2, N]."""
    points = T[:3, :3] @ rays + T[:3, 3:] * (m @ rays)
    z = np.maximum(points[2], 1e-3)
    plane = points[:2] / z
    focal, center = np.array([[K[0, 0]], [K[1, 1]]]), np.array([[K[0, 2]], [K[1, 2]]])
    return (focal * plane + center).astype(np.float32), focal * (T[:2, 3:] - plane * T[2, 3]) / z


def _correlation(here: Float32, views: list[tuple[Float32, Float64]], rays: Float64, K: Float64, m: Float64) -> float:
    values = []
    for image, T in views:
        there = _sample(image, _seen(T, rays, K, m)[0])
        valid = np.isfinite(there)
        if valid.sum() > 100:
            values.append(float(np.corrcoef(here[valid], there[valid])[0, 1]))
    return float(np.mean(values)) if values else -1.0


def _aligned(here: Float32, views: list[tuple[Float32, Float64]], rays: Float64, K: Float64, m: Float64) -> Float64:
    """Gauss-Newton over m, with a prior that the plane is level."""
    gradients = [(np.gradient(image, axis=1), np.gradient(image, axis=0)) for image, _ in views]
    for _ in range(_ITERATIONS):
        hessian, slope = np.zeros((3, 3)), np.zeros(3)
        for (image, T), (across, down) in zip(views, gradients, strict=True):
            pixels, by_depth = _seen(T, rays, K, m)
            residual = (_sample(image, pixels) - here).astype(np.float64)
            valid = np.isfinite(residual)
            residual[~valid] = 0.0
            by_inverse_depth = _sample(across, pixels) * by_depth[0] + _sample(down, pixels) * by_depth[1]
            jacobian = np.where(valid, by_inverse_depth, 0.0) * rays
            scale = 1.4826 * float(np.median(np.abs(residual[valid]))) + 1e-6 if valid.any() else 1.0
            weight = 1 / (1 + (residual / (2.3849 * scale)) ** 2) / scale**2
            # Neighbouring pixels share their noise: a tenth of them count.
            hessian += 0.1 * (jacobian * weight) @ jacobian.T
            slope += 0.1 * (jacobian * weight) @ residual
        prior = 1 / (_TILT * np.linalg.norm(m)) ** 2
        hessian += np.diag([prior, 0.0, prior])
        slope += prior * np.array([m[0], 0.0, m[2]])
        change = -np.linalg.solve(hessian + 1e-12 * np.eye(3), slope)
        m = m + change
        if np.linalg.norm(change) < 1e-4 * np.linalg.norm(m):
            break
    return m
