"""`python -m training evaluate` end to end on a made data set and a model file whose depth is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.camera import PinholeCamera
from training.checkpoints import TrainedDepth
from training.cli import main
from training.errors import DataError
from training.evaluation.command import create_predictor, read_records
from training.export import export_depth
from training.prepare.frames import PrepareOptions, RawFrame
from training.prepare.writer import prepare_stream


@pytest.fixture
def kitti_2015(tmp_path: Path) -> Path:
    """Two white frames with disparity truths of 2.5 m and 2 m on a lower half."""
    root = tmp_path / "kitti_2015"
    for folder in ("image_2", "image_3", "disp_occ_0"):
        (root / folder).mkdir(parents=True)
    for index, depth in enumerate([2.5, 2.0]):
        for folder in ("image_2", "image_3"):
            cv2.imwrite(str(root / folder / f"{index:06d}_10.png"), np.full((75, 248, 3), 255, np.uint8))
        disparity = np.zeros((75, 248), np.uint16)
        disparity[40:] = round(256 * 721.5377 * 248 / 1242 * 0.5327 / depth)
        cv2.imwrite(str(root / "disp_occ_0" / f"{index:06d}_10.png"), disparity)
    (root / "training.txt").write_text("000000_10 a 1\n")
    (root / "validation.txt").write_text("000001_10 b 2\n")
    return root


def run(output: Path, *arguments: str) -> dict[str, object]:
    assert main(["evaluate", "--output", str(output), *arguments]) == 0
    content: dict[str, object] = json.loads((output / "summary.json").read_text())
    return content


def test_model_file(kitti_2015: Path, tiny_model_path: Path, tmp_path: Path) -> None:
    """White is 2 m for the model's prior camera, and 2 * 0.58095 / 0.58 for this one."""
    arguments = [
        "--root",
        str(kitti_2015),
        "--model",
        str(tiny_model_path),
        "--backend",
        "onnxruntime",
        "--scaling",
        "none",
    ]
    content = run(tmp_path / "out", *arguments)
    expected = 2 * 721.5377 / 1242 / 0.58
    abs_rel = (abs(expected - 2.5) / 2.5 + abs(expected - 2.0) / 2.0) / 2
    assert content["metrics"]["abs_rel"] == pytest.approx(abs_rel, abs=2e-4)  # type: ignore[index]
    assert content["frames"] == 2
    assert content["scale"] == 1.0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "frames.csv",
        "parts.csv",
        "sheet.png",
        "summary.json",
        "summary.md",
    ]


@dataclass(frozen=True)
class WhiteDrive:
    """Two white frames with three lidar points each, 2.5 m and 2 m away; as a bag's stream gives them."""

    name: str = "drive"
    source: str = "drive.mcap"
    expected_frames: int | None = 2

    def frames(self, first: int) -> Iterator[RawFrame]:
        for index, metres in list(enumerate([2.5, 2.0]))[first:]:
            depth = np.zeros((60, 80), np.float32)
            depth[[10, 40, 50], [5, 60, 70]] = metres
            camera = PinholeCamera(width=80, height=60, fx=46.4, fy=46.4, cx=39.5, cy=29.5)
            yield RawFrame(np.full((60, 80, 3), 255, np.uint8), index * 10**8, camera, depth)


def test_lidar_of_prepared_recordings(tiny_model_path: Path, tmp_path: Path) -> None:
    """The camera has the model's fx/W of 0.58: white is 2 m."""
    prepare_stream(WhiteDrive(), tmp_path / "prepared", PrepareOptions(width=64, height=32, keep_still=True))
    arguments = ["--dataset", "prepared", "--root", str(tmp_path / "prepared"), "--model", str(tiny_model_path)]
    arguments += ["--backend", "onnxruntime", "--scaling", "none", "--crop", "none", "--pictures", "0"]
    content = run(tmp_path / "out", *arguments)
    assert content["frames"] == 2
    assert content["metrics"]["abs_rel"] == pytest.approx((0.5 / 2.5 + 0) / 2, abs=2e-3)  # type: ignore[index]
    assert content["parts"]["0-10 m"]["pixels"] == 6  # type: ignore[index]


def test_baseline(kitti_2015: Path, tmp_path: Path) -> None:
    """The constant is the training list's 2.5 m, a quarter too far for the validation list's 2 m."""
    arguments = ["--root", str(kitti_2015), "--baseline", "constant", "--split", "validation", "--pictures", "0"]
    content = run(tmp_path / "out", *arguments, "--scaling", "none")
    assert content["metrics"]["abs_rel"] == pytest.approx(0.25, abs=2e-3)  # type: ignore[index]
    content = run(tmp_path / "out", *arguments, "--scale", "0.8")
    assert content["metrics"]["abs_rel"] == pytest.approx(0.0, abs=2e-3)  # type: ignore[index]
    assert not (tmp_path / "out" / "sheet.png").exists()


def test_checkpoint_and_its_export_agree(
    kitti_2015: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """PyTorch and both backends of the node, on images with something to see, in metres."""
    rng = np.random.default_rng(0)
    for path in (kitti_2015 / "image_2").iterdir():
        coarse = rng.integers(0, 256, (5, 8, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (248, 75), interpolation=cv2.INTER_CUBIC))
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", tiny_depth)
    export_depth(tiny_depth, tmp_path / "a.onnx", "", "", "", half_weights=False)
    common = ["--root", str(kitti_2015), "--scaling", "none", "--crop", "none", "--pictures", "0"]
    expected = run(tmp_path / "checkpoint", *common, "--checkpoint", str(checkpoint), "--batch", "2")["metrics"]
    for backend, batch in (("openvino", "1"), ("onnxruntime", "1"), ("onnxruntime", "2")):
        model = ["--model", str(tmp_path / "a.onnx"), "--backend", backend, "--batch", batch]
        assert run(tmp_path / f"{backend}{batch}", *common, *model)["metrics"] == pytest.approx(expected, rel=5e-3)


def test_flip_is_part_of_the_name_and_batches_are_of_checkpoints_and_models(
    kitti_2015: Path, tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(kitti_2015), "--model", str(tiny_model_path), "--pictures", "0"]
    plain, flipped = run(tmp_path / "a", *arguments), run(tmp_path / "b", *arguments, "--flip", "true")
    assert flipped["predictor"] == f"{plain['predictor']}, flip post-processed"
    assert flipped["metrics"] == pytest.approx(plain["metrics"], abs=1e-3)  # white frames look the same mirrored
    baseline = ["--root", str(kitti_2015), "--baseline", "constant", "--output", str(tmp_path / "c")]
    assert main(["evaluate", *baseline, "--batch", "2"]) == 2
    assert "more for a checkpoint or model" in capsys.readouterr().err


def test_errors_are_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--root", str(tmp_path), "--output", str(tmp_path / "out"), "--baseline", "constant"]) == 2
    assert "image_2" in capsys.readouterr().err


def test_exactly_one_predictor(tmp_path: Path) -> None:
    both = {"checkpoint": tmp_path / "a.ckpt", "model": tmp_path / "b.onnx"}
    for given, message in [({}, "nothing to evaluate"), (both, "checkpoint and model")]:
        options = {
            "checkpoint": None,
            "model": None,
            "baseline": None,
            "baseline_root": None,
            "backend": "auto",
            "precision": "auto",
            "batch": 1,
            **given,
        }
        with pytest.raises(DataError, match=message):
            create_predictor(**options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="baseline_root"):
        create_predictor(**{**options, "checkpoint": None, "model": None, "baseline": "constant"})  # type: ignore[arg-type]


def test_options_of_another_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kitti_2015 has no depth_path"):
        read_records("kitti_2015", tmp_path, depth_root=tmp_path)
    with pytest.raises(DataError, match="tum has no split_file"):
        read_records("tum", tmp_path, split="validation")


def test_velodyne_and_depth_png_truth_of_one_drive_agree(shared_data: Path, tmp_path: Path) -> None:
    """Scored against single scans and against KITTI's accumulated depth, one prediction gets nearly the same."""
    raw, depth = shared_data / "kitti_raw", shared_data / "kitti_depth"
    arguments = [
        "--dataset",
        "kitti_raw",
        "--root",
        str(raw),
        "--select",
        '["2011_09_26_drive_0001_sync"]',
        "--baseline",
    ]
    arguments += ["constant", "--baseline_root", str(shared_data / "kitti_2015"), "--pictures", "0"]
    scans = run(tmp_path / "scans", *arguments)
    pngs = run(tmp_path / "pngs", *arguments, "--depth_root", str(depth))
    assert scans["frames"] == pngs["frames"] == 5
    errors = [content["metrics"]["abs_rel"] for content in (scans, pngs)]  # type: ignore[index]
    assert errors[0] == pytest.approx(errors[1], abs=0.015)
