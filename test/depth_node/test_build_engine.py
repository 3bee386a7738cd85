"""The tool: calibrates, writes graphs that every backend runs, builds with what was measured, says what is missing."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from depth_node.backends import create_backend
from depth_node.backends.engine_cache import BuiltEngine, CachedEngine, EngineCache, EngineKey
from depth_node.errors import BackendError, DepthNodeError
from depth_node.model import ModelFile, read_model, read_motion_model
from depth_node.precision.int8 import load_int8
from depth_node.precision.parity import Deviation, deviations
from depth_node.tools import inspect_model
from depth_node.tools.build_engine import main
from motion_model import write_tiny_motion_model
from residual_model import images, write_residual_model


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return write_residual_model(tmp_path / "residual.onnx")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "drive"
    folder.mkdir()
    for number, image in enumerate(images(12)):
        cv2.imwrite(str(folder / f"{number}.png"), image[0, :, :, ::-1])
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_graph_in_a_precision_is_a_model_file_that_every_backend_runs(
    model: ModelFile, pictures: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.onnx"
    calibration = ["--calibration", str(pictures), "--frames", "5"]
    assert main([str(model.path), "--precision", precision, *calibration, "--graph", str(path)]) == 0
    said = capsys.readouterr().out
    assert "frames: 5 of the 12 frames of drive, evenly" in said
    assert str(path) in said
    if precision == "int8":
        assert "layers in int8, calibrated on 5 of the 12 frames of drive, evenly" in said
    written = read_model(path)
    assert written.spec == model.spec
    (image,) = images(1)
    expected = {"disparity": create_backend(model, "onnxruntime", "fp32").infer(image).output}
    for name in ("onnxruntime", "openvino"):
        found = {"disparity": create_backend(written, name).infer(image).output}
        assert np.median(deviations(model, found, expected)) < 0.02


def test_a_motion_model_s_graph(tmp_path: Path) -> None:
    motion = write_tiny_motion_model(tmp_path / "motion.onnx")
    path = tmp_path / "half.onnx"
    assert main([str(motion.path), "--precision", "fp16", "--graph", str(path)]) == 0
    assert read_motion_model(path).spec == motion.spec


def test_int8_without_calibration_says_how_to_calibrate(model: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="--precision int8 --calibration BAG_OR_FOLDER"):
        main([str(model.path), "--precision", "int8", "--graph", str(tmp_path / "out.onnx")])


def test_a_calibration_of_nothing_is_an_error_and_leaves_nothing(model: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(DepthNodeError, match="neither a bag nor a folder"):
        main([str(model.path), "--precision", "int8", "--calibration", str(tmp_path / "absent")])
    assert load_int8(model) is None


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt_one_sentence_says_so(model: ModelFile) -> None:
    with pytest.raises(BackendError, match=r"TensorRT cannot be used here .*pip install 'depth_node\[tensorrt\]'"):
        main([str(model.path)])


def test_an_engine_is_built_from_the_graph_and_compared_on_the_calibration_frames(
    model: ModelFile, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime in the place of the builder: it is given the graph of the precision, batch and all."""
    built = []

    def build_engine(model: ModelFile, options: Any, recipe: Any, progress: Any, rebuild: bool) -> CachedEngine:
        built.append((options.precision, options.workspace_mib, options.batch, rebuild))
        graph = recipe.prepare(model, options, progress)
        session = ort.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])
        facts = recipe.check(
            model, options, lambda inputs: {"disparity": session.run(["disparity"], dict(inputs))[0]}, progress
        )
        sizes = {"build_seconds": 71.4, "engine_bytes": 2**21, "device_bytes": 2**20}
        return CachedEngine(b"", {**graph.facts, **facts, **sizes}, Path("/cache/engine"), is_new=True)

    module = ModuleType("depth_node.backends.tensorrt.engines")
    module.build_engine = build_engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    arguments = ["--precision", "int8", "--calibration", str(pictures), "--workspace", "256", "--batch", "2"]
    assert main([str(model.path), *arguments, "--rebuild"]) == 0
    assert built == [("int8", 256, 2, True)]
    said = capsys.readouterr().out
    for part in ("residual.onnx, int8: built", "/cache/engine", "2.0 MiB, 1.0 MiB of device memory", "71 s"):
        assert part in said
    assert "8 of 12 of the 12 frames of drive, evenly; reference: ONNX Runtime" in said


def test_inspect_model_shows_engines_with_their_deviation_and_refused_ones_with_the_reason(
    model: ModelFile,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    key = EngineKey(model.checksum, "Orin", "8.7", "10.3.0", "fp16", {"image": (1, 32, 64, 3)}, {"workspace_mib": 0})
    parity = Deviation(1e-4, 4e-4, 2e-3, 1.2e-4, 8, "8 frames of a drive", "ONNX Runtime").to_dict()
    facts = {"parity": parity, "build_seconds": 71.4, "engine_bytes": 2**21, "device_bytes": 2**20}
    cache = EngineCache()
    cache.get(key, lambda _: BuiltEngine(b"engine", facts=facts), lambda *_: None)
    refused = replace(key, tensorrt="10.7.0")
    cache.get(refused, lambda _: BuiltEngine(b"", facts={"refused": "computes something else"}), lambda *_: None)
    main([str(model.path), "--precision", "int8", "--calibration", str(pictures), "--graph", str(tmp_path / "a.onnx")])
    capsys.readouterr()

    assert inspect_model.main([str(model.path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "engine fp16: Orin (8.7), TensorRT 10.3.0" in said
    assert "median 0.01%, 95 % within 0.04%, largest 0.20% (8 frames of a drive; reference: ONNX Runtime)" in said
    assert "engine fp16: Orin (8.7), TensorRT 10.7.0" in said
    assert "computes something else" in said
    assert "layers in int8, calibrated on 12 of the 12 frames of drive, evenly; deviation: median" in said

    assert inspect_model.main([str(model.path), "--json"]) == 0
    engines = json.loads(capsys.readouterr().out)["engines"]
    assert {engine["tensorrt"] for engine in engines} == {"10.3.0", "10.7.0"}
    assert next(engine for engine in engines if engine["tensorrt"] == "10.3.0")["parity"] == parity
