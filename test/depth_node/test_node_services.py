"""The services of a real node in its own process, over real DDS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from std_srvs.srv import SetBool, Trigger

from node_harness import HEIGHT, WIDTH, Client, expected_depth, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def enable(client: Client, data: bool) -> Any:
    return client.call(SetBool, "set_enabled", SetBool.Request(data=data))


def test_disabled_node_receives_no_images(start: Callable[..., Any]) -> None:
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        answer = enable(client, False)
        assert answer.success
        assert answer.message == "no depth is computed, and no images are received"
        client.wait(lambda: client.images.get_subscription_count() == 0)
        values = client.diagnostic_values()
        assert (values["state"], values["enabled"]) == ("active", "false")
        assert client.diagnostics[-1].level == b"\x00"

        assert enable(client, True).message == "depth is computed"
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))

        # What was asked for while inactive holds once the node is active.
        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        assert enable(client, False).message.endswith("once it is active (it is inactive)")
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        client.spin(0.3)
        assert client.images.get_subscription_count() == 0
        enable(client, True)
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        assert "Traceback" not in process.log


def snapshot(client: Client) -> tuple[bool, str]:
    """Ask for a snapshot, and send images until it is answered."""
    service = client.node.create_client(Trigger, "depth_node/save_snapshot")
    client.wait(service.service_is_ready)
    future = service.call_async(Trigger.Request())

    def answered() -> bool:
        client.send(grey_image(client.header()))
        client.wait_for_at_most(0.1, future.done)
        return bool(future.done())

    client.wait(answered)
    client.node.destroy_client(service)
    return future.result().success, future.result().message


def test_snapshot_is_saved_though_nobody_listens(start: Callable[..., Any], tmp_path: Path) -> None:
    with start(snapshot_directory=tmp_path) as (process, client):
        client.wait_until_active()
        success, message = snapshot(client)
        assert success, message
        folder = Path(message)
        assert folder.parent == tmp_path
        np.testing.assert_allclose(np.load(folder / "depth.npy"), expected_depth(100), rtol=1e-5)
        image = cv2.imread(str(folder / "image.png"))
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert (image == 100).all()
        assert "uncalibrated" in (folder / "camera.yaml").read_text() or "prior" in (folder / "facts.yaml").read_text()
        again, other = snapshot(client)
        assert again
        assert other != message
        assert "Traceback" not in process.log


def test_snapshot_that_cannot_be_says_why(start: Callable[..., Any], tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with start(snapshot_directory=in_the_way) as (process, client):
        client.wait_until_active()
        success, message = snapshot(client)
        assert not success
        assert str(in_the_way) in message

        answer = client.call(Trigger, "save_snapshot", Trigger.Request())  # and no image comes
        assert not answer.success
        assert answer.message == "no depth frame came within 5 s"

        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        answer = client.call(Trigger, "save_snapshot", Trigger.Request())
        assert not answer.success
        assert answer.message == "there are no images: the node is inactive"
        assert "Traceback" not in process.log


def test_waiting_snapshot_is_answered_when_the_node_is_deactivated(start: Callable[..., Any], tmp_path: Path) -> None:
    with start(snapshot_directory=tmp_path) as (_, client):
        client.wait_until_active()
        service = client.node.create_client(Trigger, "depth_node/save_snapshot")
        client.wait(service.service_is_ready)
        first, second = (service.call_async(Trigger.Request()) for _ in range(2))
        client.wait(second.done)
        assert second.result().message == "another snapshot is being taken"
        assert not first.done()
        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        client.wait(first.done)
        assert (first.result().success, first.result().message) == (False, "the node was deactivated")
        assert not list(tmp_path.iterdir())
