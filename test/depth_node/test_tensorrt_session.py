"""How an engine is run, on stand-ins for CUDA and TensorRT that keep their rules (fake_cuda.py); no device needed."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fake_cuda
from depth_node.errors import BackendError
from fake_cuda import FakeCuda, cudaError_t, plan

TWO_IMAGES = [("image_a", [1, 4, 6, 3], "UINT8"), ("image_b", [1, 4, 6, 3], "UINT8"), ("out", [1, 4, 6, 3], "FLOAT")]


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture(params=["8.6.0", "10.3.0", "11.4.0"])
def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> Iterator[ModuleType]:
    """session.py with each version; afterwards, nothing is left on the device."""
    fake_cuda.install(monkeypatch, cuda, request.param)
    yield importlib.import_module("depth_node.backends.tensorrt.session")
    assert cuda.is_empty


def image(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (1, 4, 6, 3), np.uint8)


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_outputs_are_those_of_the_inputs(session: ModuleType, cuda: FakeCuda, cuda_graph: bool) -> None:
    runner = session.EngineRunner(plan(), cuda_graph)
    outputs = [runner.run({"image": image(seed)})["out"] for seed in range(3)]
    for seed, output in enumerate(outputs):  # each its own, not the buffer that the next one overwrites
        assert output.dtype == np.float32
        assert output == pytest.approx(1.5 * image(seed), rel=2e-3)
    assert runner.has_graph == cuda_graph
    assert cuda.launches == (3 if cuda_graph else 0)
    assert runner.device_bytes == 4096 + 72 * (1 + 2)
    runner.close()
    runner.close()


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_several_inputs_and_float_outputs(session: ModuleType, cuda_graph: bool) -> None:
    runner = session.EngineRunner(plan(tensors=TWO_IMAGES, gain=2), cuda_graph)
    output = runner.run({"image_b": image(1), "image_a": image(0)})["out"]
    assert output == pytest.approx(2.0 * image(0) + image(1))
    runner.close()


def test_depth_and_motion_run_side_by_side(session: ModuleType) -> None:
    first, second = session.EngineRunner(plan(), True), session.EngineRunner(plan(tensors=TWO_IMAGES), True)
    second.run({"image_a": image(1), "image_b": image(2)})
    assert first.run({"image": image()})["out"] == pytest.approx(1.5 * image(), rel=2e-3)
    first.close()
    assert second.run({"image_a": image(1), "image_b": image(2)})["out"] == pytest.approx(0.5 * image(1) + image(2))
    second.close()


@pytest.mark.parametrize("inputs", [image()[:, :2], image().astype(np.float32), np.zeros((4, 6, 3), np.uint8)], ids=str)
def test_an_input_of_another_shape_or_type_is_refused(session: ModuleType, inputs: Any) -> None:
    """NumPy would broadcast or cast it without a word."""
    runner = session.EngineRunner(plan())
    with pytest.raises(BackendError, match=r"'image' is \w+ \[.*\]; the engine takes uint8 \[1, 4, 6, 3\]"):
        runner.run({"image": inputs})
    runner.close()


def test_a_closed_engine_is_an_error(session: ModuleType) -> None:
    runner = session.EngineRunner(plan())
    runner.close()
    with pytest.raises(BackendError, match="the engine was closed"):
        runner.run({"image": image()})


def test_an_engine_that_cannot_be_captured_runs_without_a_graph(
    session: ModuleType, cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.can_capture = False
    runner = session.EngineRunner(plan(), cuda_graph=True)
    assert not runner.has_graph
    assert "inference without a CUDA graph: CUDA failed at capturing a CUDA graph" in caplog.text
    assert runner.run({"image": image()})["out"] == pytest.approx(1.5 * image(), rel=2e-3)
    runner.close()


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_lost_device_is_one_sentence_and_everything_is_freed(
    session: ModuleType, cuda: FakeCuda, cuda_graph: bool
) -> None:
    runner = session.EngineRunner(plan(), cuda_graph)
    cuda.error = cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match=r"^(CUDA failed at .*: cudaErrorIllegalAddress|TensorRT .* cannot run)"):
        runner.run({"image": image()})
    runner.close()


@pytest.mark.parametrize("memory", [0, 72, 100])
def test_too_little_memory_frees_what_was_had(session: ModuleType, cuda: FakeCuda, memory: int) -> None:
    cuda.memory_bytes = memory
    with pytest.raises(BackendError, match=r"CUDA failed at allocating \d+ bytes of device memory"):
        session.EngineRunner(plan())


@pytest.mark.parametrize(
    ("serialized", "message"),
    [
        (b"not a plan", "cannot make an engine: deserializeCudaEngine: magic tag does not match"),
        (plan(needs_too_much=True), "cannot make an execution context: it does not say why"),
        (plan(refuses_memory=True), "refuses memory for 'image'"),
        (plan(tensors=[("image", [1, 4, 6, 3], "UINT8"), ("out", [1], "FLOAT")][::-1]), ""),
    ],
)
def test_an_engine_that_does_not_load_says_why(session: ModuleType, serialized: bytes, message: str) -> None:
    if not message:
        session.EngineRunner(serialized).close()
        return
    with pytest.raises(BackendError, match=message):
        session.EngineRunner(serialized)


def test_a_refused_inference_says_why(session: ModuleType) -> None:
    runner = session.EngineRunner(plan(does_not_run=True))
    with pytest.raises(BackendError, match="cannot run the engine: it does not say why"):
        runner.run({"image": image()})
    runner.close()


def test_older_cuda_python_waits_without_keeping_other_threads_from_running(
    session: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 12.9.1 its calls hold the interpreter's lock: there it is asked again and again."""
    cuda_api = importlib.import_module("depth_node.backends.tensorrt.cuda_api")
    slept = []
    monkeypatch.setattr(cuda_api, "_waits_without_gil", lambda: False)
    monkeypatch.setattr(cuda_api.time, "sleep", slept.append)
    runner = session.EngineRunner(plan())
    assert runner.run({"image": image()})["out"] == pytest.approx(1.5 * image(), rel=2e-3)
    assert slept
    runner.close()


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ({"cuda-bindings": "13.4.4"}, True),
        ({"cuda-bindings": "12.9.1"}, True),
        ({"cuda-bindings": "12.8.0"}, False),
        ({"cuda-python": "12.2.1"}, False),
        ({}, False),
    ],
)
def test_which_cuda_python_releases_the_lock(
    session: ModuleType, monkeypatch: pytest.MonkeyPatch, packages: dict[str, str], expected: bool
) -> None:
    cuda_api = importlib.import_module("depth_node.backends.tensorrt.cuda_api")

    def version(name: str) -> str:
        if name not in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    cuda_api._waits_without_gil.cache_clear()
    assert cuda_api._waits_without_gil() == expected
    cuda_api._waits_without_gil.cache_clear()


@pytest.mark.parametrize(
    ("error", "driver", "message"),
    [
        (cudaError_t.cudaErrorInsufficientDriver, 0, "^no NVIDIA driver is loaded$"),
        (
            cudaError_t.cudaErrorInsufficientDriver,
            12020,
            r"driver is made for CUDA 12.2, but cuda-python for 13.4: .* pip install 'cuda-python==12.\*'",
        ),
        (cudaError_t.cudaErrorNoDevice, 12060, "^no CUDA device answers$"),
        (cudaError_t.cudaErrorIllegalAddress, 12060, r"^no CUDA device answers \(cudaErrorIllegalAddress\)"),
    ],
)
def test_why_no_device_answers(
    session: ModuleType, cuda: FakeCuda, error: cudaError_t, driver: int, message: str
) -> None:
    cuda_api = importlib.import_module("depth_node.backends.tensorrt.cuda_api")
    assert cuda_api.device() == cuda_api.Device("Fake GPU", "8.7")
    cuda.error, cuda.driver_version = error, driver
    with pytest.raises(cuda_api.DeviceError, match=message):
        cuda_api.device()


def test_a_driver_that_does_not_answer_is_not_waited_for(session: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_api = importlib.import_module("depth_node.backends.tensorrt.cuda_api")
    is_over = threading.Event()
    monkeypatch.setattr(cuda_api, "_first_device", is_over.wait)
    monkeypatch.setattr(cuda_api, "_PATIENCE_S", 0.05)
    with pytest.raises(cuda_api.DeviceError, match=r"the NVIDIA driver has not answered for 0.05 s"):
        cuda_api.device()
    is_over.set()


def test_no_libcuda_is_said_by_older_cuda_python_in_its_own_way(
    session: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_api = importlib.import_module("depth_node.backends.tensorrt.cuda_api")

    def fail() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(cuda_api.runtime, "cudaGetDeviceCount", fail)
    with pytest.raises(cuda_api.DeviceError, match=r"^no NVIDIA driver is loaded \(Failed to dlopen libcuda.so.1\)"):
        cuda_api.device()


def test_warnings_of_tensorrt_are_not_lost(session: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    api = importlib.import_module("depth_node.backends.tensorrt.tensorrt_api")
    severities = api.trt.ILogger.Severity
    logger = api._logger()
    with caplog.at_level(logging.DEBUG):
        logger.log(severities.WARNING, "CUDA initialization failure")
    assert "CUDA initialization failure" in caplog.text
    assert logger.reason() == "CUDA initialization failure"
    logger.log(severities.WARNING, "slow")
    logger.log(severities.ERROR, "out of memory")
    assert logger.reason() == "out of memory"
    assert logger.reason() == "it does not say why"
