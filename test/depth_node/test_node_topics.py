"""The topics of a real node in its own process, over real DDS, with a model whose depth is closed-form."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from node_harness import BEST_EFFORT, HEIGHT, OUTPUTS, PRIOR, WIDTH, Client, NodeProcess, expected_depth, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def test_results_of_an_image_without_camera_info(running: tuple[NodeProcess, Client]) -> None:
    process, client = running
    client.subscribe(*OUTPUTS)
    for topic in OUTPUTS:
        sent, result = client.send_until_answered(topic, lambda: grey_image(client.header()))
        assert result.header == sent.header
    received = {topic: messages[-1] for topic, messages in client.received.items()}

    image = received["depth/image"]
    assert (image.width, image.height, image.encoding, image.step) == (WIDTH, HEIGHT, "32FC1", 4 * WIDTH)
    depth = np.frombuffer(image.data, np.float32)
    np.testing.assert_allclose(depth, expected_depth(100), rtol=1e-5)

    info = received["depth/camera_info"]
    fx, fy, cx, cy = PRIOR[0] * WIDTH, PRIOR[0] * WIDTH, PRIOR[2] * WIDTH - 0.5, PRIOR[3] * HEIGHT - 0.5
    assert info.distortion_model == "uncalibrated"
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(info.k, [fx, 0, cx, 0, fy, cy, 0, 0, 1])

    cloud = received["points"]
    assert (cloud.width, cloud.height) == (WIDTH // 2, HEIGHT // 2)  # cloud_stride is 2
    points = np.frombuffer(cloud.data, np.float32).reshape(HEIGHT // 2, WIDTH // 2, 4)
    z = expected_depth(100)
    np.testing.assert_allclose(points[5, 9, :3], [(18 - cx) * z / fx, (10 - cy) * z / fy, z], rtol=1e-5)
    assert points.view(np.uint32)[5, 9, 3] == 100 << 16 | 100 << 8 | 100

    color = received["depth/color"]
    assert (color.width, color.height, color.encoding) == (WIDTH, HEIGHT, "rgb8")

    assert client.diagnostic_values()["intrinsics_source"] == "prior"
    assert process.log.count("intrinsics prior") == 1
    client.unsubscribe(*OUTPUTS)


def test_inference_only_for_somebody(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.wait(lambda: client.node.count_subscribers(f"{client.node.get_namespace()}/points") == 0)
    client.spin(0.5)
    before = client.diagnostic_values()
    for _ in range(5):
        client.send(grey_image(client.header()))
        client.spin(0.1)
    after = client.diagnostic_values()
    assert int(after["frames_unwanted"]) > int(before["frames_unwanted"])
    assert after["frames_published"] == before["frames_published"]


def test_only_what_is_subscribed_is_computed(start: Callable[..., Any]) -> None:
    with start() as (_, client):
        client.wait_until_active()
        client.subscribe("depth/image")
        client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        values = client.wait(lambda: (v := client.diagnostic_values())["frames_published"] != "0" and v)
        assert "depth_image_p50_ms" in values
        assert not {"points_p50_ms", "depth_color_p50_ms", "depth_camera_info_p50_ms"} & set(values)
        for stage in ("wait", "decode", "resize", "inference", "depth"):
            assert float(values[f"{stage}_p50_ms"]) >= 0
        assert float(values["latency_p50_ms"]) > 0


def test_camera_info_sets_intrinsics_and_scale(start: Callable[..., Any]) -> None:
    """A metric model's depth grows with fx / W; the prior's is 0.58."""
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/image", "depth/camera_info")
        info = CameraInfo(header=client.header(), width=2 * WIDTH, height=2 * HEIGHT, distortion_model="plumb_bob")
        info.k = [2 * 0.87 * WIDTH, 0.0, WIDTH - 0.5, 0.0, 2 * 0.87 * WIDTH, HEIGHT - 0.5, 0.0, 0.0, 1.0]

        def is_used() -> bool:
            client.send_camera_info(info)
            client.send(grey_image(client.header()))
            client.spin(0.1)
            return any(message.distortion_model == "plumb_bob" for message in client.received["depth/camera_info"])

        client.wait(is_used)
        _, depth = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        np.testing.assert_allclose(np.frombuffer(depth.data, np.float32), expected_depth(100) * 0.87 / 0.58, rtol=1e-5)
        _, published = client.send_until_answered("depth/camera_info", lambda: grey_image(client.header()))
        assert (published.width, published.height, published.distortion_model) == (WIDTH, HEIGHT, "plumb_bob")
        centre = WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5
        np.testing.assert_allclose(published.k, [0.87 * WIDTH, 0, centre[0], 0, 0.87 * WIDTH, centre[1], 0, 0, 1])
        assert client.diagnostic_values()["intrinsics_source"] == "camera_info"
        assert "intrinsics from" in process.log


def test_compressed_images(start: Callable[..., Any]) -> None:
    options = {"image_transport": "compressed", "image_topic": "image/compressed"}
    with start(image_type=CompressedImage, **options) as (_, client):
        client.wait_until_active()
        client.subscribe("depth/image")

        def png() -> CompressedImage:
            _, data = cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
            message = CompressedImage(header=client.header(), format="png")
            message.data.frombytes(data.tobytes())
            return message

        sent, result = client.send_until_answered("depth/image", png)
        assert result.header == sent.header
        np.testing.assert_allclose(np.frombuffer(result.data, np.float32), expected_depth(200), rtol=1e-5)


def test_silence_is_explained(start: Callable[..., Any]) -> None:
    with start(image_type=CompressedImage, image_transport="raw") as (process, client):
        topic = f"{client.node.get_namespace()}/image"
        said = f"{topic} is of type sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image"
        client.wait(lambda: client.diagnostics and said in client.diagnostics[-1].message)
        assert client.diagnostics[-1].level == b"\x01"
        client.wait(lambda: said in process.log)
        client.spin(2.0)
        assert process.log.count(said) == 1


def test_a_quality_of_service_that_does_not_fit_is_said(start: Callable[..., Any]) -> None:
    """The subscription asks for a reliability that the camera's driver does not offer."""
    topic = f"/camera{os.getpid()}/image"
    asked = f"qos_overrides.{topic}.subscription.reliability:=reliable"
    with start("-r", f"image:={topic}", "-p", asked, image_topic=topic, image_qos=BEST_EFFORT) as (process, client):
        reason = "Best effort publisher and reliable subscription"
        said = f"the QoS of {topic} does not fit its publisher's, see qos_overrides: {reason}"
        client.wait(lambda: client.diagnostics and said in client.diagnostics[-1].message)
        client.wait(lambda: said in process.log)


def test_a_camera_that_falls_silent_is_said_each_time(start: Callable[..., Any]) -> None:
    """At the start, while one waits for the camera, and again at three in the morning."""
    with start("-p", "diagnostic_updater.period:=0.2") as (process, client):
        said = f"no images come in on {client.resolved('image')}"
        over = f"images come in on {client.resolved('image')}"
        client.wait_until_active()
        client.subscribe("depth/image")
        for times in (1, 2):
            client.wait(lambda n=times: process.log.count(said) == n)
            client.wait(lambda: said in client.diagnostics[-1].message)
            client.send_until_answered("depth/image", lambda: grey_image(client.header()))
            client.send_until_answered("depth/image", lambda: grey_image(client.header()))
            client.wait(lambda n=times: process.log.count(over) == 2 * n)  # once within `said`
            client.wait(lambda: said not in client.diagnostics[-1].message)


def test_two_nodes_on_one_topic_are_said(start: Callable[..., Any]) -> None:
    """Not at once: what was killed is still known to ROS when it has been started again."""
    with start("-p", "diagnostic_updater.period:=0.1") as (process, client):
        client.wait_until_active()
        other = client.publisher("depth/image", Image)
        said = f"2 publishers on {client.resolved('depth/image')}: give each node a namespace of its own"
        client.wait(lambda: client.diagnostics and said in client.diagnostics[-1].message)
        assert process.log.count(said) == 1
        client.node.destroy_publisher(other)
        client.wait(lambda: said not in client.diagnostics[-1].message)
        client.wait(lambda: "nobody else publishes depth" in process.log)


def test_newest_frame_wins_and_lost_ones_are_counted(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image", "points", "depth/color")
    client.send_until_answered("depth/image", lambda: grey_image(client.header(), width=1242, height=375))

    def all_done() -> dict[str, str] | None:
        """Images go on being sent until one is answered, so that others may still be under way."""
        values = client.diagnostic_values()
        done = sum(int(values[f"frames_{fate}"]) for fate in ("published", "dropped", "unwanted"))
        return values if int(values["frames_in"]) == done else None

    before = client.wait(all_done)
    for _ in range(40):
        last = client.send(grey_image(client.header(), width=1242, height=375))
    client.wait(lambda: client.received["depth/image"][-1].header == last.header)
    client.wait(lambda: client.received["depth/color"][-1].header == last.header)
    after = client.wait(all_done)
    new = {name: int(after[name]) - int(before[name]) for name in after if name.startswith("frames_")}
    assert new["frames_in"] == 40
    assert new["frames_dropped"] > 0
    assert new["frames_published"] > 0
    client.unsubscribe("depth/image", "points", "depth/color")
