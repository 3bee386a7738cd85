"""KITTI stereo 2015 (Menze and Geiger, CVPR 2015): single frames with their stereo partner and dense disparities.

ROOT/image_2/000000_10.png, ROOT/image_3/..., ROOT/disp_occ_0/000000_10.png      png or jpg; or below ROOT/training
ROOT/calib_cam_to_cam/000000.txt      of the benchmark; without it, the constants of 2011_09_26
ROOT/SPLIT.txt                        names of a split's frames, the first word of each line
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
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

logger = logging.getLogger(__name__)


def read_kitti_2015(root: Path, split: str | None = None, missing: MissingFiles | None = None) -> list[FrameRecord]:
    """Left frames of KITTI 2015 with stereo partner and disparity truth.

    Args:
        root: the benchmark's folder or its `training` folder.
        split: `training`, `validation` or the name of any other list `ROOT/SPLIT.txt`; all frames if None.
        missing: takes the files that are missing, which are logged otherwise.

    Raises:
        DataError: nothing was found, or there is no such split; files missing among others are logged instead.
    """
    if not (root / "image_2").is_dir() and (root / "training" / "image_2").is_dir():
        root = root / "training"
    images = {path.stem: path for path in image_files(root / "image_2") if path.stem.endswith("_10")}
    is_logged = missing is None
    missing = missing or MissingFiles("KITTI 2015", root)
    names = list(images) if split is None else _split_names(root, split)
    records = []
    for name in names:
        if name in images:
            records.append(_read_frame(root, images[name], missing))
        else:
            missing.add("image", root / "image_2" / name)
    if is_logged:
        missing.warn(logger)
    if not records:
        raise DataError(f"no frames{f' of {split}' if split else ''} in {root}: expected {LAYOUT}")
    return records


@dataclass(frozen=True)
class _Rig:
    camera: PinholeCamera
    T_right_left: Matrix

    @property
    def focal_baseline(self) -> float:
        return float(-self.T_right_left[0, 3] * self.camera.fx)


def _split_names(root: Path, split: str) -> list[str]:
    path = root / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in root.glob("*.txt"))) or "none"
        raise DataError(f"no split {split!r} in {root} (there: {there}): expected {LAYOUT}")
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def _read_frame(root: Path, image: Path, missing: MissingFiles) -> FrameRecord:
    sequence, _, number = image.stem.partition("_")
    rig = _rig(root / "calib_cam_to_cam" / f"{sequence}.txt", image)
    right = next(
        (path for suffix in (".png", ".jpg") if (path := root / "image_3" / f"{image.stem}{suffix}").is_file()), None
    )
    disparity = root / "disp_occ_0" / f"{image.stem}.png"
    if right is None:
        missing.add("stereo partner", root / "image_3" / image.name)
    if not disparity.is_file():
        missing.add("disparity", disparity)
    return FrameRecord(
        image=image,
        intrinsics=rig.camera.normalized(),
        sequence=f"kitti_2015/{sequence}",
        index=int(number),
        stamp_ns=int(number) * KITTI_FRAME_PERIOD_NS,
        depth=DisparityPng(disparity, _focal_baseline(rig, disparity)) if disparity.is_file() else None,
        stereo=StereoView(right, rig.T_right_left) if right else None,
    )


def _rig(calibration: Path, image: Path) -> _Rig:
    """The stereo rig at the size of `image`."""
    width, height = image_size(image)
    if calibration.is_file():
        T_left_camera0, T_right_camera0 = (camera_from_camera0(calibration, number) for number in (2, 3))
        return _Rig(rectified_camera(calibration, 2, width, height), T_right_camera0 @ np.linalg.inv(T_left_camera0))
    camera = PinholeCamera(width=SIZE[0], height=SIZE[1], fx=FOCAL, fy=FOCAL, cx=CX, cy=CY)
    return _Rig(PinholeCamera.from_normalized(camera.normalized(), width, height), translation(-BASELINE, 0, 0))


def _focal_baseline(rig: _Rig, disparity: Path) -> float:
    """Depth times disparity in the pixels of the disparity's own file, whose size need not be the image's."""
    width, _ = image_size(disparity)
    return rig.focal_baseline * width / rig.camera.width
