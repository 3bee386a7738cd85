"""KITTI raw recordings (Geiger et al., IJRR 2013), synced and rectified, png or jpg.

    ROOT/DATE/calib_cam_to_cam.txt                                    and calib_velo_to_cam.txt for velodyne depth
    ROOT/DATE/DATE_drive_NNNN_sync/image_0C/data/0000000000.png       and image_0C/timestamps.txt
    ROOT/DATE/DATE_drive_NNNN_sync/velodyne_points/data/0000000000.bin
    ROOT/DATE/DATE_drive_NNNN_sync/oxts/data/0000000000.txt           for the speed

Frames may be stored smaller than KITTI's own: intrinsics are scaled by the calibration's own resolution.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from training.data.depth_files import DepthPng, VelodyneScan
from training.data.kitti_calibration import CAM_TO_CAM, camera_from_camera0, rectified_camera
from training.data.records import (
    KITTI_FRAME_PERIOD_NS,
    DepthSource,
    FrameRecord,
    MissingFiles,
    StereoView,
    image_size,
    missing_numbers,
    numbered_images,
)
from training.data.splits import SplitEntry, by_name, read_split_file, select_listed
from training.errors import DataError

LAYOUT = "ROOT/DATE/DATE_drive_NNNN_sync/image_0C/data/*.png|jpg and ROOT/DATE/calib_cam_to_cam.txt"
_OXTS_VELOCITY = slice(8, 11)  # forward, leftward and upward, m/s (KITTI's dataformat.txt)
STEREO_PARTNER = {"image_00": "image_01", "image_01": "image_00", "image_02": "image_03", "image_03": "image_02"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OxtsSpeed:
    """Speed in a file of KITTI's motion data."""

    path: Path

    def read(self) -> float | None:
        """m/s; None where there is no such file, or it is cut off."""
        try:
            velocity = [float(value) for value in self.path.read_text().split()[_OXTS_VELOCITY]]
        except (OSError, ValueError):
            return None
        return float(np.linalg.norm(velocity)) if len(velocity) == 3 else None


def read_kitti_raw(
    root: Path,
    drives: Sequence[str] | None = None,
    cameras: Sequence[str] = ("image_02",),
    depth_root: Path | None = None,
    split_file: Path | None = None,
    neighbours: int = 0,
    missing: MissingFiles | None = None,
) -> list[FrameRecord]:
    """Frames of KITTI raw drives, by drive, camera and frame number.

    Args:
        root: folder that holds the dates.
        drives: names such as `2011_09_26_drive_0001_sync`; all drives below `root` if None.
        cameras: `image_00` and `image_01` (grey), `image_02` and `image_03` (colour).
        depth_root: folder of KITTI's depth PNGs (`train/DRIVE/proj_depth/groundtruth/image_02`, or
            `velodyne_raw/DRIVE/image_02`); without it, depth is the frame's velodyne scan where there is one.
        split_file: list of the frames to keep, in its order: `DATE/DRIVE INDEX l|r` a line (Eigen et al., 2014). It
            takes the place of `drives` and `cameras`.
        neighbours: with a split file, unlisted frames up to so many away from a listed one follow; they are no targets.
        missing: takes the files that are missing, which are logged otherwise.

    Raises:
        DataError: nothing was found; files that are missing among others are logged instead.
    """
    is_logged = missing is None
    missing = missing or MissingFiles("KITTI raw", root)
    if split_file is not None:
        records = _listed(root, read_split_file(split_file), depth_root, missing, neighbours)
    else:
        records = []
        for drive in _drive_folders(root, drives, missing):
            for camera in cameras:
                records += _read_camera(drive, camera, depth_root, missing)
    if is_logged:
        missing.warn(logger)
    if not records:
        what = f"{split_file}" if split_file else f"{list(drives) if drives else 'any drive'} with {list(cameras)}"
        raise DataError(f"no frames of {what} in {root}: expected {LAYOUT}")
    return records


def read_timestamps(path: Path) -> list[int]:
    """Nanoseconds since 1970 of each line of a KITTI `timestamps.txt`, whose times are read as UTC."""
    stamps = []
    for line in path.read_text().split("\n"):
        if line.strip():
            second, _, fraction = line.strip().partition(".")
            moment = datetime.strptime(second, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
            stamps.append(int(moment.timestamp()) * 1_000_000_000 + int(f"{fraction:0<9}"[:9]))
    return stamps


def _drive_folders(root: Path, drives: Sequence[str] | None, missing: MissingFiles) -> list[Path]:
    if drives is None:
        return sorted(path for path in root.glob("*/*_sync") if path.is_dir())
    folders = [root / drive[:10] / drive for drive in drives]
    for folder in folders:
        if not folder.is_dir():
            missing.add("drive", folder)
    return [folder for folder in folders if folder.is_dir()]


def _listed(
    root: Path, entries: Sequence[SplitEntry], depth_root: Path | None, missing: MissingFiles, neighbours: int
) -> list[FrameRecord]:
    found: list[FrameRecord] = []
    for folder, is_right in dict.fromkeys((entry.folder, entry.is_right) for entry in entries):
        drive, camera = root / folder, "image_03" if is_right else "image_02"
        if (drive / camera).is_dir():
            # What the rest of the drive lacks does not matter here.
            found += _read_camera(drive, camera, depth_root, MissingFiles("KITTI raw", drive))
    records = select_listed(by_name(found), entries, missing, neighbours)
    for record in records:
        if record.is_target and record.depth is None:
            missing.add("depth", root / record.name)
    return records


@dataclass(frozen=True)
class _Truth:
    """Where the depth of one camera of one drive is."""

    folder: Path
    suffix: str

    def path(self, index: int) -> Path:
        return self.folder / f"{index:010d}{self.suffix}"


def _read_camera(drive: Path, camera: str, depth_root: Path | None, missing: MissingFiles) -> list[FrameRecord]:
    """Frames of one camera of one drive; none where the drive has no such camera."""
    images = numbered_images(drive / camera / "data")
    if not images:
        missing.add("camera", drive / camera / "data")
        return []
    calibration = drive.parent / CAM_TO_CAM
    if not calibration.is_file():
        missing.add("calibration", calibration)
        return []
    width, height = image_size(next(iter(images.values())))
    number = int(camera[-2:])
    intrinsics = rectified_camera(calibration, number, width, height).normalized()
    partners = numbered_images(drive / STEREO_PARTNER[camera] / "data")
    T_partner_this = camera_from_camera0(calibration, int(STEREO_PARTNER[camera][-2:])) @ np.linalg.inv(
        camera_from_camera0(calibration, number)
    )
    stamps = _stamps(drive / camera / "timestamps.txt")
    oxts = drive / "oxts" / "data"
    has_oxts = oxts.is_dir()
    truth = _truth(drive, camera, depth_root)
    if truth is None and depth_root is not None:
        missing.add("depth folder", depth_root / drive.name)
    for index in missing_numbers(list(images)):
        missing.add("image", drive / camera / "data" / f"{index:010d}")

    records = []
    for index, image in images.items():
        if partners and index not in partners:
            missing.add("stereo partner", drive / STEREO_PARTNER[camera] / "data" / image.name)
        source: DepthSource | None = None
        if truth is not None and not truth.path(index).is_file():
            missing.add("depth", truth.path(index))
        elif truth is not None and truth.suffix == ".bin":
            source = VelodyneScan(truth.path(index), drive.parent, number, width, height)
        elif truth is not None:
            source = DepthPng(truth.path(index))
        records.append(
            FrameRecord(
                image=image,
                intrinsics=intrinsics,
                sequence=f"{drive.name}/{camera}",
                index=index,
                stamp_ns=stamps[index] if index < len(stamps) else index * KITTI_FRAME_PERIOD_NS,
                depth=source,
                stereo=StereoView(partners[index], T_partner_this) if index in partners else None,
                speed=OxtsSpeed(oxts / f"{index:010d}.txt") if has_oxts else None,
            )
        )
    return records


def _stamps(path: Path) -> list[int]:
    return read_timestamps(path) if path.is_file() else []


def _truth(drive: Path, camera: str, depth_root: Path | None) -> _Truth | None:
    if depth_root is None:
        folder = drive / "velodyne_points" / "data"
        return _Truth(folder, ".bin") if folder.is_dir() else None
    candidates = [
        depth_root / part / drive.name / "proj_depth" / kind / camera
        for kind in ("groundtruth", "velodyne_raw")
        for part in (".", "train", "val")
    ]
    candidates.append(depth_root / "velodyne_raw" / drive.name / camera)
    return next((_Truth(folder, ".png") for folder in candidates if folder.is_dir()), None)
