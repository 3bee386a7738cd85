"""The pinhole camera: intrinsics in pixels, lens distortion, resize and crop, rays, back-projection.

Pixel centres are integers, as in ROS `CameraInfo`; axes are REP 103 optical (x right, y down, z forward).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.errors import CameraError

# Numbers of coefficients that OpenCV's models of these names take (sensor_msgs/distortion_models.hpp has the names).
DISTORTION_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}

# A pixel is left without a ray when undistorting it and distorting it again misses it by more than this.
_MAX_UNDISTORTION_ERROR_PX = 0.5

_RADII = 2048  # of a table of radial distortion; its error is below 1e-6 of a ray's length


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics of an image of `width` x `height` pixels; `fx`, `fy`, `cx`, `cy` are in pixels.

    distortion: OpenCV's coefficients for `distortion_model`, as in `CameraInfo.d`; empty for a rectified image.

    Raises:
        CameraError: the numbers describe no camera.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise CameraError(f"camera of {self.width}x{self.height} pixels; width and height must be positive")
        intrinsics = {"fx": self.fx, "fy": self.fy, "cx": self.cx, "cy": self.cy}
        for name, value in intrinsics.items():
            if not math.isfinite(value):
                raise CameraError(f"camera with {name} = {value}; expected a finite number of pixels")
        if self.fx <= 0 or self.fy <= 0:
            raise CameraError(f"camera with fx = {self.fx}, fy = {self.fy}; focal lengths must be positive pixels")
        if self.distortion_model not in DISTORTION_COEFFICIENTS:
            known = ", ".join(DISTORTION_COEFFICIENTS)
            raise CameraError(f"distortion model '{self.distortion_model}' is unknown; expected one of: {known}")
        counts = DISTORTION_COEFFICIENTS[self.distortion_model]
        if self.distortion and len(self.distortion) not in counts:
            expected = " or ".join(str(count) for count in counts)
            raise CameraError(
                f"{len(self.distortion)} distortion coefficients for model '{self.distortion_model}'; "
                f"expected {expected}, or none for a rectified image"
            )
        if not all(math.isfinite(value) for value in self.distortion):
            raise CameraError(f"distortion {self.distortion} has a value that is not finite")

    @classmethod
    def from_normalized(cls, intrinsics: Sequence[float], width: int, height: int) -> PinholeCamera:
        """Undistorted camera from (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H)."""
        fx, fy, cx, cy = intrinsics
        return cls(width, height, fx * width, fy * height, cx * width - 0.5, cy * height - 0.5)

    @classmethod
    def from_prior(cls, prior: Sequence[float], width: int, height: int) -> PinholeCamera:
        """Undistorted camera with the field of view across and the principal point of `prior`, and square pixels.

        prior: normalised, as for `from_normalized`. Its fy/H holds for images of its own shape alone; pixels are square
            in nearly every camera.
        """
        fx, _, cx, cy = prior
        return cls.from_normalized((fx, fx * width / height, cx, cy), width, height)

    def normalized(self) -> tuple[float, float, float, float]:
        """(fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H): unchanged by `resized`."""
        width, height = self.width, self.height
        return self.fx / width, self.fy / height, (self.cx + 0.5) / width, (self.cy + 0.5) / height

    def matrix(self) -> NDArray[np.float64]:
        """K: float64 [3, 3], pixels."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def is_distorted(self) -> bool:
        """Whether straight lines are bent. `equidistant` bends them even with coefficients of zero."""
        return any(self.distortion) or (self.distortion_model == "equidistant" and bool(self.distortion))

    @property
    def radial_distortion(self) -> float | None:
        """k1 of `plumb_bob`, if that is all there is of distortion; 0 without any, None with other coefficients."""
        if not self.is_distorted:
            return 0.0
        is_radial = self.distortion_model == "plumb_bob" and not any(self.distortion[1:])
        return self.distortion[0] if is_radial else None

    def resized(self, width: int, height: int) -> PinholeCamera:
        """Camera of the same image resized: x' = (x + 0.5) s - 0.5."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def cropped(self, x: int, y: int, width: int, height: int) -> PinholeCamera:
        """Camera of `image[y : y + height, x : x + width]`."""
        if not (0 <= x <= self.width - width and 0 <= y <= self.height - height):
            raise CameraError(
                f"crop of {width}x{height} at ({x}, {y}) does not lie inside the image of {self.width}x{self.height}"
            )
        return replace(self, width=width, height=height, cx=self.cx - x, cy=self.cy - y)

    def rays(self, stride: int = 1) -> NDArray[np.float32]:
        """x/z and y/z of every `stride`-th pixel: float32 [h, w, 2], read-only, cached.

        Pixels 0, stride, 2 stride, ... of both axes, so that h = ceil(height / stride), w = ceil(width / stride).
        Lens distortion is undone; NaN where it cannot be (outside the distortion model's invertible range).
        """
        return np.moveaxis(directions(self, stride)[:2], 0, -1)


@lru_cache(maxsize=4)
def directions(camera: PinholeCamera, stride: int = 1) -> NDArray[np.float32]:
    """Rays with z = 1 as three planes, x, y and z: float32 [3, h, w], read-only, cached; h and w as `rays`.

    All three are NaN where a pixel has no ray.
    """
    x = np.arange(0, camera.width, stride, dtype=np.float64)
    y = np.arange(0, camera.height, stride, dtype=np.float64)
    planes = np.ones((3, len(y), len(x)), np.float32)
    k1 = camera.radial_distortion
    if k1 is None:
        pixels = np.stack(np.meshgrid(x, y), axis=-1)
        rays = undistort_pixels(camera, pixels)
        planes[:2] = np.moveaxis(rays, -1, 0)
        planes[:, np.isnan(rays).any(axis=-1)] = np.nan
    else:
        planes[0] = (x - camera.cx) / camera.fx
        planes[1] = ((y - camera.cy) / camera.fy)[:, None]
        if k1:
            _straighten(planes, k1)
    planes.flags.writeable = False
    return planes


def _straighten(planes: NDArray[np.float32], k1: float) -> None:
    """Undo radial distortion of `directions`, in place, NaN where it folds; a tenth of OpenCV's time.

    A learned k1 changes from image to image until it is known.
    """
    squares = planes[0] ** 2 + planes[1] ** 2
    # Up to the fold at 1 / sqrt(-3 k1), rays are at most half as long again as they look.
    radii = np.linspace(0, 1.5 * math.sqrt(float(squares.max())), _RADII)
    if k1 < 0:
        radii = radii[radii <= 1 / math.sqrt(-3 * k1)]
    factors = 1 + k1 * radii**2
    stretch = np.interp(squares, (radii * factors) ** 2, 1 / factors, right=np.nan)
    planes[:2] *= stretch
    planes[2, np.isnan(stretch)] = np.nan


def backproject(depth: NDArray[np.float32], camera: PinholeCamera, stride: int = 1) -> NDArray[np.float32]:
    """Points of a depth image in the camera's optical frame (REP 103), organised like the image.

    depth: float32 [H, W] metres along z, of the camera's size. Returns float32 [h, w, 3] metres, h and w as `rays`;
    all three coordinates are NaN where the depth is NaN.
    """
    planes = directions(camera, stride) * depth[::stride, ::stride]
    points: NDArray[np.float32] = cv2.merge(tuple(planes))
    return points


def distort_rays(camera: PinholeCamera, rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels [..., 2] of rays (x/z, y/z) [..., 2], through the camera's lens distortion."""
    if not camera.is_distorted:
        return rays * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    matrix, distortion, flat = camera.matrix(), np.array(camera.distortion), rays.reshape(-1, 1, 2)
    pixels: Any
    if camera.distortion_model == "equidistant":
        pixels = cv2.fisheye.distortPoints(flat, matrix, distortion)
    else:
        points = np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1)
        pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, distortion)
    return np.asarray(pixels, np.float64).reshape(rays.shape)


def undistort_pixels(camera: PinholeCamera, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rays (x/z, y/z) [..., 2] of pixels [..., 2] through OpenCV's inverse, NaN where that has not converged."""
    if not camera.is_distorted:
        return (pixels - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    matrix, distortion = camera.matrix(), np.array(camera.distortion)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    distorted = pixels.reshape(-1, 1, 2)
    rays: Any
    if camera.distortion_model == "equidistant":
        rays = cv2.fisheye.undistortPoints(distorted, matrix, distortion, criteria=criteria)
    else:
        # OpenCV 4 has the criteria in a function of its own.
        undistort = getattr(cv2, "undistortPointsIter", cv2.undistortPoints)
        rays = undistort(distorted, matrix, distortion, R=np.eye(3), P=np.eye(3), criteria=criteria)
    rays = rays.reshape(pixels.shape)
    error = np.linalg.norm(distort_rays(camera, rays) - pixels, axis=-1, keepdims=True)
    return np.where(error <= _MAX_UNDISTORTION_ERROR_PX, rays, np.nan)
