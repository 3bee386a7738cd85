"""KITTI odometry: calib.txt as it stands, poses of the camera that is read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.kitti_odometry import read_kitti_odometry
from training.errors import DataError

# Camera 2 is 0.1 m to the left of camera 0 (P's last column is fx times 0.1), camera 3 is 0.4 m to the right.
CALIBRATION = """P0: 10 0 9.5 0 0 20 4.5 0 0 0 1 0
P2: 10 0 9.5 1 0 20 4.5 0 0 0 1 0
P3: 10 0 9.5 -4 0 20 4.5 0 0 0 1 0
"""
QUARTER_TURN = "0 -1 0 5 1 0 0 6 0 0 1 7"  # x of the camera is y of the world


def make_sequence(root: Path, camera: str, count: int, sequence: str = "03") -> None:
    folder = root / "sequences" / sequence / camera
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:06d}.png"), np.zeros((10, 20), np.uint8))
    (folder.parent / "calib.txt").write_text(CALIBRATION)
    (root / "poses").mkdir(exist_ok=True)
    (root / "poses" / f"{sequence}.txt").write_text(f"1 0 0 0 0 1 0 0 0 0 1 0\n{QUARTER_TURN}\n")


def test_pose_of_camera_0_is_the_file(tmp_path: Path) -> None:
    make_sequence(tmp_path, "image_0", 3)
    first, second, third = read_kitti_odometry(tmp_path)
    assert first.intrinsics == pytest.approx((0.5, 2.0, 0.5, 0.5))
    assert second.pose is not None
    np.testing.assert_allclose(second.pose, [[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    assert third.pose is None
    assert third.stamp_ns == 200_000_000


def test_pose_of_camera_2_is_beside_camera_0(tmp_path: Path) -> None:
    make_sequence(tmp_path, "image_2", 2)
    pose = read_kitti_odometry(tmp_path)[1].pose
    assert pose is not None
    # The camera's centre is (-0.1, 0, 0) in camera 0, which the quarter turn takes to (5, 6 - 0.1, 7).
    np.testing.assert_allclose(pose[:3, 3], [5, 5.9, 7], atol=1e-12)


def test_stereo_partner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_sequence(tmp_path, "image_2", 2)
    make_sequence(tmp_path, "image_3", 1)
    first, second = read_kitti_odometry(tmp_path)
    assert first.stereo is not None
    assert first.stereo.image.parent.name == "image_3"
    np.testing.assert_allclose(first.stereo.T_other_this[:3, 3], [-0.5, 0, 0], atol=1e-12)
    assert second.stereo is None
    assert "1 missing (stereo partner)" in caplog.text


def test_missing_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"sequences/NN/image_C"):
        read_kitti_odometry(tmp_path)
    make_sequence(tmp_path, "image_2", 2)
    (tmp_path / "poses" / "03.txt").unlink()
    assert [r.pose for r in read_kitti_odometry(tmp_path, ["03", "04"])] == [None, None]
    assert "missing (poses): poses/03.txt" in caplog.text
    assert "sequences/04" in caplog.text
    (tmp_path / "sequences" / "03" / "calib.txt").write_text("P0: 10 0 9.5 0 0 20 4.5 0 0 0 1 0\n")
    with pytest.raises(DataError, match="expected P2"):
        read_kitti_odometry(tmp_path)


def test_real_sequences(shared_data: Path) -> None:
    records = read_kitti_odometry(shared_data / "kitti_odometry")
    by_sequence = {name: [r for r in records if r.sequence == name] for name in ("00_small/image_2", "03/image_0")}
    assert [len(sequence) for sequence in by_sequence.values()] == [1018, 801]
    # KITTI's own numbers for the full size: 718.856 of 1241x376, and 721.5377 of 1242x375.
    small, grey = (sequence[0].intrinsics for sequence in by_sequence.values())
    assert small == pytest.approx((718.856 / 1241, 718.856 / 376, 607.1928 / 1241, 185.2157 / 376), abs=5e-3)
    assert grey == pytest.approx((721.5377 / 1242, 721.5377 / 375, 610.0593 / 1242, 173.354 / 375), abs=1e-5)
    for sequence in by_sequence.values():
        poses = np.array([r.pose for r in sequence])
        steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        assert 0 <= steps.min() < steps.max() < 2.0  # at most 20 m/s at 10 Hz
        np.testing.assert_allclose(
            poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1),
            np.broadcast_to(np.eye(3), (len(poses), 3, 3)),
            atol=1e-6,
        )
