"""Metric scale of depth: as the model has it, as the user gives it, or from the camera's height over the ground.

A source of scale is asked once per frame (`ScaleSource.update`) and says what the frame's depth is to be multiplied by.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, backproject

SCALE_MODES = ("model", "fixed", "camera_height")

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
_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation, likewise


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


@dataclass(frozen=True)
class ScaleEstimate:
    """What depth is to be multiplied by to be in metres.

    source: one of `SCALE_MODES`, or `unknown` with a factor of 1.
    relative_sigma: standard deviation of a single frame's factor in parts of it; NaN where nothing is known about it.
    """

    factor: float
    source: str
    relative_sigma: float = math.nan


UNKNOWN_SCALE = ScaleEstimate(1.0, "unknown")


class ScaleSource(Protocol):
    """Whatever knows the scale, from frames or otherwise."""

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        """The scale of this frame, of whose depth (float32 [H, W], as the model has it; NaN invalid) it may learn."""
        ...


def create_scale_source(
    mode: str, *, metric: bool, factor: float = 1.0, camera_height: float = math.nan
) -> ScaleSource:
    """The source of one of `SCALE_MODES`.

    metric: whether the model's depth is in metres; decides between `model` and `unknown` in mode `model`.
    factor: of mode `fixed`. camera_height: metres over the ground, of mode `camera_height`.
    """
    if mode == "camera_height":
        return CameraHeightScale(camera_height)
    if mode == "fixed":
        return ConstantScale(ScaleEstimate(factor, "fixed", 0.0))
    return ConstantScale(ScaleEstimate(1.0, "model") if metric else UNKNOWN_SCALE)


@dataclass(frozen=True)
class ConstantScale:
    """A scale that no frame changes."""

    estimate: ScaleEstimate

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        return self.estimate


class CameraHeightScale:
    """Scale from the known height of the camera over the ground that it sees, filtered over frames."""

    def __init__(self, camera_height: float) -> None:
        self.camera_height = camera_height
        self._filter = ScaleFilter()

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        plane = ground_plane(depth, camera)
        if plane is not None:
            self._filter.add(self.camera_height / plane.height)
        if not self._filter.known:
            return UNKNOWN_SCALE
        return ScaleEstimate(self._filter.factor, "camera_height", self._filter.relative_sigma)


class ScaleFilter:
    """Running median of the logarithm of single frames' factors.

    A factor that is out of line with the window is set aside; as many in a row as make a window known start a new one,
    since then the scene or the camera has changed. Frames without a factor leave everything as it is.
    """

    def __init__(self, window: int = 31, enough: int = 5) -> None:
        self._window: deque[float] = deque(maxlen=window)
        self._set_aside: list[float] = []
        self._enough = enough
        self._median, self._sigma = 0.0, math.nan

    @property
    def known(self) -> bool:
        """Whether there have been enough factors to trust their median."""
        return len(self._window) >= self._enough

    @property
    def factor(self) -> float:
        return math.exp(self._median)

    @property
    def relative_sigma(self) -> float:
        """Spread of the single factors (robust standard deviation), in parts of the factor."""
        return self._sigma

    def add(self, factor: float) -> None:
        value = math.log(factor)
        if self.known and abs(value - self._median) > max(4 * self._sigma, math.log(1.3)):
            self._set_aside.append(value)
            if len(self._set_aside) < self._enough:
                return
            self._window.clear()
            self._window.extend(self._set_aside)
        else:
            self._window.append(value)
        self._set_aside.clear()
        values = np.array(self._window)
        self._median = float(np.median(values))
        self._sigma = _TO_SIGMA * float(np.median(np.abs(values - self._median)))


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
        spread = max(_TO_SIGMA * float(np.median(near)), 1e-4)
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
