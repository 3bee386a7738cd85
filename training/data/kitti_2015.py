"""KITTI stereo 2015 (Menze and Geiger, CVPR 2015): single frames with their stereo partner and dense disparities.

ROOT/image_2/000000_10.png, ROOT/image_3/..., ROOT/disp_occ_0/000000_10.png      png or jpg; or below ROOT/training
ROOT/calib_cam_to_cam/000000.txt      of the benchmark; without it, the constants of 2011_09_26
ROOT/SPLIT.txt                        names of a split's frames, the first word of each line
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from depth_node.camera import PinholeCamera
from training.data.depth_files import DisparityPng
from training.data.kitti_calibration import camera_from_camera0, rectified_camera
from training.data.records import (
    KITTI_FRAME_PERIOD_NS,
    FrameRecord,
    Matrix,
    MissingFiles,
    StereoView,
    image_files,
    image_size,
    translation,
)
from training.errors import DataError

LAYOUT = "ROOT/image_2/NNNNNN_10.png|jpg, ROOT/disp_occ_0/NNNNNN_10.png and, for a split, ROOT/SPLIT.txt"
# Cameras 2 and 3 of 2011_09_26, the day of all training frames that are 1242 pixels wide.
SIZE = (1242, 375)
FOCAL, CX, CY = 721.5377, 609.5593, 172.854
BASELINE = 0.5327
LEFT, RIGHT = "image_2", "image_3"

logger = logging.getLogger(__name__)


def read_kitti_2015(
    root: Path, split: str | None = None, missing: MissingFiles | None = None, cameras: Sequence[str] = (LEFT,)
) -> list[FrameRecord]:
    """Frames of KITTI 2015 with their stereo partner, and disparity truth for the left camera.

    Args:
        root: the benchmark's folder or its `training` folder.
        split: `training`, `validation` or the name of any other list `ROOT/SPLIT.txt`; all frames if None.
        cameras: `image_2` (left) and `image_3` (right), which has no truth of its own.
        missing: takes the files that are missing, which are logged otherwise.

    Raises:
        DataError: nothing was found, or there is no such split or camera; files missing among others are only logged.
    """
    unknown = sorted(set(cameras) - {LEFT, RIGHT})
    if unknown:
        raise DataError(f"KITTI 2015 has no camera {', '.join(unknown)}; it has {LEFT} and {RIGHT}")
    if not (root / "image_2").is_dir() and (root / "training" / "image_2").is_dir():
        root = root / "training"
    images = {path.stem: path for path in image_files(root / "image_2") if path.stem.endswith("_10")}
    is_logged = missing is None
    missing = missing or MissingFiles("KITTI 2015", root)
    names = list(images) if split is None else _split_names(root, split)
    records = []
    for name in names:
        if name in images:
            views = _read_pair(root, images[name], missing)
            records += [views[camera] for camera in cameras if camera in views]
        else:
            missing.add("image", root / "image_2" / name)
    if is_logged:
        missing.warn(logger)
    if not records:
        raise DataError(f"no frames{f' of {split}' if split else ''} in {root}: expected {LAYOUT}")
    return records


@dataclass(frozen=True)
class _Rig:
    left: PinholeCamera
    right: PinholeCamera
    T_right_left: Matrix

    @property
    def focal_baseline(self) -> float:
        return float(-self.T_right_left[0, 3] * self.left.fx)


def _split_names(root: Path, split: str) -> list[str]:
    path = root / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in root.glob("*.txt"))) or "none"
        raise DataError(f"no split {split!r} in {root} (there: {there}): expected {LAYOUT}")
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def _read_pair(root: Path, image: Path, missing: MissingFiles) -> dict[str, FrameRecord]:
    """The left frame, and the right one where it is there, by camera."""
    sequence, _, number = image.stem.partition("_")
    rig = _rig(root / "calib_cam_to_cam" / f"{sequence}.txt", image)
    right = next(
        (path for suffix in (".png", ".jpg") if (path := root / RIGHT / f"{image.stem}{suffix}").is_file()), None
    )
    disparity = root / "disp_occ_0" / f"{image.stem}.png"
    if right is None:
        missing.add("stereo partner", root / RIGHT / image.name)
    if not disparity.is_file():
        missing.add("disparity", disparity)
    left = FrameRecord(
        image=image,
        intrinsics=rig.left.normalized(),
        sequence=f"kitti_2015/{sequence}",
        index=int(number),
        stamp_ns=int(number) * KITTI_FRAME_PERIOD_NS,
        depth=DisparityPng(disparity, _focal_baseline(rig, disparity)) if disparity.is_file() else None,
        stereo=StereoView(right, rig.T_right_left) if right else None,
    )
    if right is None:
        return {LEFT: left}
    partner = replace(
        left,
        image=right,
        intrinsics=rig.right.normalized(),
        sequence=f"{left.sequence}/{RIGHT}",
        depth=None,
        stereo=StereoView(image, np.asarray(np.linalg.inv(rig.T_right_left), np.float64)),
    )
    return {LEFT: left, RIGHT: partner}


def _rig(calibration: Path, image: Path) -> _Rig:
    """The stereo rig at the size of `image`."""
    width, height = image_size(image)
    if calibration.is_file():
        T_left_camera0, T_right_camera0 = (camera_from_camera0(calibration, number) for number in (2, 3))
        left, right = (rectified_camera(calibration, number, width, height) for number in (2, 3))
        return _Rig(left, right, T_right_camera0 @ np.linalg.inv(T_left_camera0))
    whole = PinholeCamera(width=SIZE[0], height=SIZE[1], fx=FOCAL, fy=FOCAL, cx=CX, cy=CY)
    camera = PinholeCamera.from_normalized(whole.normalized(), width, height)
    return _Rig(camera, camera, translation(-BASELINE, 0, 0))


def _focal_baseline(rig: _Rig, disparity: Path) -> float:
    """Depth times disparity in the pixels of the disparity's own file, whose size need not be the image's."""
    width, _ = image_size(disparity)
    return rig.focal_baseline * width / rig.left.width
