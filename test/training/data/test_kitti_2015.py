"""KITTI 2015: splits, constants, and disparities that really match the stereo images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.depth_files import DisparityPng
from training.data.kitti_2015 import read_kitti_2015
from training.errors import DataError


def make_frame(root: Path, name: str, width: int = 1242, disparity_width: int = 1242) -> None:
    for folder in ("image_2", "image_3"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / folder / f"{name}.png"), np.zeros((width * 375 // 1242, width, 3), np.uint8))
    (root / "disp_occ_0").mkdir(exist_ok=True)
    disparity = np.full((disparity_width * 375 // 1242, disparity_width), 256 * 10, np.uint16)
    cv2.imwrite(str(root / "disp_occ_0" / f"{name}.png"), disparity)


def test_frame_with_constants_of_the_day(tmp_path: Path) -> None:
    make_frame(tmp_path / "training", "000007_10")
    make_frame(tmp_path / "training", "000007_11")
    (record,) = read_kitti_2015(tmp_path)
    assert record.name == "kitti_2015/000007/0000000010"
    assert record.intrinsics == pytest.approx((721.5377 / 1242, 721.5377 / 375, 610.0593 / 1242, 173.354 / 375))
    assert record.stereo is not None
    assert record.stereo.T_other_this[0, 3] == pytest.approx(-0.5327)
    assert record.depth is not None
    assert record.depth.read()[0, 0] == pytest.approx(721.5377 * 0.5327 / 10, rel=1e-6)


@pytest.mark.parametrize("image_width", [1242, 621])
def test_disparity_belongs_to_its_own_width(tmp_path: Path, image_width: int) -> None:
    make_frame(tmp_path, "000007_10", image_width, disparity_width=621)
    (record,) = read_kitti_2015(tmp_path)
    assert record.depth is not None
    # Half the width: 10 px there are 20 px of the full width.
    assert record.depth.read()[0, 0] == pytest.approx(721.5377 * 0.5327 / 20, rel=1e-6)


def test_calibration_of_the_benchmark_is_preferred(tmp_path: Path) -> None:
    make_frame(tmp_path, "000007_10")
    (tmp_path / "calib_cam_to_cam").mkdir()
    (tmp_path / "calib_cam_to_cam" / "000007.txt").write_text(
        "S_rect_02: 1242 375\nP_rect_02: 700 0 600 70 0 700 180 0 0 0 1 0\n"
        "S_rect_03: 1242 375\nP_rect_03: 700 0 600 -280 0 700 180 0 0 0 1 0\n"
    )
    (record,) = read_kitti_2015(tmp_path)
    assert record.intrinsics == pytest.approx((700 / 1242, 700 / 375, 600.5 / 1242, 180.5 / 375))
    assert isinstance(record.depth, DisparityPng)
    assert record.depth.focal_baseline == pytest.approx(350)  # baseline 0.1 + 0.4 m


def test_right_frames_have_the_left_ones_as_partners(tmp_path: Path) -> None:
    make_frame(tmp_path, "000007_10")
    (tmp_path / "calib_cam_to_cam").mkdir()
    (tmp_path / "calib_cam_to_cam" / "000007.txt").write_text(
        "S_rect_02: 1242 375\nP_rect_02: 700 0 600 70 0 700 180 0 0 0 1 0\n"
        "S_rect_03: 1242 375\nP_rect_03: 700 0 610 -280 0 700 180 0 0 0 1 0\n"
    )
    left, right = read_kitti_2015(tmp_path, cameras=["image_2", "image_3"])
    assert (left.name, right.name) == ("kitti_2015/000007/0000000010", "kitti_2015/000007/image_3/0000000010")
    assert right.image == tmp_path / "image_3" / "000007_10.png"
    assert right.intrinsics == pytest.approx((700 / 1242, 700 / 375, 610.5 / 1242, 180.5 / 375))
    assert right.stereo is not None
    assert right.stereo.image == left.image
    assert right.stereo.T_other_this[0, 3] == pytest.approx(0.5)
    assert right.depth is None  # the disparities are the left camera's
    (tmp_path / "image_3" / "000007_10.png").unlink()
    assert [r.name for r in read_kitti_2015(tmp_path, cameras=["image_2", "image_3"])] == [left.name]
    with pytest.raises(DataError, match=r"no camera image_03; it has image_2 and image_3"):
        read_kitti_2015(tmp_path, cameras=["image_03"])


def test_splits_and_missing_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("000000_10", "000001_10"):
        make_frame(tmp_path, name)
    (tmp_path / "mine.txt").write_text("000001_10 2011_09_26_drive_0005_sync 10\n000009_10 drive 3\n")
    (tmp_path / "image_3" / "000001_10.png").unlink()
    (tmp_path / "disp_occ_0" / "000001_10.png").unlink()
    (record,) = read_kitti_2015(tmp_path, "mine")
    assert record.sequence == "kitti_2015/000001"
    assert record.stereo is record.depth is None
    for name in ("image_2/000009_10", "image_3/000001_10.png", "disp_occ_0/000001_10.png"):
        assert name in caplog.text
    with pytest.raises(DataError, match="there: mine"):
        read_kitti_2015(tmp_path, "validation")
    with pytest.raises(DataError, match="disp_occ_0"):
        read_kitti_2015(tmp_path / "image_2")


def test_real_lists_are_disjoint(shared_data: Path) -> None:
    training, validation, everything = (
        read_kitti_2015(shared_data / "kitti_2015", s) for s in ("training", "validation", None)
    )
    assert (len(training), len(validation), len(everything)) == (50, 34, 84)
    assert not {r.image for r in training} & {r.image for r in validation}


def test_depth_and_stereo_pose_explain_the_right_image(shared_data: Path) -> None:
    """A left pixel's colour is found in the right image where its depth, K and T_other_this say it is."""
    record = read_kitti_2015(shared_data / "kitti_2015", "validation")[0]
    assert record.depth is not None
    assert record.stereo is not None
    assert record.intrinsics is not None
    left, right = (cv2.GaussianBlur(cv2.imread(str(p)), (0, 0), 1) for p in (record.image, record.stereo.image))
    depth = record.depth.read()
    rows, columns = np.nonzero(depth)
    fx = record.intrinsics[0] * left.shape[1]

    def difference(shift: float) -> float:
        there = np.rint(columns + fx * shift / depth[rows, columns]).astype(int)
        seen = (there >= 0) & (there < left.shape[1])
        colors = left[rows, columns].astype(float), right[rows[seen], there[seen]].astype(float)
        return float(np.median(np.abs(colors[0][seen] - colors[1])))

    shift = float(record.stereo.T_other_this[0, 3])
    assert difference(shift) < 8 < difference(0.0)
    assert difference(shift) < 0.5 * difference(-shift)
