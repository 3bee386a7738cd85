"""Errors of intrinsics by hand, and the command on KITTI's layout."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.cli import main
from training.evaluation.intrinsics import intrinsics_error, markdown_intrinsics


def test_relative_errors() -> None:
    error = intrinsics_error((0.55, 1.0, 0.5, 0.6), (0.5, 2.0, 0.5, 0.5))
    assert (error.fx, error.fy, error.cx, error.cy) == pytest.approx((0.1, 0.5, 0, 0.2))
    assert markdown_intrinsics({"a": error}).splitlines()[-1] == "| a | 10.00 % | 50.00 % | 0.00 % | 20.00 % |"


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
