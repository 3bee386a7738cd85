"""SIGINT and SIGTERM end a real node at any moment: at once, and cleanly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from node_harness import OUTPUTS, Client, NodeProcess, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def has_loaded(library: str) -> Callable[[NodeProcess, Client], None]:
    """While the libraries load one after the other: seen from outside, in the map of the process's memory."""

    def wait(process: NodeProcess, client: Client) -> None:
        maps = Path(f"/proc/{process.process.pid}/maps")
        client.wait(lambda: library in maps.read_text())

    return wait


def is_idle(process: NodeProcess, client: Client) -> None:
    client.wait_until_active()
    client.spin(0.3)


def is_in_a_frame(process: NodeProcess, client: Client) -> None:
    client.wait_until_active()
    client.subscribe(*OUTPUTS)
    client.send_until_answered("points", lambda: grey_image(client.header(), width=1242, height=375))
    for _ in range(5):
        client.send(grey_image(client.header(), width=1242, height=375))


def is_in_a_transition(process: NodeProcess, client: Client) -> None:
    client.wait_until_active()
    for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert client.transition(number)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    client.call_async(ChangeState, "change_state", request)
    client.spin(0.01)


MOMENTS = {
    "imports numpy": (has_loaded("_multiarray_umath"), [signal.SIGINT, signal.SIGTERM]),
    "imports cv2": (has_loaded("cv2.abi3.so"), [signal.SIGINT, signal.SIGTERM]),
    "starts the middleware": (has_loaded("rmw_fastrtps"), [signal.SIGINT, signal.SIGTERM]),
    # From here on, both have the same handler.
    "loads the model": (has_loaded("libopenvino"), [signal.SIGTERM]),
    "active": (is_idle, [signal.SIGINT]),
    "in a frame": (is_in_a_frame, [signal.SIGTERM]),
    "in a transition": (is_in_a_transition, [signal.SIGINT]),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        pytest.param(moment, number, id=f"{name}, {number.name}")
        for name, (moment, numbers) in MOMENTS.items()
        for number in numbers
    ],
)
def test_signal_at_any_moment(
    start: Callable[..., Any], moment: Callable[[NodeProcess, Client], None], number: int
) -> None:
    with start() as (process, client):
        moment(process, client)
        code, seconds = process.stop(number)
        assert code == 0
        assert seconds < 2
        assert "Traceback" not in process.log
        assert "rror" not in process.log
