"""Depth as data sets store it: against closed forms, and lidar scans against KITTI's own depth PNGs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.depth_files import DepthPng, DisparityPng, VelodyneScan, read_png16, read_velodyne
from training.errors import DataError

FOCAL, CX, CY = 100.0, 49.5, 24.5


def write_calibration(folder: Path) -> None:
    """A camera of 100x50 pixels at the laser's place: velodyne x forward is camera z, y left is -x, z up is -y."""
    (folder / "calib_cam_to_cam.txt").write_text(
        "calib_time: 09-Jan-2012 13:57:47\n"
        "R_rect_00: 1 0 0 0 1 0 0 0 1\n"
        "S_rect_02: 100 50\n"
        f"P_rect_02: {FOCAL} 0 {CX} 0 0 {FOCAL} {CY} 0 0 0 1 0\n"
    )
    (folder / "calib_velo_to_cam.txt").write_text("R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n")


def write_scan(path: Path, points: list[tuple[float, float, float]]) -> None:
    np.array([(*point, 0.5) for point in points], np.float32).tofile(path)


def test_depth_png_is_value_over_scale(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "d.png"), np.array([[0, 256, 1000], [5000, 65535, 1]], np.uint16))
    kitti = DepthPng(tmp_path / "d.png").read()
    assert kitti.dtype == np.float32
    np.testing.assert_allclose(kitti, [[0, 1, 3.90625], [19.53125, 255.99609375, 0.00390625]])
    np.testing.assert_allclose(DepthPng(tmp_path / "d.png", 5000).read()[1, 0], 1.0)


def test_disparity_png_is_focal_baseline_over_pixels(tmp_path: Path) -> None:
    # KITTI 2015: 721.5377 px * 0.5327 m = 384.363 px m, so that 38.4363 px are 10 m.
    cv2.imwrite(str(tmp_path / "d.png"), np.array([[0, 256, round(38.4363 * 256)]], np.uint16))
    depth = DisparityPng(tmp_path / "d.png", 721.5377 * 0.5327).read()
    assert depth[0, 0] == 0
    assert depth[0, 1] == pytest.approx(384.3631, abs=1e-3)
    assert depth[0, 2] == pytest.approx(10.0, abs=1e-3)


@pytest.mark.parametrize("image", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint16)])
def test_png_of_another_kind_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "d.png"), image)
    with pytest.raises(DataError, match="16-bit PNG"):
        read_png16(tmp_path / "d.png")


def test_missing_png_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.png"):
        DepthPng(tmp_path / "d.png").read()


def test_laser_points_land_where_the_pinhole_formula_says(tmp_path: Path) -> None:
    write_calibration(tmp_path)
    # Forward 10 m, 1 m left and 0.5 m up: x = 49.5 - 10 = 39.5 (rounds to even: 40), y = 24.5 - 5 = 19.5 (20).
    # Forward 4 m, 0.21 m right and 0.3 m down: x = 49.5 + 5.25 (55), y = 24.5 + 7.5 = 32.
    write_scan(tmp_path / "s.bin", [(10, 1, 0.5), (4, -0.21, -0.3)])
    depth = VelodyneScan(tmp_path / "s.bin", tmp_path, 2, 100, 50).read()
    assert depth.shape == (50, 100)
    rows, columns = np.nonzero(depth)
    assert set(zip(rows.tolist(), columns.tolist(), depth[rows, columns].tolist(), strict=True)) == {
        (20, 40, 10.0),
        (32, 55, 4.0),
    }


def test_nearest_laser_point_wins_and_points_outside_are_left_out(tmp_path: Path) -> None:
    write_calibration(tmp_path)
    write_scan(tmp_path / "s.bin", [(20, 0, 0), (5, 0, 0), (9, 0, 0), (-5, 0, 0), (1, 30, 0), (1, 0, -30)])
    depth = VelodyneScan(tmp_path / "s.bin", tmp_path, 2, 100, 50).read()
    assert depth.max() == depth.sum() == 5.0


def test_laser_points_follow_the_stored_size(tmp_path: Path) -> None:
    write_calibration(tmp_path)
    write_scan(tmp_path / "s.bin", [(10, 1, 0)])
    depth = VelodyneScan(tmp_path / "s.bin", tmp_path, 2, 50, 25).read()
    # cx' = (49.5 + 0.5) / 2 - 0.5 = 24.5, fx' = 50: x = 24.5 - 5 = 19.5; cy' = 12.
    assert depth.shape == (25, 50)
    assert depth[12, 20] == 10.0


def test_scan_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.bin").write_bytes(b"\0" * 33)
    with pytest.raises(DataError, match="33 bytes"):
        read_velodyne(tmp_path / "s.bin")
    with pytest.raises(DataError, match=r"absent\.bin"):
        read_velodyne(tmp_path / "absent.bin")


@pytest.mark.parametrize("index", [5, 45, 85])
def test_projected_scan_agrees_with_kittis_depth_png(shared_data: Path, index: int) -> None:
    day = shared_data / "kitti_raw" / "2011_09_26"
    drive = "2011_09_26_drive_0001_sync"
    scan = VelodyneScan(day / drive / "velodyne_points" / "data" / f"{index:010d}.bin", day, 2, 1242, 375).read()
    folder = shared_data / "kitti_depth" / "train" / drive / "proj_depth" / "groundtruth" / "image_02"
    official = DepthPng(folder / f"{index:010d}.png").read()

    def median_difference(shift: tuple[int, int]) -> float:
        moved = np.roll(scan, shift, (0, 1))
        both = (moved > 0) & (official > 0)
        assert both.sum() > 6000
        return float(np.median(np.abs(moved - official)[both] / official[both]))

    here = median_difference((0, 0))
    assert here < 0.006
    # A pixel convention that is off by one would be seen here.
    assert here < min(median_difference(shift) for shift in [(0, 1), (0, -1), (1, 0), (-1, 0), (-1, -1)])
