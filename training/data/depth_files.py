"""True depth as data sets store it: depth PNGs, disparity PNGs and lidar scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.kitti_calibration import CAM_TO_CAM, camera_from_velodyne, rectified_camera
from training.errors import FrameError

KITTI_PNG_SCALE = 256.0
TUM_PNG_SCALE = 5000.0


@dataclass(frozen=True)
class DepthPng:
    """A 16-bit depth image: metres = value / `scale` (KITTI 256, TUM RGB-D 5000), 0 = none."""

    path: Path
    scale: float = KITTI_PNG_SCALE

    def read(self) -> NDArray[np.float32]:
        """Depth in metres, float32 [H, W], 0 where there is none."""
        return read_png16(self.path).astype(np.float32) / np.float32(self.scale)


@dataclass(frozen=True)
class DisparityPng:
    """A 16-bit disparity image: pixels = value / 256, 0 = none (KITTI 2015).

    focal_baseline: focal length (pixels of this file) times stereo baseline (m); depth = focal_baseline / disparity.
    """

    path: Path
    focal_baseline: float

    def read(self) -> NDArray[np.float32]:
        """Depth in metres, float32 [H, W], 0 where there is none."""
        disparity = read_png16(self.path).astype(np.float32) / np.float32(KITTI_PNG_SCALE)
        depth = np.zeros_like(disparity)
        np.divide(np.float32(self.focal_baseline), disparity, out=depth, where=disparity > 0)
        return depth


@dataclass(frozen=True)
class VelodyneScan:
    """A KITTI velodyne scan (float32 x, y, z, reflectance), seen by a rectified camera.

    calibration: the folder of the day, with `calib_cam_to_cam.txt` and `calib_velo_to_cam.txt`.
    width, height: size of the depth map in pixels, that of the stored image or any other.
    """

    path: Path
    calibration: Path
    camera: int
    width: int
    height: int

    def read(self) -> NDArray[np.float32]:
        """Depth in metres, float32 [H, W], 0 where no laser point falls; the nearest point wins a pixel.

        As `generate_depth_map` of Monodepth2 (Godard et al., ICCV 2019), except that the first pixel is centred at
        (0, 0) as in KITTI's K: no shift by one pixel after rounding.

        Raises:
            FrameError: the scan is missing or cut off.
        """
        points = read_velodyne(self.path)[:, :3].astype(np.float64)
        points = points[points[:, 0] >= 0]
        transform = camera_from_velodyne(self.calibration, self.camera)
        camera = rectified_camera(self.calibration / CAM_TO_CAM, self.camera, self.width, self.height)
        x, y, z = (points @ transform[:3, :3].T + transform[:3, 3]).T
        x, y, z = (values[z > 0] for values in (x, y, z))
        column = np.rint(camera.fx * x / z + camera.cx)
        row = np.rint(camera.fy * y / z + camera.cy)
        seen = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        depth = np.full((self.height, self.width), np.inf, np.float32)
        np.minimum.at(depth, (row[seen].astype(int), column[seen].astype(int)), z[seen].astype(np.float32))
        depth[np.isinf(depth)] = 0
        return depth


def read_velodyne(path: Path) -> NDArray[np.float32]:
    """Points of a velodyne scan, float32 [N, 4]: x forward, y left, z up in metres, and reflectance in 0..1.

    Raises:
        FrameError: the file is missing or no whole number of points.
    """
    try:
        values = np.fromfile(path, np.float32)
    except OSError as error:
        raise FrameError(f"{path} cannot be read ({error}): expected a velodyne scan") from error
    if path.stat().st_size % 16:
        raise FrameError(f"{path} has {path.stat().st_size} bytes: expected 16 for each point; the file is cut off")
    return values.reshape(-1, 4)


def read_png16(path: Path) -> NDArray[np.uint16]:
    """A one-channel 16-bit PNG as uint16 [H, W].

    Raises:
        FrameError: the file cannot be read or is another kind of image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FrameError(f"{path} cannot be read as an image: expected a 16-bit PNG")
    if image.dtype != np.uint16 or image.ndim != 2:
        raise FrameError(f"{path} is {image.dtype} {list(image.shape)}: expected a one-channel 16-bit PNG")
    return np.asarray(image, np.uint16)
