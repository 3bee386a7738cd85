"""Bags as a source of frames: ROS 1 .bag and ROS 2 mcap and db3, split, compressed (zstd) or damaged."""

from __future__ import annotations

import logging
import posixpath
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.bags import IMAGE_TYPES
from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_from_info
from depth_node.compressed_images import rgb_from_compressed
from depth_node.errors import BagError, CameraError, CloudError, ImageError
from depth_node.images import rgb_from_image
from training.data.records import Matrix
from training.prepare.bag_contents import (
    BagContents,
    BagTopics,
    deserialized,
    read_contents,
    read_messages,
)
from training.prepare.bag_files import Recording, Topic, bag_stem, find_recordings, open_part, recorded_topics
from training.prepare.frames import RawFrame, UnreadableFrame
from training.prepare.lidar import cloud_points, match_stamps, sparse_depth

COMPRESSED = "/compressed"  # the suffix of image_transport
NO_TOPIC = "none"

MOTION_TYPES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/TwistWithCovarianceStamped",
    "geometry_msgs/msg/Twist",
)
CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"

LONGEST_WAIT = 64
"""Images that wait for a scan that was recorded after them; then they go without."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagOptions:
    """Which topics of a bag are read. A topic that is not given is found by its type; `none` leaves it out.

    Args:
        image: sensor_msgs/Image or CompressedImage; by default the only one.
        camera_info: by default the one beside the image topic. Without one, intrinsics are unknown.
        motion: for speed and pose: Odometry, by default the only one, or a Twist, TwistStamped or
            TwistWithCovarianceStamped, which is used only where it is given, since most of these are commands.
        lidar: PointCloud2 for depth to evaluate with; by default the only one.
        lidar_tolerance: seconds that a scan may lie before or after its image.
    """

    image: str | None = None
    camera_info: str | None = None
    motion: str | None = None
    lidar: str | None = None
    lidar_tolerance: float = 0.05


def bag_streams(source: Path, options: BagOptions) -> list[BagStream]:
    """A stream for each recording at or below `source`; none where there is no bag."""
    recordings = find_recordings(source)
    names = _sequence_names(recordings, source)
    return [BagStream(recording, name, options) for recording, name in zip(recordings, names, strict=True)]


@dataclass(frozen=True)
class BagStream:
    """Frames of one recording; a `FrameStream`."""

    recording: Recording
    name: str
    options: BagOptions = field(default_factory=BagOptions)

    @cached_property
    def _recorded(self) -> dict[str, Topic]:
        return recorded_topics(self.recording)

    @cached_property
    def topics(self) -> BagTopics:
        """The topics that are read.

        Raises:
            BagError: the recording cannot be read, has no such topic, or several image topics and none is given.
        """
        return choose_topics(self._recorded, self.options, self.recording.path)

    @property
    def source(self) -> str:
        """File or folder and image topic."""
        return f"{self.recording.path} {self.topics.image}"

    @property
    def expected_frames(self) -> int:
        """Images as the bag counts them."""
        return self._recorded[self.topics.image].count

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        """Frames in the order of recording; last, what is lost of files that are damaged or missing.

        Raises:
            BagError: a topic is missing, or nothing can be read.
        """
        contents = read_contents(self.recording, self.topics)
        if not contents.image_stamps:
            raise BagError("; ".join(contents.damage) or f"{self.recording.path}: no images on {self.topics.image}")
        reader = _FrameReader(self.recording, self.topics, contents, self.options.lidar_tolerance)
        yield from reader.frames(first)
        for number, sentence in enumerate(contents.damage, start=len(contents.image_stamps)):
            logger.warning("%s", sentence)
            if number >= first:
                yield UnreadableFrame(str(self.recording.path), sentence)


def choose_topics(found: dict[str, Topic], options: BagOptions, path: Path) -> BagTopics:
    """The topics to read.

    Raises:
        BagError: a topic that was asked for is missing or of another type, or there is not one image topic.
    """
    image = _image_topic(found, options.image, path)
    beside = posixpath.join(posixpath.dirname(image.removesuffix(COMPRESSED)), "camera_info")
    camera_info = _topic(found, options.camera_info, (CAMERA_INFO_TYPE,), path)
    if options.camera_info is None:
        camera_info = beside if beside in found else None
        if camera_info is None:
            logger.warning("%s: no %s, so intrinsics are unknown%s", path, beside, _listed(found, (CAMERA_INFO_TYPE,)))
    return BagTopics(
        image,
        camera_info,
        _topic(found, options.motion, MOTION_TYPES, path, MOTION_TYPES[:1]),
        _topic(found, options.lidar, (CLOUD_TYPE,), path, (CLOUD_TYPE,)),
    )


def _image_topic(found: dict[str, Topic], wanted: str | None, path: Path) -> str:
    images = {name: topic for name, topic in found.items() if topic.type_name in IMAGE_TYPES}
    if wanted in images:
        return str(wanted)
    filled = [name for name, topic in images.items() if topic.count]
    if wanted is None and len(filled) == 1:
        return filled[0]
    there = "".join(f"\n  {name}  {topic.type_name}  {topic.count}" for name, topic in sorted(images.items()))
    problem = f"has no image topic {wanted}" if wanted else f"has {len(filled)} image topics; name one of them"
    raise BagError(f"bag {path} {problem}. Its image topics, with type and number of messages:{there or ' none'}")


def _topic(
    found: dict[str, Topic],
    wanted: str | None,
    accepted: Sequence[str],
    path: Path,
    automatic: Sequence[str] = (),
) -> str | None:
    """The wanted topic, or else the only one of an `automatic` type."""
    if wanted == NO_TOPIC:
        return None
    if wanted is not None:
        if wanted not in found or found[wanted].type_name not in accepted:
            problem = f"of type {found[wanted].type_name}" if wanted in found else "not there"
            raise BagError(f"bag {path}: topic {wanted} is {problem}{_listed(found, accepted)}")
        return wanted
    candidates = [name for name, topic in found.items() if topic.type_name in automatic and topic.count]
    if len(candidates) > 1:
        logger.warning("%s: several topics of one kind, none is used: name one%s", path, _listed(found, automatic))
    return candidates[0] if len(candidates) == 1 else None


def _listed(found: dict[str, Topic], types: Sequence[str]) -> str:
    names = sorted(name for name, topic in found.items() if topic.type_name in types)
    return f"; there are {', '.join(names)}" if names else ""


class _FrameReader:
    """Brings images, scans and what is known of their instants together."""

    def __init__(self, recording: Recording, topics: BagTopics, contents: BagContents, tolerance: float) -> None:
        self._recording, self._topics, self._contents = recording, topics, contents
        self._scan_of_image = match_stamps(contents.image_stamps, contents.scan_stamps, round(tolerance * 1e9))
        self._wanted_scans = set(self._scan_of_image.values())
        self._is_rectified = "image_rect" in posixpath.basename(topics.image.removesuffix(COMPRESSED))
        self._warned: set[str] = set()

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        waiting: deque[tuple[int, str, bytes]] = deque()
        scans: dict[int, bytes] = {}
        position = scan = -1
        for topic, type_name, data in self._images_and_scans():
            if topic == self._topics.image:
                position += 1
                if position >= first:
                    waiting.append((position, type_name, data))
            else:
                scan += 1
                if scan in self._wanted_scans:
                    scans[scan] = data
            while waiting and (self._scan_of_image.get(waiting[0][0], -1) <= scan or len(waiting) > LONGEST_WAIT):
                yield self._frame(*waiting.popleft(), scans)
        for entry in waiting:
            yield self._frame(*entry, scans)

    def _images_and_scans(self) -> Iterator[tuple[str, str, bytes]]:
        names = [name for name in (self._topics.image, self._topics.lidar) if name]
        for path in self._recording.parts:
            if path in self._contents.lost:
                continue
            with open_part(path, path in self._contents.damaged) as bag:
                for topic, _, type_name, data in read_messages(bag, names):
                    yield topic, type_name, data

    def _frame(self, position: int, type_name: str, data: bytes, scans: dict[int, bytes]) -> RawFrame | UnreadableFrame:
        stamp = self._contents.image_stamps[position]
        scan = scans.pop(self._scan_of_image.get(position, -1), None)
        decode = rgb_from_image if type_name == IMAGE_TYPES[0] else rgb_from_compressed
        try:
            message = deserialized(data, type_name)
            rgb = decode(message)
        except (BagError, ImageError) as error:
            return UnreadableFrame(f"{self._topics.image} {stamp}", str(error))
        frame_id = message.header.frame_id
        camera = self._camera(stamp, rgb)
        return RawFrame(
            rgb=rgb,
            stamp_ns=stamp,
            camera=camera,
            depth=self._depth(scan, camera, frame_id, stamp) if scan is not None and camera is not None else None,
            pose=self._pose(frame_id, stamp),
            speed=self._speed(stamp),
            name=str(stamp),
        )

    def _camera(self, stamp: int, rgb: NDArray[np.uint8]) -> PinholeCamera | None:
        """Of the newest camera_info, or the first one for images before it."""
        infos = self._contents.camera_infos
        if not infos:
            return None
        info = next((info for time_ns, info in reversed(infos) if time_ns <= stamp), infos[0][1])
        try:
            return camera_from_info(info, rgb.shape[1], rgb.shape[0], self._is_rectified)
        except CameraError as error:
            self._warn(f"intrinsics are unknown: {error}")
            return None

    def _depth(self, scan: bytes, camera: PinholeCamera, frame_id: str, stamp: int) -> NDArray[np.float32] | None:
        try:
            cloud: Any = deserialized(scan, CLOUD_TYPE)
            points = cloud_points(cloud)
        except (BagError, CloudError) as error:
            self._warn(f"a scan is left out: {error}")
            return None
        T_camera_lidar = self._contents.tree.lookup(frame_id, cloud.header.frame_id, stamp)
        if T_camera_lidar is None:
            self._warn(f"no depth where tf does not join {cloud.header.frame_id} and {frame_id}")
            return None
        return sparse_depth(points @ T_camera_lidar[:3, :3].T + T_camera_lidar[:3, 3], camera)

    def _pose(self, frame_id: str, stamp: int) -> Matrix | None:
        if self._contents.poses is None:
            return None
        trajectory, base = self._contents.poses
        T_world_base, T_base_camera = trajectory.at(stamp), self._contents.tree.lookup(base, frame_id, stamp)
        return None if T_world_base is None or T_base_camera is None else np.asarray(T_world_base @ T_base_camera)

    def _speed(self, stamp: int) -> float | None:
        speed = self._contents.speed.at(stamp)
        return None if speed is None else float(speed[0])

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s: %s", self._recording.path, message)


def _sequence_names(recordings: list[Recording], source: Path) -> list[str]:
    """Each recording's place below `source`, without suffixes unless two are then alike."""
    places = [
        Path(source.resolve().name if recording.path == source else recording.path.relative_to(source))
        for recording in recordings
    ]
    short = [str(place.with_name(bag_stem(place))) for place in places]
    return [str(place) if short.count(name) > 1 else name for place, name in zip(places, short, strict=True)]
