"""KITTI odometry benchmark (Geiger et al., CVPR 2012).

ROOT/sequences/NN/calib.txt            P0 to P3, for the size in which the images are stored
ROOT/sequences/NN/image_C/000000.png   C is 0, 1 (grey), 2 or 3 (colour); png or jpg
ROOT/sequences/NN/times.txt            seconds; 10 Hz where there is none
ROOT/poses/NN.txt                      T_world_camera0, twelve numbers a frame
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from depth_node.camera import PinholeCamera
from training.data.kitti_calibration import read_calibration
from training.data.records import (
    KITTI_FRAME_PERIOD_NS,
    FrameRecord,
    Matrix,
    MissingFiles,
    StereoView,
    image_size,
    missing_numbers,
    numbered_images,
)
from training.data.splits import SplitEntry, by_name, read_split_file, select_listed
from training.errors import DataError

LAYOUT = "ROOT/sequences/NN/image_C/*.png|jpg and ROOT/sequences/NN/calib.txt"
STEREO_PARTNER = {"image_0": "image_1", "image_1": "image_0", "image_2": "image_3", "image_3": "image_2"}

logger = logging.getLogger(__name__)


def read_kitti_odometry(
    root: Path,
    sequences: Sequence[str] | None = None,
    cameras: Sequence[str] = ("image_2", "image_0"),
    split_file: Path | None = None,
    neighbours: int = 0,
    missing: MissingFiles | None = None,
) -> list[FrameRecord]:
    """Frames of KITTI odometry sequences, each with its pose where the poses file has one.

    Args:
        root: folder that holds `sequences` and `poses`.
        sequences: names such as `03`; all below `root/sequences` if None.
        cameras: the first of these that a sequence has is read (grey sequences lack `image_2`).
        split_file: list of the frames to keep, in its order: `SEQUENCE INDEX l|r` a line, as of 09 and 10 (Zhou et al.,
            2017). It takes the place of `sequences` and `cameras`.
        neighbours: with a split file, unlisted frames up to so many away from a listed one follow; they are no targets.
        missing: takes the files that are missing, which are logged otherwise.

    Raises:
        DataError: nothing was found, or a calib.txt lacks the camera; files missing among others are logged instead.
    """
    is_logged = missing is None
    missing = missing or MissingFiles("KITTI odometry", root)
    if split_file is not None:
        records = _listed(root, read_split_file(split_file), missing, neighbours)
    else:
        records = _read_sequences(root, sequences, cameras, missing)
    if is_logged:
        missing.warn(logger)
    if not records:
        what = split_file or list(sequences or []) or "any sequence"
        raise DataError(f"no frames of {what} in {root}: expected {LAYOUT}")
    return records


def _listed(root: Path, entries: Sequence[SplitEntry], missing: MissingFiles, neighbours: int) -> list[FrameRecord]:
    found: list[FrameRecord] = []
    for folder, is_right in dict.fromkeys((entry.folder, entry.is_right) for entry in entries):
        sequence, cameras = folder.zfill(2), ("image_3", "image_1") if is_right else ("image_2", "image_0")
        camera = next((name for name in cameras if (root / "sequences" / sequence / name).is_dir()), None)
        if camera is not None:
            # What the rest of the sequence lacks does not matter here.
            found += _read_sequence(root, sequence, camera, MissingFiles("KITTI odometry", root))
    return select_listed(by_name(found), entries, missing, neighbours)


def _read_sequences(
    root: Path, sequences: Sequence[str] | None, cameras: Sequence[str], missing: MissingFiles
) -> list[FrameRecord]:
    folder = root / "sequences"
    if sequences is None:
        sequences = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    records: list[FrameRecord] = []
    for sequence in sequences:
        camera = next((name for name in cameras if (folder / sequence / name).is_dir()), None)
        if camera is None:
            missing.add("sequence with any of " + ", ".join(cameras), folder / sequence)
            continue
        records += _read_sequence(root, sequence, camera, missing)
    return records


def _read_sequence(root: Path, sequence: str, camera: str, missing: MissingFiles) -> list[FrameRecord]:
    folder = root / "sequences" / sequence
    images = numbered_images(folder / camera)
    if not images:
        missing.add("images", folder / camera)
        return []
    for index in missing_numbers(list(images)):
        missing.add("image", folder / camera / f"{index:06d}")
    projections = _projections(folder / "calib.txt")
    number = int(camera[-1])
    if number not in projections:
        raise DataError(f"{folder / 'calib.txt'} has P{sorted(projections)}: expected P{number} for {camera}")
    projection = projections[number]
    width, height = image_size(next(iter(images.values())))
    pinhole = PinholeCamera(
        width=width,
        height=height,
        fx=float(projection[0, 0]),
        fy=float(projection[1, 1]),
        cx=float(projection[0, 2]),
        cy=float(projection[1, 2]),
    )
    T_camera_camera0 = _camera_from_camera0(projection)
    T_camera0_camera = np.linalg.inv(T_camera_camera0)
    poses = _poses(root / "poses" / f"{sequence}.txt", missing)
    times = folder / "times.txt"
    stamps = [round(float(line) * 1e9) for line in times.read_text().split()] if times.is_file() else []
    partner = STEREO_PARTNER[camera]
    partners = numbered_images(folder / partner) if int(partner[-1]) in projections else {}
    stereo: dict[int, StereoView] = {}
    if partners:
        T_partner_this = _camera_from_camera0(projections[int(partner[-1])]) @ T_camera0_camera
        stereo = {index: StereoView(path, T_partner_this) for index, path in partners.items()}
        for index in set(images) - set(partners):
            missing.add("stereo partner", folder / partner / images[index].name)
    return [
        FrameRecord(
            image=image,
            intrinsics=pinhole.normalized(),
            sequence=f"{sequence}/{camera}",
            index=index,
            stamp_ns=stamps[index] if index < len(stamps) else index * KITTI_FRAME_PERIOD_NS,
            pose=poses[index] @ T_camera0_camera if index < len(poses) else None,
            stereo=stereo.get(index),
        )
        for index, image in images.items()
    ]


def _projections(path: Path) -> dict[int, Matrix]:
    """Projection matrices [3, 4] of calib.txt by camera number."""
    if not path.is_file():
        raise DataError(f"no {path}: expected {LAYOUT}")
    entries = read_calibration(path)
    return {
        int(name[1:]): values.reshape(3, 4)
        for name, values in entries.items()
        if name in ("P0", "P1", "P2", "P3") and values.size == 12
    }


def _camera_from_camera0(projection: Matrix) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    return matrix


def _poses(path: Path, missing: MissingFiles) -> list[Matrix]:
    """T_world_camera0, float64 [4, 4] a frame."""
    if not path.is_file():
        missing.add("poses", path)
        return []
    rows = np.loadtxt(path, dtype=np.float64, ndmin=2)
    if rows.shape[1] != 12:
        raise DataError(f"{path} has {rows.shape[1]} numbers a line: expected the 12 of a 3x4 pose")
    return [np.vstack([row.reshape(3, 4), [0, 0, 0, 1]]) for row in rows]
