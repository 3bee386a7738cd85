"""The ground below a camera, from its depth: a robust plane, in the unit of the depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, backproject
from depth_node.scale.filter import MAD_TO_SIGMA

# About as many pixels of the image are looked at.
_SAMPLES = 1500
_HYPOTHESES = 96

# Parts of the camera's height. What is farther above the plane than the first does not count for it; what is below
# counts against it, up to the second.
_ABOVE, _BELOW = 0.06, 0.12

# Radians between the ground's normal and the image's upward direction, in all and sideways: cameras on robots look
# ahead or down, and walls and embankments are no ground.
_MAX_TILT, _MAX_ROLL = math.radians(45), math.radians(25)

_MIN_INLIERS, _MIN_INLIER_SHARE = 50, 0.12
_MAX_SPREAD = 0.1

# Nothing is below the ground. A plane through a blurred slope of traffic has much of the world there.
_FAR_BELOW, _MAX_FAR_BELOW_SHARE = 0.24, 0.01

# Standard error of the height, in parts of it, that points too close together or in a line exceed.
_MAX_HEIGHT_ERROR = 0.05

_REFINEMENTS = 4
_TUKEY = 4.685  # 95 % efficiency at the normal distribution


@dataclass(frozen=True)
class GroundPlane:
    """The ground below a camera: the points X of its optical frame (REP 103) with normal . X = -height.

    normal: float64 [3], unit, from the ground up to the camera, (0, -1, 0) for a level one.
    height: of the camera over the plane, in the unit of the depth.
    inlier_share: part of the valid pixels that lie on the plane.
    spread: standard deviation (robust) of the points' distance from the plane in parts of the height, which is the
        relative error of their depth.
    """

    normal: NDArray[np.float64]
    height: float
    inlier_share: float
    spread: float


def ground_plane(depth: NDArray[np.float32], camera: PinholeCamera) -> GroundPlane | None:
    """The plane that much of the image lies on and nearly nothing below, if it can be the ground.

    depth: float32 [H, W], of the camera's size, in any unit; NaN invalid. The camera may be tilted by 45 degrees,
    sideways by 25; some of the ground has to be in the lower half of the image.

    A point X of the plane has m . X = 1 with m = -normal / height; m . X - 1 is its depth below the plane in parts of
    the camera's height, and the relative error of its depth. So fits by sampling (MSAC, Torr and Zisserman 2000; the
    same samples for every frame) and the refinement by least squares (Tukey's weights) are linear, and free of scale.
    """
    stride = max(1, round(math.sqrt(depth.size / _SAMPLES)))
    points = backproject(depth, camera, stride)
    valid = np.isfinite(points.sum(axis=-1))
    candidates = points[len(points) // 2 :][valid[len(points) // 2 :]]
    if len(candidates) < _MIN_INLIERS:
        return None
    points = points[valid]
    m = _sampled_plane(points, candidates)
    return None if m is None else _refined_plane(points.astype(np.float64), m)


def _sampled_plane(points: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """m [3] of the plane that suits points [N, 3] best among planes through three candidates [M, 3] within the tilt."""
    a, b, c = (candidates[(part * len(candidates)).astype(np.intp)] for part in _triples())
    across = _cross(b, c)
    volume = (a * across).sum(axis=1)  # of the pyramid to the camera; 0 if the plane passes through it
    with np.errstate(divide="ignore", invalid="ignore"):
        planes = (across + _cross(c, a) + _cross(a, b)) / volume[:, None]
    length = np.linalg.norm(planes, axis=1)
    lies = (planes[:, 1] >= math.cos(_MAX_TILT) * length) & (np.abs(planes[:, 0]) <= math.sin(_MAX_ROLL) * length)
    planes = planes[lies & np.isfinite(length)]
    if len(planes) == 0:
        return None
    distance = planes @ points.T
    np.clip(distance, 1 - _ABOVE, 1 + _BELOW, out=distance)
    distance -= 1
    best: NDArray[np.float64] = planes[np.einsum("ij,ij->i", distance, distance).argmin()].astype(np.float64)
    return best


def _refined_plane(points: NDArray[np.float64], m: NDArray[np.float64]) -> GroundPlane | None:
    """Iteratively reweighted least squares from m [3]; None if that ends in a plane that is no believable ground."""
    for _ in range(_REFINEMENTS):
        distance = points @ m - 1
        near: NDArray[np.float64] = np.abs(distance)
        near = near[near < _BELOW]
        if len(near) < _MIN_INLIERS:
            return None
        spread = max(MAD_TO_SIGMA * float(np.median(near)), 1e-4)
        weights = np.square(np.clip(1 - np.square(distance / (_TUKEY * spread)), 0, None))
        weighted = points * weights[:, None]
        information = weighted.T @ points
        if np.linalg.cond(information) > 1e12:
            return None
        m = np.linalg.solve(information, weighted.sum(axis=0))
    distance = points @ m - 1
    share, share_below = np.mean(np.abs(distance) < _BELOW), np.mean(distance > _FAR_BELOW)
    length = float(np.linalg.norm(m))
    down = m / length
    height_error = spread * math.sqrt(down @ np.linalg.inv(information) @ down) / length
    if (
        share < _MIN_INLIER_SHARE
        or share_below > _MAX_FAR_BELOW_SHARE
        or spread > _MAX_SPREAD
        or height_error > _MAX_HEIGHT_ERROR
        or down[1] < math.cos(_MAX_TILT)
        or abs(down[0]) > math.sin(_MAX_ROLL)
    ):
        return None
    return GroundPlane(-down, 1 / length, float(share), spread)


def _cross(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cross products of rows [N, 3]; numpy's own is several times slower on few rows."""
    x, y, z = a.T
    u, v, w = b.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=1)


@lru_cache(maxsize=1)
def _triples() -> NDArray[np.float64]:
    """Which three of N points make each hypothesis, as parts of N: [3, _HYPOTHESES], the same every time."""
    return np.random.default_rng(0).random((3, _HYPOTHESES))
