"""Transitions of a real node, and its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402

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
