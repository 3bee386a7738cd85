"""Errors of intrinsics by hand, and the command on KITTI's layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from training.cli import main
from training.data.records import FrameRecord
from training.errors import DataError
from training.evaluation.intrinsics import CameraScore, intrinsics_error, markdown_intrinsics, score_learned
from training.networks.intrinsics import LearnedIntrinsics, create_learned_intrinsics
from training.networks.pose import PoseNetwork
from training.pose_checkpoints import TrainedPose


def test_relative_errors() -> None:
    error = intrinsics_error((0.55, 1.0, 0.5, 0.6), (0.5, 2.0, 0.5, 0.5))
    assert (error.fx, error.fy, error.cx, error.cy) == pytest.approx((0.1, 0.5, 0, 0.2))
    score = CameraScore((0.55, 1.0, 0.5, 0.6), (0.5, 2.0, 0.5, 0.5), error)
    row = "| a | 0.5000 | 0.5500 | 10.00 % | 50.00 % | 0.00 % | 20.00 % |"
    assert markdown_intrinsics({"a": score}).splitlines()[-1] == row


def test_command(tmp_path: Path, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tiny model's prior is (0.58, 1.92, 0.49, 0.46)."""
    folder = tmp_path / "data" / "sequences" / "00"
    (folder / "image_2").mkdir(parents=True)
    cv2.imwrite(str(folder / "image_2" / "000000.png"), np.zeros((50, 100, 3), np.uint8))
    # fx/W = 0.5, fy/H = 1, (cx + 0.5)/W = 0.5, (cy + 0.5)/H = 0.5
    (folder / "calib.txt").write_text("P2: 50 0 49.5 0 0 50 24.5 0 0 0 1 0\n")
    common = ["evaluate_intrinsics", "--dataset", "kitti_odometry", "--root", str(tmp_path / "data")]
    assert main([*common, "--model", str(tiny_model_path), "--output", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content["sequences"]["00/image_2"]["error"] == pytest.approx(
        {"fx": 0.16, "fy": 0.92, "cx": 0.02, "cy": 0.08}
    )
    assert "16.00 %" in (tmp_path / "out" / "summary.md").read_text()
    assert "16.00 %" in capsys.readouterr().out
    assert main([*common, "--output", str(tmp_path / "out")]) == 2
    assert "one of checkpoint and model" in capsys.readouterr().err


FOCAL = 0.8


@pytest.fixture(scope="module")
def trained() -> TrainedPose:
    """A pose network whose head has learned nothing yet: fx/W is 0.8, pixels are square."""
    network = PoseNetwork("mobilenetv3_small_050", pretrained=False).eval()
    options = LearnedIntrinsics(focal=FOCAL, square_pixels=True)
    head = create_learned_intrinsics(options, network.bottleneck_channels).eval()
    return TrainedPose(network, head, 96, 64, steps=0, metric=False, prior=(FOCAL, 1.0, 0.5, 0.5))


def recording(folder: Path, degrees: float) -> list[FrameRecord]:
    """Four frames 100 x 50 of a camera that turns to the right by so much from frame to frame."""
    records = []
    for index in range(4):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (50, 100, 3), np.uint8))
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("y", index * degrees, degrees=True).as_matrix()
        records.append(FrameRecord(path, (1.0, 2.0, 0.5, 0.5), "drive", index, index, pose))
    return records


def test_a_camera_that_turns_shows_what_was_learned(tmp_path: Path, trained: TrainedPose) -> None:
    score = score_learned(trained, recording(tmp_path, degrees=2.0))["drive"]
    assert score.learned is not None
    assert (score.learned.pairs, score.learned.spread) == (3, 0)
    assert score.estimate == pytest.approx((FOCAL, 2 * FOCAL, 0.5, 0.5))  # images are twice as wide as high
    assert score.error is not None
    assert (score.error.fx, score.error.fy) == pytest.approx((0.2, 0.2))
    assert score.learned.edge_shift == pytest.approx(96 * np.radians(2.0) / (2 * FOCAL), rel=1e-4)


def test_of_a_camera_that_does_not_turn_no_error_is_said(
    tmp_path: Path, trained: TrainedPose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = recording(tmp_path, degrees=0.01)
    assert score_learned(trained, records)["drive"].error is None
    monkeypatch.setattr("training.evaluation.intrinsics.read_records", lambda *_, **__: records)
    monkeypatch.setattr("training.evaluation.intrinsics.learned_intrinsics", lambda _: trained)
    options = ["--root", str(tmp_path), "--output", str(tmp_path / "out"), "--checkpoint", "last.ckpt"]
    assert main(["evaluate_intrinsics", *options]) == 0
    printed = capsys.readouterr().out
    assert "cannot be told" in printed
    assert "drive: the focal length cannot be told from this video: its camera hardly turns" in printed
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content["sequences"]["drive"]["error"] is None


def test_a_head_that_known_cameras_taught_needs_no_turns(tmp_path: Path, trained: TrainedPose) -> None:
    score = score_learned(replace(trained, supervised=True), recording(tmp_path, degrees=0.01))["drive"]
    assert score.error is not None
    assert score.error.fx == pytest.approx(0.2)


def test_gaps_are_no_pairs(tmp_path: Path, trained: TrainedPose) -> None:
    records = recording(tmp_path, degrees=2.0)
    score = score_learned(trained, [records[0], records[1], records[3]])["drive"]
    assert score.learned is not None
    assert score.learned.pairs == 1
    with pytest.raises(DataError, match="known camera and a next frame"):
        score_learned(trained, [records[0], records[2]])
    with pytest.raises(DataError, match="learned_camera is 1: the checkpoint has 1"):
        score_learned(trained, records, camera=1)
