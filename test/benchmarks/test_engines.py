"""The benchmark of engines where there is no TensorRT: it says so in a line, and times the rest."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import cv2
import pytest

from residual_model import images, write_residual_model

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for needed in ("onnxruntime", "openvino", "torch", "timm"):
        pytest.importorskip(needed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    engines, common = (importlib.import_module(name) for name in ("engines", "common"))
    monkeypatch.setattr(common, "OUTPUT", tmp_path / "out")
    model = write_residual_model(tmp_path / "residual.onnx", width=128, height=96)
    pictures = tmp_path / "drive"
    pictures.mkdir()
    for number, image in enumerate(images(6)):
        cv2.imwrite(str(pictures / f"{number}.png"), image[0])

    arguments = ["--calibration", str(pictures), "--torch", "mobilenetv3_small_050", "--rounds", "2", "--runs", "3"]
    assert engines.main(["--model", str(model.path), *arguments]) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if line.startswith("no TensorRT rows:"))
    assert "tensorrt" in line
    assert "RT-MonoDepth-S, 640x192, Jetson AGX Orin: 364.1 FPS" in said
    assert "measured by others" in said
    content = json.loads((tmp_path / "out" / "engines.json").read_text())
    rows = {row["candidate"]: row for row in content["rows"]}
    assert {"onnxruntime fp32", "openvino fp32", "onnxruntime int8 graph", "torch eager fp32"} <= set(rows)
    assert content["frames"] == "6 of the 6 frames of drive, evenly"
    for name, row in rows.items():
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["fps"] == pytest.approx(1e3 / row["p50_ms"])
        assert row["memory_mib"] is None
        assert (row["deviation_median"] is None) == name.startswith("torch")  # a network with other weights
    assert rows["torch eager fp32"]["speed_up"] == 1
    assert rows["onnxruntime fp32"]["deviation_p95"] == 0
    assert 0 < rows["onnxruntime int8 graph"]["deviation_median"] < 0.02
