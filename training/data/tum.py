"""TUM RGB-D sequences (Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012).

ROOT/associations.txt      `time rgb/FILE time depth/FILE` a line, seconds
ROOT/groundtruth.txt       `time tx ty tz qx qy qz qw`: T_world_camera of the colour camera, by motion capture
ROOT/rgb, ROOT/depth       depth: uint16 / 5000 = metres, 0 = none, registered with the colour image
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_node.camera import PinholeCamera
from training.data.depth_files import TUM_PNG_SCALE, DepthPng
from training.data.records import FrameRecord, Matrix, MissingFiles
from training.errors import DataError

LAYOUT = "ROOT/associations.txt, ROOT/rgb, ROOT/depth and ROOT/groundtruth.txt"
FRAMES_PER_SECOND = 30.0
LONGEST_POSE_GAP = 0.1

# The data set's calibration page, 640x480; the lens distortion of fr1 and fr2 is left in the images.
CAMERAS = {
    1: PinholeCamera(width=640, height=480, fx=517.3, fy=516.5, cx=318.6, cy=255.3),
    2: PinholeCamera(width=640, height=480, fx=520.9, fy=521.0, cx=325.1, cy=249.7),
    3: PinholeCamera(width=640, height=480, fx=535.4, fy=539.2, cx=320.1, cy=247.6),
}
DISTORTION = {
    1: (0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    2: (0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    3: (0.0, 0.0, 0.0, 0.0, 0.0),
}

logger = logging.getLogger(__name__)


def read_tum(root: Path, camera: int = 1, is_rectified_later: bool = False) -> list[FrameRecord]:
    """Frames of one TUM RGB-D sequence with depth and pose.

    Frame numbers count 1/30 s, so that a dropped frame leaves a gap. Poses are interpolated at the time of the image.

    Args:
        root: folder of the sequence.
        camera: the Kinect: 1, 2 or 3, for freiburg1, freiburg2 or freiburg3.
        is_rectified_later: the caller undoes the lens distortion, about which there is a warning otherwise.

    Raises:
        DataError: nothing was found; files that are missing among others are logged instead.
    """
    if camera not in CAMERAS:
        raise DataError(f"camera {camera}: expected 1, 2 or 3, the number after freiburg")
    associations = root / "associations.txt"
    if not associations.is_file():
        raise DataError(f"no {associations}: expected {LAYOUT}")
    if any(DISTORTION[camera]) and not is_rectified_later:
        logger.warning("TUM %s: lens distortion %s is left in the images", root.name, DISTORTION[camera])
    missing = MissingFiles("TUM", root)
    trajectory = _trajectory(root / "groundtruth.txt", missing)
    records: list[FrameRecord] = []
    index, previous = 0, None
    for line in associations.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        stamp, rgb, _, depth = line.split()
        seconds = float(stamp)
        if previous is not None:
            index += max(1, round((seconds - previous) * FRAMES_PER_SECOND))
        previous = seconds
        if not (root / rgb).is_file():
            missing.add("image", root / rgb)
            continue
        if not (root / depth).is_file():
            missing.add("depth", root / depth)
        records.append(
            FrameRecord(
                image=root / rgb,
                intrinsics=CAMERAS[camera].normalized(),
                sequence=root.resolve().name,
                index=index,
                stamp_ns=_nanoseconds(stamp),
                pose=trajectory.at(seconds) if trajectory else None,
                depth=DepthPng(root / depth, TUM_PNG_SCALE) if (root / depth).is_file() else None,
            )
        )
    missing.warn(logger)
    if not records:
        raise DataError(f"no frames in {root}: expected {LAYOUT}")
    return records


@dataclass(frozen=True)
class _Trajectory:
    """seconds: float64 [N]; positions: float64 [N, 3]; quaternions: float64 [N, 4] as x, y, z, w."""

    seconds: Matrix
    positions: Matrix
    quaternions: Matrix

    def at(self, seconds: float) -> Matrix | None:
        """T_world_camera between the two nearest samples; None outside the recording or in a hole of it."""
        after = int(np.searchsorted(self.seconds, seconds))
        if after == 0 or after == len(self.seconds):
            return None
        gap = self.seconds[after] - self.seconds[after - 1]
        if gap > LONGEST_POSE_GAP:
            return None
        share = (seconds - self.seconds[after - 1]) / gap
        first, second = self.quaternions[after - 1], self.quaternions[after]
        # Samples are 10 ms apart: the normalised chord differs from the arc by far less than the mocap's noise.
        quaternion = (1 - share) * first + share * second * np.sign(first @ second)
        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(quaternion / np.linalg.norm(quaternion))
        matrix[:3, 3] = (1 - share) * self.positions[after - 1] + share * self.positions[after]
        return matrix


def _trajectory(path: Path, missing: MissingFiles) -> _Trajectory | None:
    if not path.is_file():
        missing.add("poses", path)
        return None
    rows = np.loadtxt(path, dtype=np.float64, ndmin=2)
    if rows.shape[1] != 8:
        raise DataError(f"{path} has {rows.shape[1]} numbers a line: expected time tx ty tz qx qy qz qw")
    return _Trajectory(rows[:, 0], rows[:, 1:4], rows[:, 4:])


def _rotation(quaternion: Matrix) -> Matrix:
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _nanoseconds(stamp: str) -> int:
    seconds, _, fraction = stamp.partition(".")
    return int(seconds) * 1_000_000_000 + int(f"{fraction:0<9}"[:9])
