"""A drive of known geometry, written as every kind of bag.

The camera looks along x of `base_link`, which moves along x of `odom`; the lidar sits 1 m above it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.convert import convert
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from depth_node import bag_messages
from depth_node.bag_messages import jazzy_types, message
from depth_node.camera import PinholeCamera

CAMERA = PinholeCamera(96, 64, 80.0, 90.0, 47.25, 30.25)
START = 1_700_000_000_000_000_000
PERIOD = 100_000_000
FRAMES = 12
IMAGE, INFO, SCAN, ODOMETRY = "/camera/image_raw", "/camera/camera_info", "/points", "/odometry"

T_CAMERA_BASE = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.5], [0, 0, 0, 1.0]])  # half a metre ahead
T_BASE_LIDAR = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1.0]])

# In the camera's frame: two on one pixel, one of its own, one behind the camera, one outside of the image.
POINTS = np.array([[0, 0, 10], [0, 0, 25], [1.5, 0.8, 8], [0.2, 0.1, -6], [30, 0, 5.0]])
PIXELS = {(30, 47): 10.0, (39, 62): 8.0}
"""Depth by (row, column): cx + fx x/z and cy + fy y/z by hand."""


def pixels(number: int) -> np.ndarray:
    """Image of a frame: a texture that moves, uint8 [64, 96, 3], RGB."""
    noise = np.random.default_rng(0).integers(0, 255, (CAMERA.height, 700, 3)).astype(np.uint8)
    world = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(world[:, 6 * number : 6 * number + CAMERA.width])


def stamp(number: float) -> int:
    """Nanoseconds of a frame."""
    return START + round(number * PERIOD)


def messages(
    count: int = FRAMES,
    *,
    compressed: bool = False,
    camera: PinholeCamera = CAMERA,
    numbers: Callable[[int], float] = float,
    only_images: bool = False,
) -> list[tuple[str, int, Any]]:
    """(topic, time, message); `numbers` moves frames in time."""
    T_camera_lidar = T_CAMERA_BASE @ T_BASE_LIDAR
    scan = (POINTS - T_camera_lidar[:3, 3]) @ T_camera_lidar[:3, :3]
    links = {("base_link", "lidar"): T_BASE_LIDAR, ("base_link", "camera"): np.linalg.inv(T_CAMERA_BASE)}
    found: list[tuple[str, int, Any]] = []
    if not only_images:
        found.append(("/tf_static", START, bag_messages.transforms(START, links)))
    for number in range(count):
        time_ns = stamp(numbers(number))
        if compressed:
            _, file = cv2.imencode(".png", pixels(number)[..., ::-1])
            image = bag_messages.compressed_image(time_ns, "camera", file.tobytes(), "png")
            found.append((f"{IMAGE}/compressed", time_ns, image))
        else:
            found.append((IMAGE, time_ns, bag_messages.image(time_ns, "camera", pixels(number), "rgb8")))
        if only_images:
            continue
        found.append((INFO, time_ns, bag_messages.camera_info(time_ns, "camera", camera)))
        late = time_ns + 20_000_000
        points = np.column_stack([scan, np.zeros(len(scan))]).astype(np.float32)
        found.append((SCAN, late, bag_messages.point_cloud(late, "lidar", points, ("x", "y", "z", "intensity"))))
        pose = np.eye(4)
        early = time_ns - 50_000_000
        pose[0, 3] = 2.0 * (early - START) * 1e-9
        velocity = (3.0 + number, 4.0, 0.0)
        found.append((ODOMETRY, early, bag_messages.odometry(early, "odom", "base_link", pose, velocity, (0, 0, 0))))
    return sorted(found, key=lambda entry: entry[1])


def twist(stamp_ns: int, speed: float, stamped: bool) -> Any:
    """geometry_msgs/TwistStamped or Twist of a speed along x."""
    zero = message("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    linear = message("geometry_msgs/msg/Vector3", x=-speed, y=0.0, z=0.0)
    plain = message("geometry_msgs/msg/Twist", linear=linear, angular=zero)
    if not stamped:
        return plain
    return message("geometry_msgs/msg/TwistStamped", header=bag_messages.header(stamp_ns, "base_link"), twist=plain)


def write_ros2(
    path: Path,
    entries: list[tuple[str, int, Any]],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A bag folder."""
    writer = Writer(path, version=9, storage_plugin=storage)
    if compression != CompressionMode.NONE:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer as bag:
        connections: dict[str, Any] = {}
        for topic, time_ns, content in entries:
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, content.__msgtype__, typestore=jazzy_types())
            bag.write(connections[topic], time_ns, jazzy_types().serialize_cdr(content, content.__msgtype__))
    return path


def write_ros1(path: Path, entries: list[tuple[str, int, Any]], compression: str | None = None) -> Path:
    """A ROS 1 bag; compression is bz2 or lz4."""
    folder = write_ros2(path.with_suffix(".ros2"), entries)
    convert(
        [folder],
        path,
        dst_storage="",
        dst_version=0,
        compress=compression,
        compress_mode="",
        default_typestore=jazzy_types(),
        typestore=None,
        exclude_topics=[],
        include_topics=[],
        exclude_msgtypes=[],
        include_msgtypes=[],
    )
    return path
