"""Shards that `prepare --shards` wrote, read from a disk or from behind a URL; what is in them says the writer."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import webdataset
from numpy.typing import NDArray

from training.data.depth_files import KITTI_PNG_SCALE, DepthPng
from training.data.image_files import decode_rgb
from training.data.instance_files import SUFFIX as INSTANCES_SUFFIX
from training.data.instance_files import decode_instances
from training.data.records import FrameRecord, Intrinsics, KnownSpeed
from training.errors import DataError, FrameError
from training.prepare.shards import FORMAT, SHARDS_FILE

_SHARD_NAME = re.compile(r"\d{6}\.tar")


@dataclass(frozen=True)
class Shards:
    """What `shards.json` says.

    Args:
        base: folder or URL of the shards.
        targets_of: name of each shard -> its frames that can be targets.
        neighbours: how far away a target's sources may be.
        intrinsics: median of the targets', None where none is known.
    """

    base: str
    targets_of: dict[str, int]
    neighbours: int
    intrinsics: Intrinsics | None

    @property
    def names(self) -> list[str]:
        """Of the shards."""
        return list(self.targets_of)

    @property
    def targets(self) -> int:
        """Frames that can be targets, of all shards."""
        return sum(self.targets_of.values())

    def clips(self, name: str) -> Iterator[ShardClip]:
        """The clips of one shard.

        Raises:
            DataError: the shard cannot be reached, is cut off or damaged.
        """
        url = self.url(name)
        left = self.targets_of[name]
        for clip in _read_clips(url):
            left -= sum(record.is_target for record in clip.records)
            yield clip
        if left:
            raise DataError(f"shard {url} ends early: {left} frames are missing; copy it again")

    def url(self, name: str) -> str:
        """Where a shard is."""
        return f"{self.base.rstrip('/')}/{name}"


def read_shards(base: str) -> Shards:
    """The shards in a folder or behind a URL (http, https, gs, and what else webdataset opens).

    Raises:
        DataError: it cannot be read, or is not what `prepare` writes.
    """
    url = f"{base.rstrip('/')}/{SHARDS_FILE}"
    try:
        with webdataset.gopen(url) as file:
            content = json.loads(file.read())
        targets_of = {name: int(count) for name, count in content["shards"].items()}
        if content["format"] != FORMAT or not all(map(_SHARD_NAME.fullmatch, targets_of)):
            raise ValueError("another format")
        intrinsics = None if content["K"] is None else cast(Intrinsics, tuple(map(float, content["K"])))
        return Shards(base, targets_of, int(content["neighbours"]), intrinsics)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{url} cannot be read ({error}): expected what `prepare --shards` writes") from error


def _read_clips(url: str) -> Iterator[ShardClip]:
    try:
        for sample in webdataset.tarfile_samples([{"url": url}]):
            yield ShardClip.parse(sample)
    except (OSError, EOFError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise DataError(
            f"shard {url} cannot be read ({error}): see whether it is there and can be reached, then go"
            " on with --resume"
        ) from error


@dataclass(frozen=True)
class ShardClip:
    """A clip as it lies in a shard, a `FrameStore`: records whose images and depth are members of the sample.

    Args:
        records: frames.
        files: encoded images and depth maps by the ends of their names.
    """

    records: tuple[FrameRecord, ...]
    files: dict[str, Any]

    @staticmethod
    def parse(sample: dict[str, Any]) -> ShardClip:
        """From a WebDataset sample."""
        content = json.loads(sample["json"])
        targets = set(content["targets"])
        frames = enumerate(content["frames"])
        return ShardClip(tuple(_record(frame, place, place in targets) for place, frame in frames), sample)

    def image(self, path: Path) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], RGB.

        Raises:
            FrameError: it cannot be decoded.
        """
        return decode_rgb(self._member(path.name), self._name(path.name))

    def depth(self, record: FrameRecord) -> NDArray[np.floating]:
        """float32 [H, W], metres, 0 where unknown.

        Raises:
            FrameError: it cannot be decoded.
        """
        member = depth_member(record.image)
        stored = cv2.imdecode(np.frombuffer(self._member(member), np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.dtype != np.uint16:
            raise FrameError(f"{self._name(member)} cannot be decoded as a 16-bit PNG")
        return stored.astype(np.float32) / np.float32(KITTI_PNG_SCALE)

    def instances(self, record: FrameRecord) -> NDArray[np.uint8]:
        """uint8 [H, W], 0 for none.

        Raises:
            FrameError: it cannot be decoded.
        """
        member = instances_member(record.image)
        return decode_instances(self._member(member), self._name(member))

    def _member(self, member: str) -> bytes:
        if not self.files.get(member):
            raise FrameError(f"{self._name(member)} is missing")
        return bytes(self.files[member])

    def _name(self, member: str) -> str:
        return f"{self.files['__url__']}: {self.files['__key__']}.{member}"


def depth_member(image: Path) -> str:
    """The member that holds the depth of an image's member."""
    return f"{image.stem}.depth.png"


def instances_member(image: Path) -> str:
    """The member that holds the instance mask of an image's member."""
    return f"{image.stem}{INSTANCES_SUFFIX}"


def _record(frame: dict[str, Any], place: int, is_target: bool) -> FrameRecord:
    pose, image = frame["T_world_camera"], Path(f"{place:03d}{frame['suffix']}")
    return FrameRecord(
        image=image,
        intrinsics=None if frame["K"] is None else cast(Intrinsics, tuple(frame["K"])),
        sequence=frame["sequence"],
        index=frame["index"],
        stamp_ns=frame["stamp_ns"],
        pose=None if pose is None else np.vstack([np.reshape(pose, (3, 4)), [0.0, 0.0, 0.0, 1.0]]),
        depth=DepthPng(Path(depth_member(image))) if frame["depth"] else None,
        speed=None if frame.get("speed") is None else KnownSpeed(frame["speed"]),
        instances=Path(instances_member(image)) if frame.get("instances") else None,
        is_target=is_target,
    )
