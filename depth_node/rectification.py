"""Rectification: images of a distorted (and, in a stereo rig, turned) camera as a pinhole camera would have them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, distort_rays
from depth_node.errors import CameraError

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

_FOLD_CHECK_STEPS = 1000


@dataclass(frozen=True)
class Rectification:
    """Maps images of `source` to the undistorted camera `target`.

    rotation: R of `CameraInfo`, row-major: turns directions of the source's optical frame into the target's.

    Raises:
        CameraError: the target is distorted, or the rotation is none.
    """

    source: PinholeCamera
    target: PinholeCamera
    rotation: tuple[float, ...] = IDENTITY

    def __post_init__(self) -> None:
        if self.target.is_distorted:
            raise CameraError("an image can be rectified only for a camera without distortion")
        rotation = np.array(self.rotation)
        # The largest entry first: NaN and what would overflow end there.
        if (
            rotation.shape != (9,)
            or not np.abs(rotation).max() < 1.01
            or not np.allclose(rotation.reshape(3, 3) @ rotation.reshape(3, 3).T, np.eye(3), atol=1e-3)
        ):
            raise CameraError(f"camera_info's R is {self.rotation}; expected a rotation matrix, row by row")

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rectified uint8 [h, w, 3] of an image uint8 [H, W, 3] of the source; bilinear, black outside of it."""
        maps = _maps(self)
        rectified: NDArray[np.uint8] = cv2.remap(image, maps.coordinates, maps.fractions, cv2.INTER_LINEAR)  # type: ignore[assignment]
        return rectified

    def apply_to_inverse_depth(self, inverse_depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rectified float32 [h, w] of 1/z [H, W] of the source's pixels; bilinear, NaN outside of it.

        Only of a source that is not turned, since z would be another one.
        """
        maps = _maps(self)
        rectified: NDArray[np.float32] = cv2.remap(
            inverse_depth, maps.coordinates, maps.fractions, cv2.INTER_LINEAR, borderValue=(math.nan,)
        )  # type: ignore[assignment]
        if maps.outside is not None:
            rectified[maps.outside] = np.nan
        return rectified

    def outside(self) -> NDArray[np.bool_] | None:
        """Where the rectified image shows nothing: bool [h, w]; None if it does so nowhere. Cached, read-only."""
        return _maps(self).outside


def straightened(camera: PinholeCamera) -> Rectification:
    """To the same intrinsics without the distortion."""
    return Rectification(camera, replace(camera, distortion=()))


@dataclass(frozen=True)
class _Maps:
    """OpenCV's fixed-point maps (int16 [h, w, 2] pixels, uint16 [h, w] fractions), and the pixels without a source."""

    coordinates: NDArray[np.int16]
    fractions: NDArray[np.uint16]
    outside: NDArray[np.bool_] | None


@lru_cache(maxsize=4)
def _maps(rectification: Rectification) -> _Maps:
    source, target = rectification.source, rectification.target
    rotation = np.array(rectification.rotation).reshape(3, 3)
    size = target.width, target.height
    fisheye = source.distortion_model == "equidistant" and bool(source.distortion)
    initialize = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    x, y = initialize(source.matrix(), np.array(source.distortion), rotation, target.matrix(), size, cv2.CV_32FC1)
    # A pixel's width of the border still has neighbours inside.
    outside = ~((x > -0.5) & (y > -0.5) & (x < source.width - 0.5) & (y < source.height - 0.5))
    outside |= _beyond_fold(rectification)
    coordinates, fractions = cv2.convertMaps(x, y, cv2.CV_16SC2)
    return _Maps(coordinates, fractions, outside if outside.any() else None)  # type: ignore[arg-type]


def _beyond_fold(rectification: Rectification) -> NDArray[np.bool_]:
    """Pixels [h, w] of the target whose rays lie where the distortion model folds back over other pixels."""
    target = rectification.target
    x = (np.arange(target.width) - target.cx) / target.fx
    y = (np.arange(target.height) - target.cy) / target.fy
    rays = np.stack([*np.meshgrid(x, y), np.ones((target.height, target.width))], axis=-1)
    rays = rays @ np.array(rectification.rotation).reshape(3, 3)  # rows: the inverse rotation
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.hypot(rays[..., 0], rays[..., 1]) / rays[..., 2]
    is_ahead = rays[..., 2] > 0
    farthest = float(radius[is_ahead].max(initial=0.0))
    return ~(is_ahead & (radius < _fold_radius(rectification.source, farthest)))


def _fold_radius(camera: PinholeCamera, farthest: float) -> float:
    """The ray's radius (x/z) up to which pixels move outwards with it; infinite if they do so up to `farthest`."""
    radii = np.linspace(0.0, farthest, _FOLD_CHECK_STEPS)
    pixels = distort_rays(camera, np.stack([radii, np.zeros_like(radii)], axis=-1))[:, 0]
    turns = np.flatnonzero(np.diff(pixels) <= 0)
    return float(radii[turns[0]]) if len(turns) else float("inf")
