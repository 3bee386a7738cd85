"""TUM RGB-D: associations, interpolated poses, and poses that agree with the depth they come with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.records import FrameRecord
from training.data.tum import read_tum
from training.errors import DataError


def make_sequence(root: Path, stamps: list[str]) -> None:
    for folder in ("rgb", "depth"):
        (root / folder).mkdir(parents=True)
    lines = []
    for stamp in stamps:
        cv2.imwrite(str(root / "rgb" / f"{stamp}.png"), np.zeros((4, 4, 3), np.uint8))
        cv2.imwrite(str(root / "depth" / f"{stamp}.png"), np.full((4, 4), 10000, np.uint16))
        lines.append(f"{stamp} rgb/{stamp}.png {stamp} depth/{stamp}.png")
    (root / "associations.txt").write_text("\n".join(lines) + "\n")
    # A turn about z by 0, then 2 x 0.1 rad 10 ms later, with the opposite sign of the quaternion (the same rotation).
    (root / "groundtruth.txt").write_text(
        "# timestamp tx ty tz qx qy qz qw\n"
        "10.00 1 2 3 0 0 0 1\n"
        f"10.01 1 2 5 0 0 {-np.sin(0.1):.12f} {-np.cos(0.1):.12f}\n"
        "10.90 1 2 5 0 0 0 1\n"
    )


def test_frames_poses_and_gaps(tmp_path: Path) -> None:
    make_sequence(tmp_path / "clip", ["10.005", "10.038", "10.105000001"])
    first, second, third = read_tum(tmp_path / "clip")
    assert [r.index for r in (first, second, third)] == [0, 1, 3]  # 67 ms are two frames of 30 Hz
    assert third.stamp_ns == 10_105_000_001
    assert first.pose is not None
    np.testing.assert_allclose(first.pose[:3, 3], [1, 2, 4], atol=1e-9)
    turn = [[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]]
    np.testing.assert_allclose(first.pose[:3, :3], turn, atol=1e-9)
    assert second.pose is None  # a hole of 0.89 s in the trajectory
    assert first.depth is not None
    np.testing.assert_allclose(first.depth.read(), 2.0)
    assert first.intrinsics == pytest.approx((517.3 / 640, 516.5 / 480, 319.1 / 640, 255.8 / 480))


def test_missing_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"associations\.txt"):
        read_tum(tmp_path)
    make_sequence(tmp_path / "clip", ["10.0", "10.1"])
    (tmp_path / "clip" / "rgb" / "10.0.png").unlink()
    (tmp_path / "clip" / "depth" / "10.1.png").unlink()
    (tmp_path / "clip" / "groundtruth.txt").unlink()
    (record,) = read_tum(tmp_path / "clip")
    assert record.depth is record.pose is None
    for name in ("rgb/10.0.png", "depth/10.1.png", "groundtruth.txt", "distortion"):
        assert name in caplog.text
    with pytest.raises(DataError, match="1, 2 or 3"):
        read_tum(tmp_path / "clip", camera=4)


def test_poses_carry_depth_from_frame_to_frame(shared_data: Path) -> None:
    """Points of one frame, moved by the mocap poses, have the depth that a later frame measures there."""
    records = [r for r in read_tum(shared_data / "tum_fr1_rpy") if r.pose is not None]
    assert len(records) == 60
    first, later = records[0], records[12]
    with_poses = relative_depth_error(first, later, use_poses=True)
    assert with_poses < 0.03
    assert with_poses < 0.5 * relative_depth_error(first, later, use_poses=False)


def relative_depth_error(a: FrameRecord, b: FrameRecord, use_poses: bool) -> float:
    assert a.depth is not None
    assert b.depth is not None
    assert a.pose is not None
    assert b.pose is not None
    assert a.intrinsics is not None
    depth_a, depth_b = a.depth.read(), b.depth.read()
    height, width = depth_a.shape
    fx, fy, cx, cy = a.intrinsics
    K = np.array([[fx * width, 0, cx * width - 0.5], [0, fy * height, cy * height - 0.5], [0, 0, 1]])
    rows, columns = np.nonzero(depth_a)
    points = np.linalg.solve(K, np.stack([columns, rows, np.ones_like(rows)]).astype(float)) * depth_a[rows, columns]
    if use_poses:
        T_b_a = np.linalg.inv(b.pose) @ a.pose
        points = T_b_a[:3, :3] @ points + T_b_a[:3, 3:]
    z = points[2]
    pixels = np.rint(K @ (points / z)).astype(int)
    seen = (z > 0) & (pixels[0] >= 0) & (pixels[0] < width) & (pixels[1] >= 0) & (pixels[1] < height)
    measured = depth_b[pixels[1, seen], pixels[0, seen]]
    predicted = z[seen][measured > 0]
    measured = measured[measured > 0]
    return float(np.median(np.abs(predicted - measured) / measured))
