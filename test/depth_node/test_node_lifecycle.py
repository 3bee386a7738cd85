"""Transitions of a real node, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402

from motion_model import write_tiny_motion_model  # noqa: E402
from node_harness import grey_image  # noqa: E402

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def test_failed_configuration_can_be_tried_again(
    start: Callable[..., Any], make_tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with start(model=path, autostart=False) as (process, client):
        assert client.state() == "unconfigured"
        assert not client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.state() == "unconfigured"
        assert process.log.count("cannot configure") == 1
        assert "model.onnx" in process.log
        assert "Traceback" not in process.log
        assert client.diagnostic_values()["state"] == "unconfigured"
        assert client.diagnostics[-1].level == b"\x02"

        assert client.set_parameter("model", str(make_tiny_model(tmp_path / "good.onnx", metric=False).path)).successful
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.state() == "inactive"
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        assert process.log.count("depth is up to scale") == 1

        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        published = int(client.diagnostic_values()["frames_published"])
        client.send(grey_image(client.header()))
        client.spin(0.3)
        assert int(client.diagnostic_values()["frames_published"]) == published
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        assert client.transition(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert client.state() == "finalized"
        assert process.stop() == (0, pytest.approx(0, abs=2))


def test_autostart_with_a_bad_model_waits_unconfigured(start: Callable[..., Any], tmp_path: Path) -> None:
    with start(model=tmp_path / "absent.onnx") as (process, client):
        client.wait(lambda: "cannot configure" in process.log)
        assert client.state() == "unconfigured"
        assert "neither a file nor a shipped model" in process.log
        assert "Traceback" not in process.log


def test_what_was_learned_cannot_be_read(start: Callable[..., Any], tmp_path: Path) -> None:
    """It goes without. Permissions would be the reason on a robot, but mean nothing to root."""
    with start("-p", f"intrinsics.directory:={tmp_path / ('a' * 300)}") as (process, client):
        client.wait_until_active()
        assert process.log.count("learned intrinsics are not loaded") == 1
        assert "File name too long" in process.log


def test_the_end_closes_both_models(tiny_model_path: Path, tmp_path: Path) -> None:
    """Each has a thread, and TensorRT builds an engine for either in a process."""
    from depth_node.node import DepthNode

    motion = write_tiny_motion_model(tmp_path / "motion.onnx").path
    parameters = {"autostart": "false", "model": tiny_model_path, "intrinsics.motion_model": motion}
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *arguments])
    try:
        node = DepthNode()
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        supervisors = [thread for thread in threading.enumerate() if thread.name.startswith("supervisor")]
        assert len(supervisors) == 2
        node.destroy_node()
        assert not any(thread.is_alive() for thread in supervisors)
    finally:
        rclpy.shutdown()


def test_exception_in_a_transition_frees_everything(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from depth_node import node as module

    rclpy.init(args=["--ros-args", "-p", "autostart:=false", "-p", f"model:={tiny_model_path}"])
    try:
        node = module.DepthNode()
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        with monkeypatch.context() as patch:
            patch.setattr(module, "LatestWorker", lambda *_, **__: 1 / 0)
            assert node.trigger_activate() == TransitionCallbackReturn.ERROR
        assert node._state_machine.current_state[1] == "unconfigured"
        assert node._pipeline is None
        assert node.count_publishers("points") == 0
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        node.destroy_node()
    finally:
        rclpy.shutdown()
