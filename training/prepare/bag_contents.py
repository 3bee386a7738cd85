"""What a recording holds apart from its pixels: stamps of images and scans, calibration, motion, tf, damage."""

from __future__ import annotations

import logging
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depth_node.bag_messages import jazzy_types
from depth_node.bags import Bag
from depth_node.errors import BagError
from depth_node.frames import stamp_ns
from training.prepare.bag_files import Recording, decompressed, open_part
from training.prepare.salvage.bag import SalvagedBag
from training.prepare.transforms import Samples, Trajectory, TransformTree

TF, TF_STATIC = "/tf", "/tf_static"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagTopics:
    """The topics that a recording is read for; None where it has no such topic, or none is wanted."""

    image: str
    camera_info: str | None
    motion: str | None
    lidar: str | None

    def all(self) -> list[str]:
        """Names of all of them, tf included."""
        optional = (self.camera_info, self.motion, self.lidar)
        return [self.image, *(name for name in optional if name), TF, TF_STATIC]


@dataclass
class _Part:
    """What one file gives; messages by topic as (stamp, message), images and scans without the message."""

    stamps: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    messages: dict[str, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))
    unreadable: int = 0
    damage: str = ""
    readable_share: float = 1.0
    is_lost: bool = False


@dataclass(frozen=True)
class BagContents:
    """What all files of a recording give together.

    Args:
        image_stamps: nanoseconds, in the order in which the images are read.
        scan_stamps: those of the lidar.
        camera_infos: (stamp, sensor_msgs/CameraInfo), only where it changed.
        speed: m/s over time; of no samples where nothing tells it.
        poses: T_world_base over time, with the name of that frame; None where there is no odometry.
        damage: a sentence for each file that is not whole.
        damaged: the files that only salvage reads, and those that nothing reads.
    """

    image_stamps: list[int]
    scan_stamps: list[int]
    camera_infos: list[tuple[int, Any]]
    speed: Samples
    poses: tuple[Trajectory, str] | None
    tree: TransformTree
    damage: list[str]
    damaged: set[Path]
    lost: set[Path]


def read_contents(recording: Recording, topics: BagTopics) -> BagContents:
    """Read the recording once, without decoding images and scans."""
    parts = {path: _read_part(path, topics) for path in recording.parts}
    messages: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    stamps: dict[str, list[int]] = defaultdict(list)
    for part in parts.values():
        for name, found in part.messages.items():
            messages[name] += found
        for name, numbers in part.stamps.items():
            stamps[name] += numbers
    unreadable = sum(part.unreadable for part in parts.values())
    if unreadable:
        logger.warning("%s: %d damaged messages of calibration, motion and tf left out", recording.path, unreadable)
    motion = messages[topics.motion] if topics.motion else []
    return BagContents(
        image_stamps=stamps[topics.image],
        scan_stamps=stamps[topics.lidar] if topics.lidar else [],
        camera_infos=_changes(messages[topics.camera_info]) if topics.camera_info else [],
        speed=Samples.sorted([stamp for stamp, _ in motion], [[_speed(message)] for _, message in motion]),
        poses=_poses(motion),
        tree=TransformTree(
            [link for _, message in messages[TF_STATIC] for link in message.transforms],
            [link for _, message in messages[TF] for link in message.transforms],
        ),
        damage=[*_damage(parts, topics.image, recording), *(f"{path} is missing" for path in recording.missing)],
        damaged={path for path, part in parts.items() if part.damage},
        lost={path for path, part in parts.items() if part.is_lost},
    )


def read_messages(bag: Bag, topics: Sequence[str]) -> Iterator[tuple[str, int, str, bytes]]:
    """(topic, time, type, serialized message) of those topics that the bag has.

    Raises:
        BagError: it is damaged.
    """
    types = bag.topics()
    for topic, time_ns, data in bag.serialized([name for name in topics if name in types]):
        yield topic, time_ns, types[topic], decompressed(data)


def deserialized(data: bytes, type_name: str) -> Any:
    """The message.

    Raises:
        BagError: its bytes are not those of such a message.
    """
    try:
        return jazzy_types().deserialize_cdr(data, type_name)
    except Exception as error:  # errors of struct, numpy, unicode and more
        raise BagError(f"damaged message of type {type_name}: {error}") from error


def header_stamp(data: bytes, time_ns: int) -> int:
    """Stamp of a serialized message that begins with a Header; the time of recording where the stamp was never set."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds) or time_ns


def _read_part(path: Path, topics: BagTopics) -> _Part:
    try:
        return _collect(path, topics, is_damaged=False)
    except BagError as error:
        reason = str(error)
    try:
        part = _collect(path, topics, is_damaged=True)
    except BagError as error:
        return _Part(damage=str(error), readable_share=0.0, is_lost=True)
    part.damage = reason
    return part


def _collect(path: Path, topics: BagTopics, is_damaged: bool) -> _Part:
    part = _Part()
    with open_part(path, is_damaged) as bag:
        if isinstance(bag, SalvagedBag):
            part.damage, part.readable_share = "it was never closed, or is cut off", bag.readable_share
        for topic, time_ns, type_name, data in read_messages(bag, topics.all()):
            if topic in (topics.image, topics.lidar):
                part.stamps[topic].append(header_stamp(data, time_ns))
                continue
            try:
                message = deserialized(data, type_name)
            except BagError:
                part.unreadable += 1
                continue
            stamp = stamp_ns(message) if hasattr(message, "header") else 0
            part.messages[topic].append((stamp or time_ns, message))
    return part


def _changes(infos: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Camera calibrations that differ from the one before."""
    kept: list[tuple[int, Any]] = []
    for stamp, info in sorted(infos, key=lambda entry: entry[0]):
        if not kept or _calibration(kept[-1][1]) != _calibration(info):
            kept.append((stamp, info))
    return kept


def _calibration(info: Any) -> tuple[Any, ...]:
    numbers = (*info.d, *info.k, *info.r, *info.p)
    region = info.roi
    return (
        *(info.width, info.height, info.distortion_model, *(float(number) for number in numbers)),
        *(region.x_offset, region.y_offset, region.width, region.height),
    )


def _speed(message: Any) -> float:
    """Length of the linear velocity of an Odometry, Twist, TwistStamped or TwistWithCovarianceStamped."""
    while hasattr(message, "twist"):
        message = message.twist
    velocity = message.linear
    return float((velocity.x**2 + velocity.y**2 + velocity.z**2) ** 0.5)


def _poses(motion: list[tuple[int, Any]]) -> tuple[Trajectory, str] | None:
    if not motion or not hasattr(motion[0][1], "pose"):
        return None
    rows = []
    for _, message in motion:
        position, q = message.pose.pose.position, message.pose.pose.orientation
        rows.append([position.x, position.y, position.z, q.x, q.y, q.z, q.w])
    return Trajectory(Samples.sorted([stamp for stamp, _ in motion], rows)), motion[0][1].child_frame_id


def _damage(parts: dict[Path, _Part], image: str, recording: Recording) -> Iterator[str]:
    for path, part in parts.items():
        if not part.damage:
            continue
        stamps = part.stamps[image]
        seconds = (max(stamps) - min(stamps)) * 1e-9 if stamps else 0.0
        whole = recording.topics.get(image)
        of_all = f" of the {whole.count} in the recording" if whole else ""
        yield (
            f"{path} is not whole ({part.damage}): read {len(stamps)} frames{of_all} over {seconds:.1f} s, "
            f"{part.readable_share:.1%} of its bytes"
        )
