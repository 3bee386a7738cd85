"""`python -m training evaluate_pose` on a made sequence and a pose network whose answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from training.checkpoints import POSE_CARD, TrainedDepth
from training.cli import main
from training.data.records import FrameRecord
from training.errors import CheckpointError, DataError
from training.evaluation.motion_predictors import CheckpointMotion, StraightMotion
from training.evaluation.pose_command import recordings_with_poses
from training.networks.pose import ROTATION_SCALE, TRANSLATION_SCALE, PoseNetwork
from training.pose_checkpoints import PoseNetworkCard

TURN, FORWARD = 0.02, 0.8  # radians about y and metres per frame, of T_world_camera
ENCODER = "mobilenetv3_small_050"


@pytest.fixture
def odometry(tmp_path: Path) -> Path:
    """Sequence 00 of 40 noise frames on a circle."""
    root = tmp_path / "odometry"
    images = root / "sequences" / "00" / "image_2"
    images.mkdir(parents=True)
    (root / "poses").mkdir()
    rng = np.random.default_rng(0)
    step = np.eye(4)
    step[:3, :3] = Rotation.from_euler("y", TURN).as_matrix()
    step[2, 3] = FORWARD
    pose, lines = np.eye(4), []
    for index in range(40):
        cv2.imwrite(str(images / f"{index:06d}.png"), rng.integers(0, 255, (64, 96, 3), np.uint8))
        lines.append(" ".join(f"{number:.12g}" for number in pose[:3].ravel()))
        pose = pose @ step
    (root / "poses" / "00.txt").write_text("\n".join(lines))
    (root / "sequences" / "00" / "calib.txt").write_text("P2: 50 0 48 0 0 50 32 0 0 0 1 0\n")
    return root


def known_motion(rotation_y: float, ahead: float) -> PoseNetwork:
    """Says the same T_later_earlier for all images: the inverse of a step of the sequence."""
    network = PoseNetwork(ENCODER, pretrained=False)
    last = network.decoder[-1]
    translation = -np.array([0, 0, ahead]) @ Rotation.from_euler("y", rotation_y).as_matrix()
    motion = [0, -rotation_y / ROTATION_SCALE, 0, *(translation / TRANSLATION_SCALE)]
    with torch.no_grad():
        last.weight.zero_()  # type: ignore[union-attr,operator]
        last.bias.copy_(torch.tensor(motion))  # type: ignore[union-attr,operator]
    return network


@pytest.fixture
def write_pose_checkpoint(tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path]) -> Callable[..., Path]:
    def write(path: Path, network: PoseNetwork) -> Path:
        content = torch.load(write_checkpoint(path, tiny_depth), weights_only=True)
        content["state_dict"] |= {f"pose_network.{name}": value for name, value in network.state_dict().items()}
        torch.save({**content, POSE_CARD: asdict(PoseNetworkCard(ENCODER))}, path)
        return path

    return write


def test_a_network_that_knows_the_motion(
    odometry: Path, write_pose_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """Up to scale: three times too large steps are no error."""
    checkpoint = write_pose_checkpoint(tmp_path / "a.ckpt", known_motion(TURN, 3 * FORWARD))
    output = tmp_path / "out"
    arguments = ["--root", str(odometry), "--checkpoint", str(checkpoint), "--output", str(output), "--batch", "7"]
    assert main(["evaluate-pose", *arguments]) == 0
    (recording,) = json.loads((output / "summary.json").read_text())["recordings"]
    assert recording["frames"] == 40
    assert {form: error["snippets"] for form, error in recording["ate"].items()} == {
        "sfmlearner": 36,
        "monodepth2": 39,
        "rmse": 36,
    }
    assert [error["mean"] for error in recording["ate"].values()] == pytest.approx([0, 0, 0], abs=1e-5)
    assert recording["whole"]["ape_rmse"] == pytest.approx(0, abs=1e-4)
    assert recording["whole"]["scale"] == pytest.approx(1 / 3, rel=1e-5)
    truth = np.loadtxt(output / "00_image_2_0000000000_truth.txt")
    estimate = np.loadtxt(output / "00_image_2_0000000000_estimate.txt")
    assert truth.shape == estimate.shape == (40, 8)
    np.testing.assert_allclose(estimate[:, 1:4], truth[:, 1:4], atol=1e-3)
    np.testing.assert_allclose(truth[:, 0], 0.1 * np.arange(40), atol=1e-9)
    # The quaternion of a turn about y: (0, sin a/2, 0, cos a/2) in the order x, y, z, w.
    np.testing.assert_allclose(truth[3, 4:], [0, np.sin(1.5 * TURN), 0, np.cos(1.5 * TURN)], atol=1e-8)
    plot = cv2.imread(str(output / "00_image_2_0000000000.png"))
    assert plot is not None
    assert plot.std() > 5


def test_turning_too_much_by_a_known_angle(odometry: Path, write_pose_checkpoint: Callable[..., Path]) -> None:
    records = recordings_with_poses(
        [replace(record) for record in _records(odometry)],
        5,
    )[0]
    checkpoint = write_pose_checkpoint(odometry / "a.ckpt", known_motion(TURN + 0.01, FORWARD))
    motions = CheckpointMotion(checkpoint, batch=8, device="cpu").motions(records)
    assert motions.shape == (39, 4, 4)
    relative = [Rotation.from_matrix(motion[:3, :3]).as_rotvec() for motion in motions]
    np.testing.assert_allclose(relative, np.tile([0, -(TURN + 0.01), 0], (39, 1)), atol=1e-7)


def test_straight_baseline_is_scored_over_snippets_only(odometry: Path, tmp_path: Path) -> None:
    arguments = ["--root", str(odometry), "--baseline", "straight", "--output", str(tmp_path / "out")]
    assert main(["evaluate_pose", *arguments, "--snippet", "3"]) == 0
    (recording,) = json.loads((tmp_path / "out" / "summary.json").read_text())["recordings"]
    assert recording["whole"] is None
    # Positions (0, 0, f) and f (sin a, 0, 1 + cos a) against (0, 0, 1) and (0, 0, 2).
    truth = FORWARD * np.array([[0, 0, 0], [0, 0, 1], [np.sin(TURN), 0, 1 + np.cos(TURN)]])
    straight = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]])
    scale = np.sum(truth * straight) / np.sum(straight**2)
    expected = np.sqrt(np.sum((scale * straight - truth) ** 2)) / 3
    assert recording["ate"]["sfmlearner"]["mean"] == pytest.approx(expected, rel=1e-6)
    assert "not aligned" in (tmp_path / "out" / "summary.md").read_text()


def _records(odometry: Path) -> list[FrameRecord]:
    from training.data.kitti_odometry import read_kitti_odometry

    return read_kitti_odometry(odometry)


def test_gaps_split_a_recording(odometry: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = _records(odometry)
    del records[37], records[20]
    records[30] = replace(records[30], pose=None)  # frame 31
    pieces = recordings_with_poses(records[::-1], 5)
    assert [(piece[0].index, piece[-1].index) for piece in pieces] == [(0, 19), (21, 30), (32, 36)]
    assert "00/image_2/0000000038: 2 frames in a row are too few" in caplog.text
    with pytest.raises(DataError, match="consecutive"):
        recordings_with_poses([replace(record, pose=None) for record in records], 5)


def test_what_is_refused(
    odometry: Path,
    tmp_path: Path,
    tiny_depth: TrainedDepth,
    write_checkpoint: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["evaluate_pose", "--root", str(odometry), "--output", str(tmp_path / "out")]
    assert main(common) == 2
    assert "one of checkpoint and baseline" in capsys.readouterr().err
    assert main([*common, "--baseline", "straight", "--snippet", "1"]) == 2
    assert "at least 2 frames" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="has no pose network"):
        CheckpointMotion(write_checkpoint(tmp_path / "a.ckpt", tiny_depth))


def test_straight_ahead_is_ahead(odometry: Path) -> None:
    T_later_earlier = StraightMotion().motions(_records(odometry)[:3])
    # The later camera's origin is 1 m ahead (z) of the earlier one.
    np.testing.assert_allclose(np.linalg.inv(T_later_earlier[1]) @ [0, 0, 0, 1], [0, 0, 1, 1])


def test_baseline_on_kitti_is_like_the_published_one(shared_data: Path, tmp_path: Path) -> None:
    """SfMLearner's table has 0.032 +- 0.026 and 0.028 +- 0.023 for the mean motion on sequences 09 and 10."""
    arguments = ["--root", str(shared_data / "kitti_odometry"), "--select", '["00_small"]', "--baseline", "straight"]
    assert main(["evaluate_pose", *arguments, "--output", str(tmp_path)]) == 0
    (recording,) = json.loads((tmp_path / "summary.json").read_text())["recordings"]
    error = recording["ate"]["sfmlearner"]
    assert error["mean"] == pytest.approx(0.030, abs=0.006)
    assert error["std"] == pytest.approx(0.025, abs=0.006)
