"""A KITTI raw drive (synced and rectified) as a ROS 2 bag.

    /camera/image_raw or /camera/image_raw/compressed   the rectified images
    /camera/camera_info                                 from calib_cam_to_cam.txt
    /velodyne_points                                    x, y, z, intensity in `velodyne`
    /odometry                                           from oxts: `base_link`, the GPS/IMU unit, in `odom`
    /tf_static                                          base_link -> velodyne -> camera

Frames are as in REP 103: x forward, y left, z up; the camera's is its optical frame.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from depth_node import bag_messages
from depth_node.bags import BagWriter
from depth_node.camera import PinholeCamera
from training.data.depth_files import read_velodyne
from training.data.kitti_calibration import (
    CAM_TO_CAM,
    IMU_TO_VELO,
    VELO_TO_CAM,
    camera_from_velodyne,
    rectified_camera,
    velodyne_from_imu,
)
from training.data.kitti_raw import read_timestamps
from training.data.records import KITTI_FRAME_PERIOD_NS, image_size, numbered_images
from training.errors import DataError

EARTH_RADIUS = 6378137.0  # metres, the equator's in WGS 84
OXTS_COLUMNS = 30

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Event:
    """A message that is made when its turn comes."""

    stamp_ns: int
    topic: str
    make_message: Callable[[], Any]


def kitti_to_bag(drive: Path, output: Path, camera: int = 2, compressed: bool = False) -> None:
    """Write a drive as an mcap bag, with whatever of it is there.

    Args:
        drive: folder `DATE/DATE_drive_NNNN_sync`; the calibration files are in `DATE`.
        output: one file if it ends in `.mcap`, otherwise a directory.
        camera: 0 and 1 are grey, 2 and 3 colour.
        compressed: CompressedImage messages, each a picture file byte for byte, in place of decoded Image messages.

    Raises:
        DataError: the drive has no images of that camera, or one of its files is damaged.
        BagError: the output exists already.
    """
    images = numbered_images(drive / f"image_{camera:02d}" / "data")
    if not images:
        raise DataError(f"no images in {drive}/image_{camera:02d}/data: expected 0000000000.png (or .jpg) and so on")
    frame_id = f"camera_{camera:02d}_optical"
    image_stamps = _stamps(drive, f"image_{camera:02d}", images)
    events = [
        *_static_transforms(drive, camera, frame_id, min(image_stamps.values())),
        *_images(images, image_stamps, frame_id, compressed),
        *_camera_infos(drive, camera, images, image_stamps, frame_id),
        *_scans(drive),
        *_odometry(drive),
    ]
    events.sort(key=lambda event: event.stamp_ns)
    with BagWriter(output) as bag:
        for event in track(events, description=drive.name):
            bag.write(event.topic, event.stamp_ns, event.make_message())


def oxts_poses(oxts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses T_first_this [N, 4, 4] of the GPS/IMU unit, metres, relative to its first, from oxts rows [N, 30].

    Mercator projection at the first row's latitude, rotation Rz(yaw) Ry(pitch) Rx(roll), as convertOxtsToPose.m of
    KITTI's development kit.
    """
    latitude, longitude, altitude, roll, pitch, yaw = oxts[:, :6].T
    scale = np.cos(np.deg2rad(latitude[0]))
    poses = np.tile(np.eye(4), (len(oxts), 1, 1))
    poses[:, 0, 3] = scale * EARTH_RADIUS * np.deg2rad(longitude)
    poses[:, 1, 3] = scale * EARTH_RADIUS * np.log(np.tan(np.pi / 4 + np.deg2rad(latitude) / 2))
    poses[:, 2, 3] = altitude
    poses[:, :3, 3] -= poses[0, :3, 3]
    poses[:, :3, :3] = _rotations(2, yaw) @ _rotations(1, pitch) @ _rotations(0, roll)
    return np.asarray(poses[0].T @ poses)  # the first has no translation left


def oxts_velocities(oxts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Velocities [N, 3] (m/s) along the unit's own axes; oxts has them forward, left and up of the level."""
    level_from_body = _rotations(1, oxts[:, 4]) @ _rotations(0, oxts[:, 3])
    return np.asarray(np.einsum("nji,nj->ni", level_from_body, oxts[:, 8:11]))


def _images(images: dict[int, Path], stamps: dict[int, int], frame_id: str, compressed: bool) -> Iterator[_Event]:
    topic = "/camera/image_raw/compressed" if compressed else "/camera/image_raw"
    make_message = _compressed_image if compressed else _image
    for number, path in images.items():
        yield _Event(stamps[number], topic, partial(make_message, stamps[number], frame_id, path))


def _image(stamp_ns: int, frame_id: str, path: Path) -> Any:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError(f"{path} is not a readable image: fetch or export it again")
    return bag_messages.image(stamp_ns, frame_id, pixels, "bgr8" if pixels.ndim == 3 else "mono8")


def _compressed_image(stamp_ns: int, frame_id: str, path: Path) -> Any:
    file_format = "png" if path.suffix == ".png" else "jpeg"
    return bag_messages.compressed_image(stamp_ns, frame_id, path.read_bytes(), file_format)


def _camera_infos(
    drive: Path, camera: int, images: dict[int, Path], stamps: dict[int, int], frame_id: str
) -> Iterator[_Event]:
    calibration = drive.parent / CAM_TO_CAM
    if not calibration.is_file():
        logger.warning("no %s: the bag gets no camera_info", calibration)
        return
    model: PinholeCamera | None = None
    for number, path in images.items():
        size = image_size(path)
        if model is None or (model.width, model.height) != size:
            model = rectified_camera(calibration, camera, *size)
        make_message = partial(bag_messages.camera_info, stamps[number], frame_id, model)
        yield _Event(stamps[number], "/camera/camera_info", make_message)


def _static_transforms(drive: Path, camera: int, frame_id: str, stamp_ns: int) -> Iterator[_Event]:
    day = drive.parent
    transforms: dict[tuple[str, str], NDArray[np.float64]] = {}
    if (day / IMU_TO_VELO).is_file():
        transforms["base_link", "velodyne"] = np.asarray(np.linalg.inv(velodyne_from_imu(day)), np.float64)
    if (day / VELO_TO_CAM).is_file() and (day / CAM_TO_CAM).is_file():
        transforms["velodyne", frame_id] = np.asarray(np.linalg.inv(camera_from_velodyne(day, camera)), np.float64)
    if transforms:
        yield _Event(stamp_ns, "/tf_static", partial(bag_messages.transforms, stamp_ns, transforms))


def _scans(drive: Path) -> Iterator[_Event]:
    scans = _numbered_files(drive / "velodyne_points" / "data", ".bin")
    stamps = _stamps(drive, "velodyne_points", scans)
    for number, path in scans.items():
        yield _Event(stamps[number], "/velodyne_points", partial(_scan, stamps[number], path))


def _scan(stamp_ns: int, path: Path) -> Any:
    return bag_messages.point_cloud(stamp_ns, "velodyne", read_velodyne(path), ("x", "y", "z", "intensity"))


def _odometry(drive: Path) -> Iterator[_Event]:
    files = _numbered_files(drive / "oxts" / "data", ".txt")
    if not files:
        return
    stamps = _stamps(drive, "oxts", files)
    oxts = np.array([_read_oxts(path) for path in files.values()])
    for number, pose, velocity, row in zip(files, oxts_poses(oxts), oxts_velocities(oxts), oxts, strict=True):
        make_message = partial(bag_messages.odometry, stamps[number], "odom", "base_link", pose, velocity, row[17:20])
        yield _Event(stamps[number], "/odometry", make_message)


def _read_oxts(path: Path) -> list[float]:
    words = path.read_text().split()
    if len(words) != OXTS_COLUMNS:
        raise DataError(f"{path} has {len(words)} numbers: expected the {OXTS_COLUMNS} of an oxts file")
    return [float(word) for word in words]


def _numbered_files(folder: Path, suffix: str) -> dict[int, Path]:
    return {int(path.stem): path for path in sorted(folder.glob(f"*{suffix}"))}


def _stamps(drive: Path, sensor: str, numbers: Iterable[int]) -> dict[int, int]:
    """Nanoseconds by frame number, from the sensor's timestamps.txt; without one 10 Hz from midnight (UTC)."""
    path = drive / sensor / "timestamps.txt"
    if path.is_file():
        stamps = read_timestamps(path)
        if max(numbers, default=0) >= len(stamps):
            raise DataError(f"{path} has {len(stamps)} lines: expected one for each frame, up to {max(numbers)}")
        return {number: stamps[number] for number in numbers}
    try:
        midnight = datetime.strptime(drive.name[:10], "%Y_%m_%d").replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise DataError(f"{drive}: neither timestamps.txt nor a date in its name (DATE_drive_NNNN_sync)") from error
    start = int(midnight.timestamp()) * 1_000_000_000
    return {number: start + number * KITTI_FRAME_PERIOD_NS for number in numbers}


def _rotations(axis: int, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations [N, 3, 3] by angles (rad) about one coordinate axis."""
    after, last = (axis + 1) % 3, (axis + 2) % 3
    matrices = np.tile(np.eye(3), (len(angles), 1, 1))
    matrices[:, after, after] = matrices[:, last, last] = np.cos(angles)
    matrices[:, last, after] = np.sin(angles)
    matrices[:, after, last] = -np.sin(angles)
    return matrices
