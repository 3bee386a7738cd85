"""What a real node publishes when it is asked to publish it otherwise, over real DDS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, LaserScan

from node_harness import HEIGHT, PRIOR, WIDTH, Client, NodeProcess, depth_of, expected_depth, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def test_depth_in_millimetres(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image")
    assert client.set_parameter("depth.encoding", "16UC1").successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert (result.encoding, result.step) == ("16UC1", 2 * WIDTH)
    assert set(np.frombuffer(result.data, np.uint16)) == {round(expected_depth(100) * 1000)}
    assert client.set_parameter("depth.encoding", "32FC1").successful
    client.unsubscribe("depth/image")


def test_outputs_agree_in_size_at_half_resolution(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    topics = {"depth/image": Image, "depth/camera_info": CameraInfo, "rgb/image_rect": Image}
    for topic, message_type in topics.items():
        client.subscribe(topic, message_type=message_type)
    assert client.set_parameter("output_resolution", "half").successful
    for topic in topics:
        client.send_until_answered(topic, lambda: grey_image(client.header(), width=128, height=48))
    sizes = {(client.received[topic][-1].width, client.received[topic][-1].height) for topic in topics}
    assert sizes == {(64, 24)}
    info, picture = client.received["depth/camera_info"][-1], client.received["rgb/image_rect"][-1]
    assert info.k[0] == pytest.approx(PRIOR[0] * 64)
    assert picture.encoding == "rgb8"
    assert set(picture.data) == {100}
    assert client.set_parameter("output_resolution", "image").successful
    client.unsubscribe(*topics)


def test_dense_and_voxel_clouds(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("points")
    assert client.set_parameter("cloud.organized", False).successful
    _, cloud = client.send_until_answered("points", lambda: grey_image(client.header()))
    assert (cloud.height, cloud.width, cloud.is_dense) == (1, WIDTH * HEIGHT // 4, True)
    assert client.set_parameter("cloud.voxel_size", 100.0).successful
    _, cloud = client.send_until_answered("points", lambda: grey_image(client.header()))
    assert cloud.width <= 4  # the wall spans four voxels at most
    assert not client.set_parameter("cloud.organized", True).successful
    assert client.set_parameter("cloud.voxel_size", 0.0).successful
    assert client.set_parameter("cloud.organized", True).successful
    client.unsubscribe("points")


def test_rate_limit_skips_images(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image")
    client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert client.set_parameter("rate_limit", 4.0).successful
    before, results = client.diagnostic_values(), len(client.received["depth/image"])
    for _ in range(40):
        client.send(grey_image(client.header()))
        client.spin(0.05)
    assert 6 <= len(client.received["depth/image"]) - results <= 12  # about 2 s
    assert int(client.diagnostic_values()["frames_skipped"]) - int(before["frames_skipped"]) >= 25
    assert client.set_parameter("rate_limit", 0.0).successful
    client.unsubscribe("depth/image")


def test_fixed_scale(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image")
    assert client.set_parameter("scale.factor", 1.5).successful
    assert client.set_parameter("scale.mode", "fixed").successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    np.testing.assert_allclose(depth_of(result), 1.5 * expected_depth(100), rtol=1e-5)
    values = client.diagnostic_values()
    assert (values["scale_source"], float(values["scale_factor"])) == ("fixed", 1.5)
    assert client.set_parameter("scale.mode", "model").successful
    client.unsubscribe("depth/image")


def test_scan_sees_the_wall(start: Callable[..., Any]) -> None:
    with start(scan_enabled=True) as (process, client):
        client.wait_until_active()
        client.subscribe("scan", message_type=LaserScan)
        sent, scan = client.send_until_answered("scan", lambda: grey_image(client.header()))
        assert scan.header.stamp == sent.header.stamp
        assert scan.header.frame_id == "camera"  # of camera_optical
        bearings = scan.angle_min + np.arange(len(scan.ranges)) * scan.angle_increment
        ranges = np.array(scan.ranges)
        seen = np.isfinite(ranges)
        assert seen.any()
        np.testing.assert_allclose(
            ranges[seen], expected_depth(100) / np.cos(bearings[seen]), rtol=1.1 * scan.angle_increment
        )

        client.subscribe("depth/image")

        def nameless() -> Image:  # the scan's frame cannot be known, all else goes on
            image = grey_image(client.header())
            image.header.frame_id = "webcam"
            return image

        client.send_until_answered("depth/image", nameless)
        client.wait(lambda: "set the parameter scan.frame" in process.log)
        assert client.set_parameter("scan.frame", "base_scan").successful
        _, scan = client.send_until_answered("scan", nameless)
        assert scan.header.frame_id == "base_scan"


def test_no_scan_and_no_confidence_unless_there_is_one(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    names = {
        name for name, _ in client.node.get_publisher_names_and_types_by_node("depth_node", client.node.get_namespace())
    }
    published = {name.removeprefix(client.node.get_namespace() + "/") for name in names}
    assert {"depth/image", "depth/camera_info", "depth/color", "points", "rgb/image_rect"} <= published
    assert not {"scan", "depth/confidence"} & published


def test_confidence_of_a_model_that_has_one(
    start: Callable[..., Any], make_tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "sure.onnx", confidence=True)
    with start(model=model.path) as (_, client):
        client.wait_until_active()
        client.subscribe("depth/confidence", message_type=Image)
        sent, result = client.send_until_answered("depth/confidence", lambda: grey_image(client.header()))
        assert result.header == sent.header
        assert result.encoding == "32FC1"
        np.testing.assert_allclose(depth_of(result), 100 / 255, rtol=1e-4)
        client.subscribe("depth/image")
        assert client.set_parameter("min_confidence", 0.5).successful
        _, depth = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        assert np.isnan(depth_of(depth)).all()
        _, depth = client.send_until_answered("depth/image", lambda: grey_image(client.header(), grey=200))
        assert np.isfinite(depth_of(depth)).all()


def test_distorted_images_are_rectified(start: Callable[..., Any]) -> None:
    info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[-0.3, 0.05, 0.0, 0.0, 0.0])
    info.k = [40.0, 0.0, 31.5, 0.0, 40.0, 15.5, 0.0, 0.0, 1.0]
    info.p = [30.0, 0.0, 31.5, 0.0, 0.0, 30.0, 15.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    with start() as (process, client):
        client.wait_until_active()
        client.subscribe("depth/camera_info", "depth/image")

        def is_rectified() -> bool:
            client.send_camera_info(info)
            client.spin(0.1)
            client.send_until_answered("depth/camera_info", lambda: grey_image(client.header()))
            return client.received["depth/camera_info"][-1].k[0] == 30.0

        client.wait(is_rectified)
        published = client.received["depth/camera_info"][-1]
        assert (published.distortion_model, set(published.d), published.p[0]) == ("plumb_bob", {0.0}, 30.0)
        _, depth = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
        centre = depth_of(depth)[HEIGHT // 2, WIDTH // 2]
        assert centre == pytest.approx(expected_depth(100) * 30.0 / WIDTH / PRIOR[0], rel=1e-5)
        assert "images are rectified" in process.log

        assert client.set_parameter("rectify", "off").successful
        client.send_until_answered("depth/camera_info", lambda: grey_image(client.header()))
        assert client.received["depth/camera_info"][-1].d[0] == pytest.approx(-0.3)


def test_camera_info_is_looked_for_beside_a_remapped_image(start: Callable[..., Any]) -> None:
    with start("-r", "image:=front/image_raw") as (_, client):
        images = client.publisher("front/image_raw", Image)
        infos = client.publisher("front/camera_info", CameraInfo)
        client.wait(lambda: images.get_subscription_count() and infos.get_subscription_count())
    with start("-r", "image:=front/image_raw", "-r", "camera_info:=other/camera_info") as (_, client):
        infos = client.publisher("other/camera_info", CameraInfo)
        client.wait(infos.get_subscription_count)


def test_qos_overrides(start: Callable[..., Any], tmp_path: Path) -> None:
    parameters = tmp_path / "qos.yaml"
    with start() as (process, client):
        namespace = process.namespace
    del client
    number = int(namespace.removeprefix("/node")) + 1
    parameters.write_text(
        "/**:\n  ros__parameters:\n    qos_overrides:\n"
        f"      /node{number}/image: {{subscription: {{reliability: reliable}}}}\n"
        f"      /node{number}/depth/image: {{publisher: {{reliability: best_effort, depth: 2}}}}\n"
    )
    with start("--params-file", str(parameters)) as (process, client):
        assert process.namespace == f"/node{number}"
        client.wait_until_active()
        (image,) = client.node.get_subscriptions_info_by_topic(client.resolved("image"))
        assert image.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        (depth,) = client.node.get_publishers_info_by_topic(client.resolved("depth/image"))
        assert depth.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        (points,) = client.node.get_publishers_info_by_topic(client.resolved("points"))
        assert points.qos_profile.reliability == ReliabilityPolicy.RELIABLE
