"""KITTI raw: layouts made here, and the real drives with their gaps and reduced sizes."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.depth_files import DepthPng, VelodyneScan
from training.data.kitti_raw import read_kitti_raw, read_timestamps
from training.errors import DataError

DAY = "2011_09_26"
DRIVE = "2011_09_26_drive_0001_sync"
CALIBRATION = """calib_time: 09-Jan-2012 13:57:47
S_rect_02: 20 10
P_rect_02: 10 0 9.5 1 0 10 4.5 0 0 0 1 0
S_rect_03: 20 10
P_rect_03: 10 0 9.5 -4 0 10 4.5 0 0 0 1 0
"""


def make_drive(root: Path, camera: str, numbers: list[int], width: int = 20, drive: str = DRIVE) -> None:
    folder = root / DAY / drive / camera / "data"
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:010d}.png"), np.zeros((width // 2, width, 3), np.uint8))
    (root / DAY / "calib_cam_to_cam.txt").write_text(CALIBRATION)


def test_frames_of_a_drive(tmp_path: Path) -> None:
    make_drive(tmp_path, "image_02", [0, 1, 3])
    records = read_kitti_raw(tmp_path)
    assert [record.index for record in records] == [0, 1, 3]
    assert {record.sequence for record in records} == {f"{DRIVE}/image_02"}
    assert records[2].stamp_ns == 300_000_000
    assert records[0].intrinsics == pytest.approx((10 / 20, 10 / 10, 10 / 20, 5 / 10))
    assert all(r.depth is None and r.stereo is None and r.pose is None for r in records)


def test_intrinsics_do_not_depend_on_the_stored_size(tmp_path: Path) -> None:
    make_drive(tmp_path, "image_02", [0], width=10)
    assert read_kitti_raw(tmp_path)[0].intrinsics == pytest.approx((0.5, 1.0, 0.5, 0.5))


def test_stereo_partner_is_to_the_right_of_the_left_camera(tmp_path: Path) -> None:
    make_drive(tmp_path, "image_02", [0, 1])
    make_drive(tmp_path, "image_03", [0])
    left, alone, right = read_kitti_raw(tmp_path, cameras=["image_02", "image_03"])
    assert left.stereo is not None
    assert right.stereo is not None
    assert alone.stereo is None
    assert left.stereo.image == right.image
    # P_rect's last column over fx: camera 2 sees camera 0's points 0.1 m to the right, camera 3 0.4 m to the left.
    expected = np.eye(4)
    expected[0, 3] = -0.5
    np.testing.assert_allclose(left.stereo.T_other_this, expected, atol=1e-12)
    np.testing.assert_allclose(right.stereo.T_other_this @ left.stereo.T_other_this, np.eye(4), atol=1e-12)


def test_speed_is_the_length_of_the_velocity(tmp_path: Path) -> None:
    make_drive(tmp_path, "image_02", [0, 1, 2])
    folder = tmp_path / DAY / DRIVE / "oxts" / "data"
    folder.mkdir(parents=True)
    (folder / "0000000000.txt").write_text(" ".join(["7"] * 8 + ["12", "3", "4"] + ["7"] * 19))
    (folder / "0000000001.txt").write_text("49.0 8.4")  # cut off
    speeds = [record.speed.read() for record in read_kitti_raw(tmp_path) if record.speed is not None]
    assert speeds == [pytest.approx(13.0), None, None]


def test_missing_files_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_drive(tmp_path, "image_02", [0, 2])
    make_drive(tmp_path, "image_03", [2])
    (tmp_path / DAY / DRIVE / "velodyne_points" / "data").mkdir(parents=True)
    (tmp_path / DAY / DRIVE / "velodyne_points" / "data" / "0000000002.bin").touch()
    records = read_kitti_raw(tmp_path, [DRIVE, "2011_09_26_drive_0002_sync"])
    assert [record.depth is None for record in records] == [True, False]
    warnings = [record.getMessage() for record in caplog.records]
    for kind, name in [
        ("drive", "drive_0002_sync"),
        ("image", "image_02/data/0000000001"),
        ("stereo partner", "image_03/data/0000000000.png"),
        ("depth", "velodyne_points/data/0000000000.bin"),
    ]:
        assert any(f"1 missing ({kind})" in text and name in text for text in warnings), (kind, warnings)


def test_nothing_found_names_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image_0C/data"):
        read_kitti_raw(tmp_path)
    with pytest.raises(DataError, match="drive_0099"):
        read_kitti_raw(tmp_path, ["2011_09_26_drive_0099_sync"])


def test_drive_without_calibration_is_missing_not_guessed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_drive(tmp_path, "image_02", [0])
    (tmp_path / DAY / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(DataError):
        read_kitti_raw(tmp_path)
    assert "missing (calibration)" in caplog.text


@pytest.mark.parametrize(
    "folder",
    [
        f"train/{DRIVE}/proj_depth/groundtruth/image_02",
        f"{DRIVE}/proj_depth/velodyne_raw/image_02",
        f"velodyne_raw/{DRIVE}/image_02",
    ],
)
def test_depth_pngs_take_the_place_of_scans(tmp_path: Path, folder: str) -> None:
    make_drive(tmp_path / "raw", "image_02", [0])
    path = tmp_path / "depth" / folder / "0000000000.png"
    path.parent.mkdir(parents=True)
    path.touch()
    (record,) = read_kitti_raw(tmp_path / "raw", depth_root=tmp_path / "depth")
    assert isinstance(record.depth, DepthPng)
    assert record.depth.path.samefile(path)


def test_split_file_gives_frames_and_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_drive(tmp_path, "image_02", [0, 1, 2])
    make_drive(tmp_path, "image_03", [1])
    lines = [f"{DAY}/{DRIVE} 0000000002 l", f"{DAY}/{DRIVE} 1 r", f"{DAY}/{DRIVE} 0000000000 l", f"{DAY}/{DRIVE} 9 l"]
    (tmp_path / "split.txt").write_text("\n".join(lines) + "\n")
    records = read_kitti_raw(tmp_path, split_file=tmp_path / "split.txt")
    assert [(r.sequence[-8:], r.index) for r in records] == [("image_02", 2), ("image_03", 1), ("image_02", 0)]
    assert "1 missing (image)" in caplog.text
    with pytest.raises(DataError, match=r"absent\.txt"):
        read_kitti_raw(tmp_path, split_file=tmp_path / "absent.txt")


def test_split_file_of_another_form_is_refused(tmp_path: Path) -> None:
    make_drive(tmp_path, "image_02", [0])
    (tmp_path / "split.txt").write_text(f"{DAY}/{DRIVE} 0 left\n")
    with pytest.raises(DataError, match=r"line 1.*l\|r"):
        read_kitti_raw(tmp_path, split_file=tmp_path / "split.txt")


def test_timestamps_are_read_to_the_nanosecond(tmp_path: Path) -> None:
    (tmp_path / "timestamps.txt").write_text("1970-01-01 00:00:01.961661696\n2011-09-26 13:02:25.5\n")
    # 2011-09-26 is day 15243 since 1970-01-01.
    noon = 15243 * 86400 + 13 * 3600 + 2 * 60 + 25
    assert read_timestamps(tmp_path / "timestamps.txt") == [1_961_661_696, noon * 10**9 + 500_000_000]


def test_drive_0001_has_stamps_and_scans(shared_data: Path) -> None:
    records = read_kitti_raw(shared_data / "kitti_raw", [DRIVE])
    assert [r.index for r in records] == [0, 1, 2, 3, 4, 5, 25, 45, 65, 85]
    assert [r.index for r in records if isinstance(r.depth, VelodyneScan)] == [5, 25, 45, 65, 85]
    steps = np.diff([r.stamp_ns for r in records])[:5] / 1e9
    np.testing.assert_allclose(steps, 0.1, atol=0.01)


def test_drive_0039_is_grey_stereo_at_two_thirds(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        records = read_kitti_raw(shared_data / "kitti_raw", ["2011_09_26_drive_0039_sync"], ["image_00"])
    assert len(records) == 300
    assert 23 not in {r.index for r in records}
    assert [r.index for r in records if r.stereo is None] == [22]
    assert "image_00/data/0000000023" in caplog.text
    expected = (721.5377 / 1242, 721.5377 / 375, 610.0593 / 1242, 173.354 / 375)
    assert records[0].intrinsics == pytest.approx(expected, rel=1e-9)
    assert records[0].stereo is not None
    assert records[0].stereo.T_other_this[0, 3] == pytest.approx(-0.53715, abs=1e-5)
