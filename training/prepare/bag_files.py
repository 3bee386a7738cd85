"""The files of bag recordings: which of them follow one another, and each opened, decompressed where that is needed."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from depth_node.bags import Bag, open_bag
from depth_node.errors import BagError
from training.prepare.salvage.bag import open_salvaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BAG_SUFFIXES = (".bag", ".mcap", ".db3", ".bag.active")
"""`.bag.active`: what ROS 1's recorder leaves when it is killed."""

MAX_MESSAGE_BYTES = 1 << 30

_ZSTD_SUFFIXES = (".zstd", ".zst")
_BLOCK_BYTES = 1 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_METADATA = "metadata.yaml"
_ROS1_DATE = r"_\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d"  # of `rosbag record`, anew for each file of a split
_SPLIT_NUMBER = re.compile(rf"(?P<key>.*?)(?P<date>{_ROS1_DATE})?_(?P<number>\d+)$")


@dataclass(frozen=True)
class Topic:
    """A topic's ROS 2 message type, such as `sensor_msgs/msg/Image`, and how many messages there are."""

    type_name: str
    count: int


@dataclass(frozen=True)
class Recording:
    """Files that were recorded one after the other.

    Args:
        path: what names it: the file, the bag's folder, or the common part of its files' names.
        parts: the files, in order.
        missing: files that metadata.yaml names and that are not there.
        topics: as metadata.yaml has them; empty without one.
    """

    path: Path
    parts: tuple[Path, ...]
    missing: tuple[Path, ...] = ()
    topics: dict[str, Topic] = field(default_factory=dict, compare=False)


def find_recordings(source: Path) -> list[Recording]:
    """Recordings at or below `source`, in the order of their names; empty where there is no bag.

    Files that `metadata.yaml` lists are one recording. Without it, so are NAME_0.mcap, NAME_1.mcap and so on, as
    recorders number the files of a split; every other file is a recording of its own.
    """
    if source.is_file():
        return [Recording(source, (source,))] if _bag_name(source) else []
    if not source.is_dir():
        return []
    described = _described(source)
    if described is not None:
        return [described]
    recordings = _grouped([path for path in source.iterdir() if path.is_file() and _bag_name(path)])
    for folder in source.iterdir():
        if folder.is_dir():
            recordings += find_recordings(folder)
    return sorted(recordings, key=lambda recording: recording.path)


@contextmanager
def open_part(path: Path, is_damaged: bool = False) -> Iterator[Bag]:
    """One file of a recording.

    Args:
        is_damaged: read what can be read of a file that is cut off, damaged or without an index.

    Raises:
        BagError: it cannot be read, or there is no room to decompress it.
    """
    with ExitStack() as stack:
        name = _bag_name(path)
        if path.suffix in _ZSTD_SUFFIXES:
            folder = stack.enter_context(TemporaryDirectory(prefix="depth_node-bag-"))
            file = Path(folder) / name
            is_damaged |= not _decompress(path, file)
        else:
            file = path
        opened = open_salvaged(file) if is_damaged or name.endswith(".active") else open_bag(file)
        yield stack.enter_context(opened)


def recorded_topics(recording: Recording) -> dict[str, Topic]:
    """Topics of all files together; of a damaged one those that can be found.

    Raises:
        BagError: no file can be read.
    """
    if recording.topics:
        return recording.topics
    topics: dict[str, Topic] = {}
    errors = []
    for part in recording.parts:
        try:
            found = _topics_of(part)
        except BagError as error:
            errors.append(error)
            continue
        for name, topic in found.items():
            before = topics[name].count if name in topics else 0
            topics[name] = Topic(topic.type_name, before + topic.count)
    if len(errors) == len(recording.parts):
        raise errors[0]
    return topics


def _topics_of(part: Path) -> dict[str, Topic]:
    def read(bag: Bag) -> dict[str, Topic]:
        return {name: Topic(type_name, bag.message_count([name])) for name, type_name in bag.topics().items()}

    try:
        with open_part(part) as bag:
            return read(bag)
    except BagError:
        with open_part(part, is_damaged=True) as bag:
            return read(bag)


def decompressed(data: bytes) -> bytes:
    """A serialized message as it was before the recorder compressed it (zstd, message by message), or as it is.

    Raises:
        BagError: it cannot be decompressed, or is larger than `MAX_MESSAGE_BYTES`.
    """
    if data[:4] != _ZSTD_MAGIC:  # serialized messages begin with 0
        return data
    decompressor = zstd.ZstdDecompressor()
    try:
        plain = decompressor.decompress(data, MAX_MESSAGE_BYTES)
    except zstd.ZstdError as error:
        raise BagError(f"a compressed message of {len(data)} bytes is damaged: {error}") from error
    if not decompressor.eof:
        raise BagError(f"a compressed message of {len(data)} bytes is cut off, or larger than {MAX_MESSAGE_BYTES}")
    return bytes(plain)


def bag_stem(path: Path) -> str:
    """Name of a bag file without the suffixes of its kind and compression."""
    name = _bag_name(path)
    return next((name.removesuffix(suffix) for suffix in BAG_SUFFIXES if name.endswith(suffix)), path.name)


def _bag_name(path: Path) -> str:
    """Name of the bag file without the suffix of its compression; empty if it is none."""
    name = path.stem if path.suffix in _ZSTD_SUFFIXES else path.name
    return name if name.endswith(BAG_SUFFIXES) else ""


def _described(folder: Path) -> Recording | None:
    """The recording whose metadata.yaml is in `folder`, if that can be read; the files tell the rest themselves."""
    try:
        content: Any = yaml.safe_load((folder / _METADATA).read_text())
        information = content["rosbag2_bagfile_information"]
        names = [PurePosixPath(name).name for name in information["relative_file_paths"]]
        topics = {
            str(entry["topic_metadata"]["name"]): Topic(
                str(entry["topic_metadata"]["type"]), int(entry["message_count"])
            )
            for entry in information["topics_with_message_count"]
        }
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
    present = tuple(folder / name for name in names if (folder / name).is_file())
    missing = tuple(folder / name for name in names if not (folder / name).is_file())
    return Recording(folder, present, missing, topics) if present else None


def _grouped(files: list[Path]) -> list[Recording]:
    """Numbered files together: a recording starts with its file 0 and goes on while the numbers do."""
    numbered: list[tuple[str, str, int, Path]] = []
    recordings = []
    for path in files:
        name = _bag_name(path)
        match = _SPLIT_NUMBER.match(bag_stem(path))
        if match is None:
            recordings.append(Recording(path, (path,)))
        else:
            numbered.append((match["key"] + Path(name).suffix, match["date"] or "", int(match["number"]), path))
    groups: list[list[tuple[str, int, Path]]] = []
    for key, _, number, path in sorted(numbered):
        if groups and number and groups[-1][-1][:2] == (key, number - 1):
            groups[-1].append((key, number, path))
        else:
            groups.append([(key, number, path)])
    for group in groups:
        parts = tuple(path for _, _, path in group)
        common = parts[0].with_name(bag_stem(parts[0]).removesuffix("_0"))
        recordings.append(Recording(common if len(parts) > 1 else parts[0], parts))
    return recordings


def _decompress(source: Path, target: Path) -> bool:
    """Write what `source` holds to `target`; whether that was all of it."""
    decompressor = zstd.ZstdDecompressor()
    is_between_frames = True
    try:
        with source.open("rb") as stream, target.open("wb") as output:
            while block := stream.read(_BLOCK_BYTES):
                while block or not (decompressor.needs_input or decompressor.eof):
                    if decompressor.eof:
                        decompressor = zstd.ZstdDecompressor()
                    output.write(decompressor.decompress(block, _BLOCK_BYTES))
                    is_between_frames = decompressor.eof
                    block = decompressor.unused_data if decompressor.eof else b""
    except zstd.ZstdError:
        return False
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise BagError(f"no room to decompress {source} in {target.parent}: set TMPDIR to a larger disk") from error
        raise BagError(f"cannot read {source}: {error}") from error
    return is_between_frames
