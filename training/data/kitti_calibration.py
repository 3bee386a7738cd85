"""KITTI's calibration files (Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013).

The rectified image of camera i shows points of the rectified frame of camera 0 through P_rect_0i = K [I | t]: all four
rectified cameras share axes, and t places camera i. The folder of a day, which holds its drives, holds
`calib_cam_to_cam.txt`, `calib_velo_to_cam.txt` and `calib_imu_to_velo.txt`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError

CAM_TO_CAM = "calib_cam_to_cam.txt"
VELO_TO_CAM = "calib_velo_to_cam.txt"
IMU_TO_VELO = "calib_imu_to_velo.txt"


def read_calibration(path: Path) -> dict[str, NDArray[np.float64]]:
    """Entries of one `name: number number ...` file as flat arrays; entries without numbers (dates) left out."""
    entries = {}
    for line in path.read_text().splitlines():
        name, _, text = line.partition(":")
        try:
            numbers = [float(word) for word in text.split()]
        except ValueError:
            continue
        if numbers:
            entries[name.strip()] = np.array(numbers)
    return entries


def rectified_camera(calib_cam_to_cam: Path, camera: int, width: int, height: int) -> PinholeCamera:
    """Pinhole camera of rectified image `camera` (0 to 3) as stored at width x height.

    KITTI's K has the centre of the first pixel at (0, 0), and holds for the calibration's own resolution (S_rect).

    Raises:
        CameraError: an entry is missing or has too few or too many numbers.
    """
    calibration = read_calibration(calib_cam_to_cam)
    projection = _entry(calibration, f"P_rect_{camera:02d}", (3, 4), calib_cam_to_cam)
    own_width, own_height = _entry(calibration, f"S_rect_{camera:02d}", (2,), calib_cam_to_cam)
    fx, fy, cx, cy = (float(projection[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return PinholeCamera(int(own_width), int(own_height), fx, fy, cx, cy).resized(width, height)


def camera_from_camera0(calib_cam_to_cam: Path, camera: int) -> NDArray[np.float64]:
    """T_camera_camera0 [4, 4], metres, between rectified frames: pure translation, K^-1 times P_rect's last column.

    The stereo baseline of cameras 2 and 3 is the difference of their x translations (0.533 m).
    """
    calibration = read_calibration(calib_cam_to_cam)
    projection = _entry(calibration, f"P_rect_{camera:02d}", (3, 4), calib_cam_to_cam)
    return _transform(np.eye(3), np.linalg.solve(projection[:, :3], projection[:, 3]))


def camera_from_velodyne(day: Path, camera: int) -> NDArray[np.float64]:
    """T_camera_velodyne [4, 4], metres: laser points to the rectified frame of `camera`, by the files in `day`."""
    calibration = read_calibration(day / CAM_TO_CAM)
    rectification = _transform(_entry(calibration, "R_rect_00", (3, 3), day / CAM_TO_CAM), np.zeros(3))
    return camera_from_camera0(day / CAM_TO_CAM, camera) @ rectification @ _rigid_file(day / VELO_TO_CAM)


def velodyne_from_imu(day: Path) -> NDArray[np.float64]:
    """T_velodyne_imu [4, 4], metres; both frames are x forward, y left, z up."""
    return _rigid_file(day / IMU_TO_VELO)


def _rigid_file(path: Path) -> NDArray[np.float64]:
    calibration = read_calibration(path)
    return _transform(_entry(calibration, "R", (3, 3), path), _entry(calibration, "T", (3,), path))


def _transform(rotation: NDArray[np.floating], translation: NDArray[np.floating]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = translation
    return matrix


def _entry(
    calibration: dict[str, NDArray[np.float64]], name: str, shape: tuple[int, ...], path: Path
) -> NDArray[np.float64]:
    values = calibration.get(name)
    if values is None or values.size != np.prod(shape):
        got = "no such entry" if values is None else f"{values.size} numbers"
        raise CameraError(f"{path}: expected {name} with {int(np.prod(shape))} numbers, got {got}")
    return values.reshape(shape)
