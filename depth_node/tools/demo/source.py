"""Where the demo's drive comes from: ray-cast, a folder of frames, or the user's own bag. A bag in each case."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from depth_node import bag_messages
from depth_node.bags import IMAGE_TYPES, BagWriter, open_bag
from depth_node.camera import PinholeCamera
from depth_node.errors import BagError, DepthNodeError
from depth_node.synthetic import Street, SyntheticFrame, World, street_drive, street_world
from depth_node.synthetic.street import T_BASE_CAMERA, base_pose

SEED = 0
CAMERA = PinholeCamera(640, 192, 372.0, 372.0, 319.5, 95.5)
SPEED = 8.0  # m/s
RATE = 10.0  # Hz
MAX_FRAMES = 2000  # the street ends
FRAMES_PER_JOB = 5
START_NS = 1_700_000_000_000_000_000
CAMERA_FRAME = "camera_optical"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

COMPRESSED = "/compressed"  # the suffix of image_transport
TRUTH = "depth/ground_truth"


@dataclass(frozen=True)
class Drive:
    """A bag and its topics that matter. camera_info and truth (32FC1 metres) are None where the bag has none."""

    bag: Path
    image: str
    is_compressed: bool
    camera_info: str | None
    truth: str | None
    frames: int


def find_drive(bag_path: Path, image_topic: str | None) -> Drive:
    """The drive in a bag. Without a topic, the only image topic is taken.

    camera_info and truth are looked for beside the image topic, as image_transport has it.

    Raises:
        BagError: the topic is not there, holds no images, or there are none or several to choose from.
    """
    with open_bag(bag_path) as bag:
        types = bag.topics()
        cameras = [topic for topic in bag.image_topics() if not topic.endswith(TRUTH)]
        if image_topic is None:
            if not cameras:
                raise BagError(f"bag {bag_path} has no images; its topics: {', '.join(types) or 'none'}")
            if len(cameras) > 1:
                raise BagError(
                    f"bag {bag_path} has several image topics; choose one with --topic: {', '.join(cameras)}"
                )
            image_topic = cameras[0]
        frames = bag.message_count([image_topic])
        if types[image_topic] not in IMAGE_TYPES or frames == 0:
            raise BagError(
                f"{image_topic} of bag {bag_path} has {frames} messages of type {types[image_topic]}; "
                f"expected images, as on: {', '.join(cameras) or 'no topic'}"
            )
    namespace = image_topic.removesuffix(COMPRESSED).rpartition("/")[0]
    camera_info, truth = f"{namespace}/camera_info", f"{namespace}/{TRUTH}"
    return Drive(
        bag=bag_path,
        image=image_topic,
        is_compressed=types[image_topic] == "sensor_msgs/msg/CompressedImage",
        camera_info=camera_info if types.get(camera_info) == "sensor_msgs/msg/CameraInfo" else None,
        truth=truth if types.get(truth) == "sensor_msgs/msg/Image" else None,
        frames=frames,
    )


def write_synthetic_drive(path: Path, frames: int) -> None:
    """Ray-cast a drive along a street into a bag: images, camera_info, true depth, odometry and static transforms.

    Raises:
        DepthNodeError: more frames than the street is long.
    """
    if frames > MAX_FRAMES:
        raise DepthNodeError(f"a synthetic drive of {frames} frames; expected at most {MAX_FRAMES}")
    street = _world(frames).street
    assert street is not None
    mounting = {("base_link", CAMERA_FRAME): T_BASE_CAMERA}
    with BagWriter(path) as bag:
        bag.write("/tf_static", START_NS, bag_messages.transforms(START_NS, mounting))
        for number, frame in enumerate(track(_rendered(frames), description="ray-casting a street", total=frames)):
            stamp = frame.stamp_ns
            bag.write("/camera/camera_info", stamp, bag_messages.camera_info(stamp, CAMERA_FRAME, frame.camera))
            bag.write("/camera/image_raw", stamp, bag_messages.image(stamp, CAMERA_FRAME, frame.rgb, "rgb8"))
            bag.write(f"/camera/{TRUTH}", stamp, bag_messages.image(stamp, CAMERA_FRAME, frame.depth, "32FC1"))
            bag.write("/odometry", stamp, _odometry(street, stamp, number * SPEED / RATE))


def write_image_folder(folder: Path, path: Path, rate: float) -> None:
    """Put the pictures of a folder, in the natural order of their names, into a bag as CompressedImage messages.

    Raises:
        DepthNodeError: there are no JPEG or PNG files.
    """
    files = sorted((file for file in folder.glob("*") if file.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order)
    if not files:
        raise DepthNodeError(f"no .jpg or .png files in {folder}; expected the frames of a video")
    with BagWriter(path) as bag:
        for number, file in enumerate(files):
            stamp = START_NS + round(number * 1e9 / rate)
            file_format = "png" if file.suffix.lower() == ".png" else "jpeg"
            message = bag_messages.compressed_image(stamp, CAMERA_FRAME, file.read_bytes(), file_format)
            bag.write(f"/camera/image_raw{COMPRESSED}", stamp, message)


def _rendered(frames: int) -> Iterator[SyntheticFrame]:
    """The frames in their order, rendered on all cores."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for frames_of_job in pool.map(partial(_render, frames=frames), range(0, frames, FRAMES_PER_JOB)):
            yield from frames_of_job


def _render(first: int, frames: int) -> list[SyntheticFrame]:
    count = min(FRAMES_PER_JOB, frames - first)
    drive = street_drive(
        _world(frames),
        CAMERA,
        count,
        speed=SPEED,
        rate=RATE,
        start=first * SPEED / RATE,
        start_stamp_ns=START_NS + round(first * 1e9 / RATE),
    )
    return list(drive)


@cache
def _world(frames: int) -> World:
    return street_world(SEED, length=max(400.0, frames * SPEED / RATE))


def _odometry(street: Street, stamp_ns: int, arc: float) -> Any:
    """Where the vehicle is at `arc` metres along the street, and how it moves, by central differences."""
    pose = base_pose(street, arc)
    step = 0.05  # metres
    moved = np.linalg.inv(base_pose(street, arc - step)) @ base_pose(street, arc + step)
    seconds = 2 * step / SPEED
    yaw_rate = np.arctan2(moved[1, 0], moved[0, 0]) / seconds
    return bag_messages.odometry(
        stamp_ns, "odom", "base_link", pose, moved[:3, 3] / seconds, (0.0, 0.0, float(yaw_rate))
    )


def _natural_order(file: Path) -> list[tuple[int, str]]:
    """frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", file.name)]
