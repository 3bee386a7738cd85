"""The backend of a real node over real DDS: engines that are built for long, devices that are lost, images that fail.

TensorRT and CUDA are stand-ins here (fake_gpu.py), which the node's process and the one that builds import.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from fake_gpu import Gpu
from node_harness import Client, NodeProcess, assert_depth_is_right, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(tmp_path, monkeypatch)


def wait_for_backend(client: Client, name: str) -> DiagnosticStatus:
    """The first status of which this is the backend."""

    def last() -> DiagnosticStatus | None:
        statuses = [status for status in client.diagnostics[before:] if value(status, "backend") == name]
        return statuses[-1] if statuses else None

    before = len(client.diagnostics)
    status: DiagnosticStatus = client.wait(last)
    return status


def value(status: DiagnosticStatus, key: str) -> str:
    return str({pair.key: pair.value for pair in status.values}[key])


def wait_for_level(client: Client, level: bytes) -> DiagnosticStatus:
    before = len(client.diagnostics)
    client.wait(lambda: [status for status in client.diagnostics[before:] if status.level == level])
    return next(status for status in client.diagnostics[before:] if status.level == level)


def lose_device(client: Client, gpu: Gpu) -> None:
    """The node only notices when it uses the device."""
    gpu.set("lost", True)
    client.send(grey_image(client.header()))


def test_an_engine_is_built_and_a_device_lost_while_the_node_serves(gpu: Gpu, start: Callable[..., Any]) -> None:
    gpu.set("building", True)
    with start() as (process, client):
        client.subscribe("depth/image")
        client.wait_until_active()
        assert_depth_is_right(client)
        status = wait_for_backend(client, "openvino")
        assert status.level == DiagnosticStatus.WARN
        assert "tensorrt is being prepared (Building, 25%); openvino serves meanwhile" in status.message
        assert "tensorrt is being prepared (" in process.log

        gpu.set("building", False)
        status = wait_for_backend(client, "tensorrt")
        assert value(status, "device") == "Fake GPU (compute capability 8.7)"
        assert "tensorrt serves: Fake GPU (compute capability 8.7), fp32" in process.log
        assert_depth_is_right(client)
        assert gpu.has_launched

        lose_device(client, gpu)
        status = wait_for_level(client, DiagnosticStatus.ERROR)
        assert "cudaErrorIllegalAddress" in status.message
        assert value(status, "backend_failures") == "1"
        wait_for_backend(client, "openvino")
        assert_depth_is_right(client)
        assert wait_for_level(client, DiagnosticStatus.ERROR).message.endswith("; openvino serves meanwhile")

        gpu.set("lost", False)
        wait_for_backend(client, "tensorrt")
        assert_depth_is_right(client)
        assert process.log.count("tensorrt failed (CUDA failed at") == 1
        assert "Traceback" not in process.log
        assert process.stop()[0] == 0


def test_an_inference_that_hangs_is_given_up_and_another_backend_serves(gpu: Gpu, start: Callable[..., Any]) -> None:
    with start(inference_timeout=1.0) as (process, client):
        client.subscribe("depth/image")
        client.wait_until_active()
        wait_for_backend(client, "tensorrt")
        assert_depth_is_right(client)

        gpu.set("hanging", True)
        client.send(grey_image(client.header()))
        status = wait_for_level(client, DiagnosticStatus.ERROR)
        assert "tensorrt has not answered within 1 s (inference_timeout)" in status.message
        wait_for_backend(client, "openvino")
        assert_depth_is_right(client)
        assert process.log.count("[ERROR] [") == 2  # that of the image, and that of the session

        gpu.set("hanging", False)
        wait_for_backend(client, "tensorrt")
        assert_depth_is_right(client)

        gpu.set("hanging", True)
        client.send(grey_image(client.header()))
        wait_for_level(client, DiagnosticStatus.ERROR)
        code, seconds = process.stop()
        assert code == 0
        assert seconds < 8
        assert "Traceback" not in process.log


def test_without_fallback_there_is_no_depth_until_the_engine_is_built(gpu: Gpu, start: Callable[..., Any]) -> None:
    gpu.set("building", True)
    parameters = ("-p", "tensorrt.workspace:=128", "-p", "tensorrt.cuda_graph:=false")
    with start(*parameters, backend="tensorrt", backend_fallback=False) as (process, client):
        client.subscribe("depth/image")
        client.wait_until_active()
        client.send(grey_image(client.header()))
        status = wait_for_level(client, DiagnosticStatus.WARN)
        assert "tensorrt is being prepared" in status.message
        assert value(status, "backend") == "tensorrt"
        assert value(status, "device") == ""
        assert not client.received["depth/image"]

        gpu.set("building", False)
        assert_depth_is_right(client)
        assert not gpu.has_launched
        (engine,) = gpu.engines
        assert b'"workspace_mib": 128' in engine
        assert process.stop()[0] == 0


def test_a_node_that_ends_takes_the_build_with_it(gpu: Gpu, start: Callable[..., Any]) -> None:
    gpu.set("building", True)
    with start() as (process, client):
        client.wait_until_active()
        (builder,) = client.wait(lambda: children(process))
        code, seconds = process.stop()
        assert code == 0
        assert seconds < 8
        assert not Path(f"/proc/{builder}").exists()


def children(process: NodeProcess) -> list[int]:
    """Processes that the node started."""
    tasks = Path(f"/proc/{process.process.pid}/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text().split()]


def test_no_device_at_the_start(gpu: Gpu, start: Callable[..., Any]) -> None:
    gpu.set("lost", True)
    with start(precision="fp16") as (process, client):
        client.subscribe("depth/image")
        client.wait_until_active()
        _, depth = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        assert np.isfinite(np.frombuffer(depth.data, np.float32)).all()
        assert "backend auto: openvino (no tensorrt: no CUDA device answers (cudaErrorIllegalAddress))" in process.log
