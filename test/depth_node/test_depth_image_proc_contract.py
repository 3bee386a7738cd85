"""Our messages as depth_image_proc::PointCloudXyzrgbNode takes them, and the cloud that it makes of them.

Written after image_pipeline 5.0.1 (ROS 2 Jazzy): depth_image_proc/src/point_cloud_xyzrgb.cpp (topics, QoS, checks of
frames, sizes and encodings), include/depth_image_proc/conversions.hpp and depth_traits.hpp (arithmetic, valid depth);
image_geometry/src/pinhole_camera_model.cpp of vision_opencv (binning and region of interest), and
image_transport/src/camera_common.cpp of image_common (where the camera_info of a colour topic is).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("rclpy")

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_info_message
from depth_node.clouds import organized_cloud
from depth_node.images import color_image_message, depth_image_message

DEPTH_TYPES = {"32FC1": (np.dtype("<f4"), 1.0), "16UC1": (np.dtype("<u2"), 0.001)}
COLOR_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
PIXEL_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}

# rmw_qos_profile_default, for depth, colour and camera_info alike.
SUBSCRIBER_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)


class ContractError(Exception):
    """PointCloudXyzrgbNode would drop these messages, complain, or read beyond their ends."""


def check(depth: Image, rgb: Image, info: CameraInfo) -> None:
    """What PointCloudXyzrgbNode requires, with `exact_sync`; and what it trusts without a check."""
    stamps = [(message.header.stamp.sec, message.header.stamp.nanosec) for message in (depth, rgb, info)]
    if len(set(stamps)) > 1:
        raise ContractError(f"exact_sync never matches the stamps {stamps}")
    if depth.header.frame_id != rgb.header.frame_id:
        raise ContractError(f"frame ids {depth.header.frame_id} and {rgb.header.frame_id} do not match")
    if (depth.width, depth.height) != (rgb.width, rgb.height):
        raise ContractError(f"{depth.width}x{depth.height} does not match {rgb.width}x{rgb.height}")
    if depth.encoding not in DEPTH_TYPES:
        raise ContractError(f"unsupported depth encoding {depth.encoding}")
    if rgb.encoding not in COLOR_CHANNELS:
        raise ContractError(f"{rgb.encoding} would have to be converted")
    for message, pixel_bytes in ((depth, DEPTH_TYPES[depth.encoding][0].itemsize), (rgb, PIXEL_BYTES[rgb.encoding])):
        if message.is_bigendian or message.step % pixel_bytes or message.step < message.width * pixel_bytes:
            raise ContractError(f"rows of {message.step} bytes are misread")
        if len(message.data) < message.height * message.step:
            raise ContractError(f"{len(message.data)} bytes are too few")


def focal_and_center(info: CameraInfo) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of P in an image that is binned and cropped as `info` says, as image_geometry has them."""
    bin_x, bin_y = max(info.binning_x, 1), max(info.binning_y, 1)
    return (
        info.p[0] / bin_x,
        info.p[5] / bin_y,
        (info.p[2] - info.roi.x_offset) / bin_x,
        (info.p[6] - info.roi.y_offset) / bin_y,
    )


def xyzrgb(depth: Image, rgb: Image, info: CameraInfo) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The cloud of PointCloudXyzrgbNode: points [H, W, 3] with NaN where invalid, colours [H, W, 3]."""
    check(depth, rgb, info)
    dtype, unit = DEPTH_TYPES[depth.encoding]
    stored = np.frombuffer(depth.data, dtype).reshape(depth.height, -1)[:, : depth.width]
    is_valid = np.isfinite(stored) if dtype.kind == "f" else stored != 0
    fx, fy, cx, cy = focal_and_center(info)
    v, u = np.indices(stored.shape)
    z = stored.astype(np.float64) * unit
    points = np.dstack([(u - cx) * z / fx, (v - cy) * z / fy, z]).astype(np.float32)
    points[~is_valid] = np.nan
    pixels = np.frombuffer(rgb.data, np.uint8).reshape(rgb.height, rgb.step)[:, : rgb.width * PIXEL_BYTES[rgb.encoding]]
    colors = pixels.reshape(rgb.height, rgb.width, -1)[..., COLOR_CHANNELS[rgb.encoding]]
    return points, colors


def camera_info_topic(color_topic: str) -> str:
    """getCameraInfoTopic of image_transport, of a resolved topic."""
    return f"{color_topic.rpartition('/')[0]}/camera_info"


def frame(width: int, height: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8], PinholeCamera]:
    """Depth with a fifth of it invalid, colours, and a camera whose pixels are not square."""
    random = np.random.default_rng(seed)
    depth = random.uniform(0.5, 60, (height, width)).astype(np.float32)
    depth[random.random(depth.shape) < 0.2] = np.nan
    rgb = random.integers(0, 256, (height, width, 3), np.uint8)
    camera = PinholeCamera(width, height, 0.9 * width, 1.1 * width, 0.48 * width, 0.53 * height)
    return depth, rgb, camera


def header() -> Header:
    header = Header(frame_id="camera_optical")
    header.stamp.sec, header.stamp.nanosec = 1_700_000_000, 123_456_789
    return header


def cloud_fields(message: Any) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points and colours of one of our organised clouds, as sensor_msgs' PointCloud2Iterator reads x, y, z, r, g, b."""
    cells = np.frombuffer(message.data, np.float32).reshape(message.height, message.width, 4)
    packed = cells[..., 3].copy().view(np.uint32)
    return cells[..., :3], np.dstack([packed >> shift & 255 for shift in (16, 8, 0)]).astype(np.uint8)


@given(width=st.integers(1, 40), height=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), is_calibrated=st.booleans())
def test_its_cloud_is_ours(width: int, height: int, seed: int, is_calibrated: bool) -> None:
    depth, rgb, camera = frame(width, height, seed)
    points, colors = xyzrgb(
        depth_image_message(depth, header()),
        color_image_message(rgb, header()),
        camera_info_message(camera, is_calibrated, header()),
    )
    our_points, our_colors = cloud_fields(organized_cloud(depth, camera, rgb, 1, header()))
    np.testing.assert_allclose(points, our_points, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(colors, our_colors)


def test_its_cloud_of_millimetres_is_ours_to_half_a_millimetre() -> None:
    depth, rgb, camera = frame(32, 24)
    points, _ = xyzrgb(
        depth_image_message(depth, header(), "16UC1"),
        color_image_message(rgb, header()),
        camera_info_message(camera, True, header()),
    )
    our_points, _ = cloud_fields(organized_cloud(depth, camera, rgb, 1, header()))
    np.testing.assert_allclose(points[..., 2], our_points[..., 2], rtol=0, atol=0.000_51)
    np.testing.assert_array_equal(np.isnan(points), np.isnan(our_points))


def test_a_depth_of_another_size_than_the_colours_would_be_dropped() -> None:
    depth, rgb, camera = frame(32, 24)
    info = camera_info_message(camera, True, header())
    with pytest.raises(ContractError, match="32x24 does not match 32x12"):
        check(depth_image_message(depth, header()), color_image_message(rgb[::2], header()), info)


RGB_TOPIC, DEPTH_TOPIC, INFO_TOPIC = "rgb/image_rect", "depth/image", "depth/camera_info"


def distorted_camera_info(client: Any) -> CameraInfo:
    info = CameraInfo(header=client.header(), width=64, height=32, distortion_model="plumb_bob")
    info.d = [-0.3, 0.1, 0.001, 0.0, 0.0]
    info.k = [40.0, 0.0, 31.0, 0.0, 42.0, 15.0, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [38.0, 0.0, 30.0, 0.0, 0.0, 39.0, 16.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


@pytest.mark.parametrize(
    ("parameters", "is_distorted", "focal_length"),
    [
        ({}, False, 0.58 * 64),
        ({"output_resolution": "half", "depth_encoding": "16UC1"}, False, 0.58 * 32),
        ({}, True, 38.0),
        ({"output_resolution": "half"}, True, 19.0),
    ],
)
def test_what_a_real_node_publishes_is_taken(
    start: Callable[..., AbstractContextManager[Any]],
    parameters: dict[str, str],
    is_distorted: bool,
    focal_length: float,
) -> None:
    """Heard with its QoS, matched by stamps alone, with the prior's intrinsics or rectified from a distorted camera."""
    from depth_node.frames import stamp_ns
    from node_harness import grey_image

    with start(**parameters) as (_, client):
        client.wait_until_active()
        for topic, message_type in ((DEPTH_TOPIC, Image), (RGB_TOPIC, Image), (INFO_TOPIC, CameraInfo)):
            client.subscribe(topic, message_type=message_type, qos=SUBSCRIBER_QOS)

        def synchronized_and_calibrated() -> list[tuple[Any, Any, Any]]:
            if is_distorted:
                client.send_camera_info(distorted_camera_info(client))
            client.send(grey_image(client.header()))
            client.spin(0.1)
            by_stamp = [
                {stamp_ns(message): message for message in client.received[topic]}
                for topic in (DEPTH_TOPIC, RGB_TOPIC, INFO_TOPIC)
            ]
            matched = [
                tuple(messages[stamp] for messages in by_stamp) for stamp in set.intersection(*map(set, by_stamp))
            ]
            return [match for match in matched if (match[2].distortion_model == "plumb_bob") == is_distorted]

        depth, rgb, info = client.wait(synchronized_and_calibrated)[-1]
        check(depth, rgb, info)
        assert (info.width, info.height) == (depth.width, depth.height)
        assert focal_and_center(info)[0] == pytest.approx(focal_length)
        assert not any(info.d)
        points, colors = xyzrgb(depth, rgb, info)
        assert np.isfinite(points).any()
        assert {depth.header.frame_id, rgb.header.frame_id, info.header.frame_id} == {"camera_optical"}
        assert colors.shape == points.shape


@pytest.mark.usefixtures("private_ros_domain")
def test_remappings_lead_its_topics_to_ours() -> None:
    """It looks for camera_info beside the colour topic after remapping, and then remaps that name once more."""
    remappings = {
        "rgb/image_rect_color": RGB_TOPIC,
        "rgb/camera_info": INFO_TOPIC,
        "depth_registered/image_rect": DEPTH_TOPIC,
    }
    rules = [word for ours in remappings.items() for word in ("-r", ":=".join(ours))]
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("cloud", namespace="robot", context=context, cli_args=["--ros-args", *rules])
    color_topic = node.resolve_topic_name("rgb/image_rect_color")
    topics = [color_topic, node.resolve_topic_name(camera_info_topic(color_topic))]
    topics.append(node.resolve_topic_name("depth_registered/image_rect"))
    node.destroy_node()
    context.shutdown()
    assert topics == [f"/robot/{topic}" for topic in (RGB_TOPIC, INFO_TOPIC, DEPTH_TOPIC)]
