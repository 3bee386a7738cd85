"""KITTI calibration against its authors' published geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_node.errors import CameraError
from training.data.kitti_calibration import camera_from_camera0, read_calibration, rectified_camera


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "calib_cam_to_cam.txt"
    path.write_text(
        "calib_time: 09-Jan-2012 13:57:47\n"
        "S_rect_02: 1.242000e+03 3.750000e+02\n"
        "P_rect_02: 7.2e+02 0 6.1e+02 3.6e+01 0 7.2e+02 1.7e+02 7.2e-01 0 0 1 5.0e-03\n"
        "P_rect_03: 7.2e+02 0 6.1e+02 0 0 7.2e+02 1.7e+02\n"
    )
    return path


def test_entries_without_numbers_are_left_out(calibration: Path) -> None:
    entries = read_calibration(calibration)
    assert sorted(entries) == ["P_rect_02", "P_rect_03", "S_rect_02"]
    np.testing.assert_array_equal(entries["S_rect_02"], [1242, 375])


def test_intrinsics_follow_the_stored_size(calibration: Path) -> None:
    whole = rectified_camera(calibration, 2, 1242, 375)
    assert (whole.fx, whole.fy, whole.cx, whole.cy) == (720, 720, 610, 170)
    half = rectified_camera(calibration, 2, 621, 375)
    # Pixel centres at integers: x' = (x + 0.5) / 2 - 0.5.
    assert (half.fx, half.fy, half.cx, half.cy) == (360, 720, 304.75, 170)


def test_camera_offset_is_the_projection_undone(calibration: Path) -> None:
    # P = K [I | t] with t = (tx, ty, tz): its last column is (fx tx + cx tz, fy ty + cy tz, tz).
    tz = 5.0e-3
    expected = np.eye(4)
    expected[:3, 3] = (36 - 610 * tz) / 720, (0.72 - 170 * tz) / 720, tz
    np.testing.assert_allclose(camera_from_camera0(calibration, 2), expected, atol=1e-12)


def test_missing_and_short_entries_are_told(calibration: Path) -> None:
    with pytest.raises(CameraError, match="expected P_rect_01 with 12 numbers, got no such entry"):
        rectified_camera(calibration, 1, 1242, 375)
    with pytest.raises(CameraError, match="expected P_rect_03 with 12 numbers, got 7 numbers"):
        rectified_camera(calibration, 3, 1242, 375)


def test_kitti_stereo_baseline(shared_data: Path) -> None:
    path = shared_data / "kitti_raw" / "2011_09_26" / "calib_cam_to_cam.txt"
    grey = camera_from_camera0(path, 1)[0, 3] - camera_from_camera0(path, 0)[0, 3]
    color = camera_from_camera0(path, 3)[0, 3] - camera_from_camera0(path, 2)[0, 3]
    assert grey == pytest.approx(-0.537, abs=1e-3)
    assert color == pytest.approx(-0.5327, abs=2e-3)
