"""Eigen's truth: the projection matrix of KITTI's files, one-based pixels, distance from the laser."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.data.depth_files import DepthPng
from training.data.kitti_calibration import CAM_TO_CAM, VELO_TO_CAM
from training.data.kitti_raw import read_kitti_raw
from training.data.records import FrameRecord
from training.evaluation.eigen_truth import EigenVelodyneScan, with_eigen_truth

# A laser whose x, y, z are the camera's z, -x, -y, 0.3 m behind it; fx = fy = 100, centre (20, 10), 41x21 pixels.
CALIBRATION = """S_rect_02: 41 21
P_rect_02: 100 0 20 0 0 100 10 0 0 0 1 0
R_rect_00: 1 0 0 0 1 0 0 0 1
"""
LASER = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.3\n"


def write_scan(folder: Path, points: list[list[float]]) -> Path:
    (folder / CAM_TO_CAM).write_text(CALIBRATION)
    (folder / VELO_TO_CAM).write_text(LASER)
    path = folder / "scan.bin"
    np.array([[*point, 0.5] for point in points], np.float32).tofile(path)
    return path


def test_pixels_are_one_to_the_left_and_up_and_depth_is_the_lasers(tmp_path: Path) -> None:
    # 10.3 m ahead of the laser is 10 m ahead of the camera; 0.5 m to the right is 5 pixels right of the centre.
    points = [[10.3, -0.5, 0.0], [10.3, 0.0, 0.3], [-4.0, 0.0, 0.0], [5.3, -0.25, 0.0]]
    depth = EigenVelodyneScan(write_scan(tmp_path, points), tmp_path, 2).read()
    assert depth.shape == (21, 41)
    expected = np.zeros((21, 41), np.float32)
    expected[10 - 1, 25 - 1] = 5.3  # hides the first point, which is farther
    expected[7 - 1, 20 - 1] = 10.3
    np.testing.assert_array_equal(depth, expected)


def test_only_scans_are_replaced(tmp_path: Path, shared_data: Path) -> None:
    (png,) = with_eigen_truth([FrameRecord(tmp_path / "a.png", None, "s", 0, 0, depth=DepthPng(tmp_path / "b.png"))])
    assert isinstance(png.depth, DepthPng)
    records = read_kitti_raw(shared_data / "kitti_raw", ["2011_09_26_drive_0001_sync"])
    record = next(record for record in records if record.depth is not None)
    (eigen,) = with_eigen_truth([record])
    assert isinstance(eigen.depth, EigenVelodyneScan)
    ours, theirs = record.depth.read(), eigen.depth.read()
    assert theirs.shape == ours.shape == (375, 1242)
    # The same points one pixel up and left; the laser is 0.27 m behind the camera and looks level within a degree.
    shifted = theirs[:-1, :-1]
    both = (shifted > 0) & (ours[1:, 1:] > 0)
    assert both.sum() > 0.99 * (ours > 0).sum()
    assert abs(np.median(shifted[both] - ours[1:, 1:][both]) - 0.27) < 0.1
