"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import settings

from depth_node.model import ModelFile, ModelSpec, write_model

REPOSITORY = Path(__file__).resolve().parents[1]

# A busy machine is no failure, and first examples load libraries.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests' compiled models out of the user's cache, and the user's out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A process in the background of a script ignores SIGINT, and so would all that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def shared_memory_is_given_back() -> Iterator[None]:
    """Processes that tests kill leave their segments of shared memory behind, which would fill the machine's."""
    yield
    tool = shutil.which("fastdds", path=str(Path(sys.executable).parent)) or shutil.which("fastdds")
    if tool is not None:
        subprocess.run([tool, "shm", "clean"], capture_output=True, check=True, timeout=60)


@pytest.fixture(scope="session")
def private_ros_domain() -> Iterator[dict[str, str]]:
    """ROS nodes of this process, and processes started by it, hear nobody else. The environment that does it."""
    from depth_node.tools.isolation import isolated_environment

    environment = isolated_environment()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real KITTI data; absent on a user's machine (skip), never in CI (fail)."""
    folder = Path(os.environ.get("DEPTH_NODE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no real data: {folder} does not exist (set DEPTH_NODE_DATA)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


def write_tiny_model(
    path: Path,
    *,
    width: int = 64,
    height: int = 32,
    output: str = "disparity",
    at_black: float = 0.05,
    at_white: float = 0.5,
    confidence: bool = False,
    **spec: Any,
) -> ModelFile:
    """A genuine model file whose output is linear in each pixel's grey value (mean over channels); `spec` overrides.

    Output at grey value g in 0..255: at_black + (at_white - at_black) g / 255, so that depth is closed-form.
    With `confidence`, the model has that output too: g / 255.
    """
    gain = (at_white - at_black) / 255
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["pixels"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMean", ["pixels"], ["grey"], axes=[3], keepdims=0),
        onnx.helper.make_node("Mul", ["grey", "gain"], ["scaled"]),
        onnx.helper.make_node("Add", ["scaled", "offset"], [output]),
    ]
    weights = [
        onnx.numpy_helper.from_array(np.float32(gain), "gain"),
        onnx.numpy_helper.from_array(np.float32(at_black), "offset"),
    ]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, height, width, 3])
    results = [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [1, height, width])]
    if confidence:
        nodes.append(onnx.helper.make_node("Div", ["grey", "white"], ["confidence"]))
        weights.append(onnx.numpy_helper.from_array(np.float32(255), "white"))
        results.append(onnx.helper.make_tensor_value_info("confidence", onnx.TensorProto.FLOAT, [1, height, width]))
    graph = onnx.helper.make_graph(nodes, "tiny", [image], results, weights)
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[opset])
    defaults: dict[str, Any] = {
        "min_depth": 0.5,
        "max_depth": 100.0,
        "metric": True,
        "intrinsics_prior": (0.58, 1.92, 0.49, 0.46),
        "dataset": "none",
        "license": "Apache-2.0",
        "recipe": "linear in grey",
        "confidence_output": "confidence" if confidence else None,
    }
    return write_model(model, ModelSpec(width, height, output=output, **{**defaults, **spec}), path)


@pytest.fixture(scope="session")
def make_tiny_model() -> Callable[..., ModelFile]:
    """`write_tiny_model`, for tests that need a model of their own."""
    return write_tiny_model


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A metric 64x32 model file: disparity is 0.05 + 0.45 grey / 255 (1/m), so black is 20 m and white is 2 m."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx").path
