"""What a real node survives, and what comes out of it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, Image

from node_harness import HEIGHT, WIDTH, expected_depth, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def test_bad_input_is_reported_once_and_never_ends_the_node(start: Callable[..., Any]) -> None:
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))

        def changed(**fields: Any) -> Image:
            message = grey_image(client.header())
            for name, value in fields.items():
                setattr(message, name, value)
            return message

        info = CameraInfo(width=WIDTH, height=HEIGHT, k=[float("nan")] * 9)
        other_size = CameraInfo(width=100, height=100, k=[50.0, 0, 50.0, 0, 50.0, 50.0, 0, 0, 1.0])
        faults: dict[str, tuple[str, Callable[[], Any]]] = {
            "encoding": ("encoding '32FC1'", lambda: changed(encoding="32FC1")),
            "size": ("image of 0x32 pixels", lambda: changed(width=0)),
            "step": ("step of 3 bytes", lambda: changed(step=3)),
            "data": ("2048 bytes of data for 33 rows", lambda: changed(height=33)),
            "resolution": ("changed from 64x32 to 48x24", lambda: grey_image(client.header(), width=48, height=24)),
        }
        for said, make in faults.values():
            client.wait(lambda s=said, m=make: (client.send(m()), client.spin(0.1), s in process.log)[-1])
            for _ in range(3):
                client.send(make())
                client.spin(0.1)
            assert process.log.count(said) == 1
        for said, bad in [("fx = nan", info), ("100x100", other_size)]:
            client.wait(
                lambda b=bad, s=said: (
                    client.send_camera_info(b), client.spin(0.1), client.send(grey_image(client.header())),
                    client.spin(0.1), s in process.log
                )[-1]
            )  # fmt: skip
            assert process.log.count(said) == 1
        values = client.diagnostic_values()
        for kind in (*faults, "camera_info", "camera_info_size"):
            assert int(values[f"errors_{kind}"]) >= 1
        assert client.diagnostics[-1].level == b"\x01"
        _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        np.testing.assert_allclose(np.frombuffer(result.data, np.float32), expected_depth(100), rtol=1e-5)
        assert client.diagnostic_values()["intrinsics_source"] == "prior"
        assert "Traceback" not in process.log
