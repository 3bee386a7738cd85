"""KITTI truth as published numbers on Eigen's test split have it, oddities included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.depth_files import VelodyneScan, read_velodyne
from training.data.kitti_calibration import CAM_TO_CAM, camera_from_velodyne, read_calibration, rectified_camera
from training.data.records import FrameRecord


@dataclass(frozen=True)
class EigenVelodyneScan:
    """A velodyne scan projected as the code behind the published tables does it (Garg et al., ECCV 2016, and since).

    It differs from the geometry of `VelodyneScan` in three ways: depth is the distance ahead of the laser, about
    0.27 m more than of the camera; pixels are shifted by one to the left and up; the map has the calibration's own
    resolution, whatever the image's.

    calibration: the folder of the day, with `calib_cam_to_cam.txt` and `calib_velo_to_cam.txt`.
    """

    path: Path
    calibration: Path
    camera: int

    def read(self) -> NDArray[np.float32]:
        """Depth in metres, float32 [H, W], 0 where no laser point falls; the nearest point wins a pixel."""
        points = read_velodyne(self.path)[:, :3].astype(np.float64)
        points = points[points[:, 0] >= 0]
        cam_to_cam = self.calibration / CAM_TO_CAM
        width, height = read_calibration(cam_to_cam)["S_rect_02"].astype(int)
        camera = rectified_camera(cam_to_cam, self.camera, width, height)
        transform = camera_from_velodyne(self.calibration, self.camera)
        x, y, z = (points @ transform[:3, :3].T + transform[:3, 3]).T
        with np.errstate(divide="ignore", invalid="ignore"):
            column = np.rint(camera.fx * x / z + camera.cx) - 1
            row = np.rint(camera.fy * y / z + camera.cy) - 1
        seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        depth = np.full((height, width), np.inf, np.float32)
        np.minimum.at(depth, (row[seen].astype(int), column[seen].astype(int)), points[seen, 0].astype(np.float32))
        depth[np.isinf(depth)] = 0
        return depth


def with_eigen_truth(records: Sequence[FrameRecord]) -> list[FrameRecord]:
    """Records whose velodyne scans are read as `EigenVelodyneScan`; other truth stays."""
    return [
        replace(record, depth=EigenVelodyneScan(record.depth.path, record.depth.calibration, record.depth.camera))
        if isinstance(record.depth, VelodyneScan)
        else record
        for record in records
    ]
