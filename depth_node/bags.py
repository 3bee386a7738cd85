"""Bags read and written through `rosbags`, without a ROS installation.

Read: ROS 2 bags (mcap or db3: the file, or the directory with its metadata.yaml) and ROS 1 .bag files. Messages come
out as ROS 2's either way. Written: mcap with the types of ROS 2 Jazzy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from rosbags.convert.converter import is_same_wireformat
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from depth_node.bag_messages import jazzy_types
from depth_node.errors import BagError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

_RENAMED_TYPES = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}  # ROS 1's; the fields are the same
_NEVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _NEVER,
    _NEVER,
    QosLiveliness.AUTOMATIC,
    _NEVER,
    avoid_ros_namespace_conventions=False,
)


class BagReader(Protocol):
    """What `Bag` needs of an open reader; those of rosbags have it."""

    @property
    def connections(self) -> list[Connection]:
        """Topics, each with its type and number of messages."""

    @property
    def start_time(self) -> int:
        """Time of the first message, nanoseconds."""

    @property
    def end_time(self) -> int:
        """Time of the last message, nanoseconds, plus one."""

    def messages(self, connections: list[Connection]) -> Iterator[tuple[Connection, int, Any]]:
        """(connection, time, serialized message) in order."""


class Bag:
    """An open bag, as `open_bag` gives it. Times are nanoseconds at which messages were recorded."""

    def __init__(self, path: Path, reader: BagReader) -> None:
        self.path = path
        self._reader = reader

    @property
    def start_ns(self) -> int:
        """Time of the first message."""
        return int(self._reader.start_time)

    @property
    def end_ns(self) -> int:
        """Time of the last message."""
        return int(self._reader.end_time) - 1

    def topics(self) -> dict[str, str]:
        """ROS 2 message type by topic name, such as `sensor_msgs/msg/Image`."""
        return {c.topic: _RENAMED_TYPES.get(c.msgtype, c.msgtype) for c in self._reader.connections}

    def image_topics(self) -> list[str]:
        """Topics of Image or CompressedImage messages."""
        return sorted(topic for topic, type_name in self.topics().items() if type_name in IMAGE_TYPES)

    def message_count(self, topics: Sequence[str]) -> int:
        """Number of messages of the topics together."""
        return sum(connection.msgcount for connection in self._connections(topics))

    def messages(self, topics: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, time, message) in the order of time; messages have the fields of ROS 2 Jazzy's, arrays are numpy.

        Raises:
            BagError: a topic is not in the bag, its type is not one of ROS 2's common ones, or the bag is damaged.
        """
        self._connections(topics)
        self._check_types(topics)
        types = self.topics()
        for topic, time_ns, data in self.serialized(topics):
            with _damage_reported(self.path):
                message = jazzy_types().deserialize_cdr(data, types[topic])
            yield topic, time_ns, message

    def serialized(self, topics: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
        """(topic, time, message as ROS 2's CDR bytes) in the order of time; ROS 1 messages are converted.

        Raises:
            BagError: a topic is not in the bag, is of a ROS 1 type that ROS 2 lacks, or the bag is damaged.
        """
        connections = self._connections(topics)
        if not connections:
            return
        if self._is_ros1:
            self._check_types(topics)
        with _damage_reported(self.path):
            messages = self._ros1_messages(connections) if self._is_ros1 else self._reader.messages(connections)
            iterator = iter(messages)
        while True:
            with _damage_reported(self.path):
                item = next(iterator, None)
            if item is None:
                return
            connection, time_ns, data = item
            yield connection.topic, time_ns, bytes(data)

    def _check_types(self, topics: Sequence[str]) -> None:
        types = self.topics()
        unknown = {types[topic] for topic in topics} - set(jazzy_types().fielddefs)
        if unknown:
            names = ", ".join(sorted(unknown))
            raise BagError(f"bag {self.path}: {names} is not a message of ROS 2's common interfaces; leave it out")

    @property
    def _is_ros1(self) -> bool:
        return isinstance(self._reader, Ros1Reader)

    def _ros1_messages(self, connections: list[Connection]) -> Iterator[tuple[Connection, int, memoryview]]:
        ros2_types = jazzy_types()
        for connection in connections:
            type_name = connection.msgtype
            ros1_types = get_typestore(Stores.EMPTY)
            ros1_types.register(get_types_from_msg(connection.msgdef.data, type_name))
            if not is_same_wireformat(ros1_types, ros2_types, type_name, _RENAMED_TYPES.get(type_name, type_name)):
                raise BagError(f"bag {self.path}: {type_name} of ROS 1 has other fields than ROS 2's; leave it out")
        for connection, time_ns, data in self._reader.messages(connections):
            type_name = _RENAMED_TYPES.get(connection.msgtype, connection.msgtype)
            yield connection, time_ns, ros2_types.ros1_to_cdr(data, type_name)

    def _connections(self, topics: Sequence[str]) -> list[Connection]:
        missing = set(topics) - set(self.topics())
        if missing:
            there = ", ".join(self.image_topics()) or "none"
            raise BagError(f"bag {self.path} has no topic {', '.join(sorted(missing))}; its image topics: {there}")
        return [connection for connection in self._reader.connections if connection.topic in topics]


@contextmanager
def open_bag(path: str | Path) -> Iterator[Bag]:
    """The bag at `path`, opened for reading.

    Raises:
        BagError: there is no bag, or it is damaged.
    """
    path = Path(path)
    with _damage_reported(path):
        reader = Ros1Reader(path) if path.suffix == ".bag" else Ros2Reader(_ros2_path(path))
        reader.open()
    try:
        yield Bag(path, reader)
    finally:
        reader.close()


class BagWriter:
    """Writes a ROS 2 mcap bag: one file if the path ends in `.mcap`, otherwise a directory with its metadata.yaml.

    A context manager; what was begun is removed when its body fails.

    Raises:
        BagError: the path exists already.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists():
            raise BagError(f"bag {self.path} exists already; remove it or choose another name")
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        # rosbags writes a directory; a single file is then taken out of it. Beside the target: moved without a copy.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._scratch = TemporaryDirectory(prefix=".bag-", dir=self.path.parent)
        self._directory = Path(self._scratch.name) / self.path.stem
        self._writer = Writer(self._directory, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        with self._scratch:
            if exception_type is not None:
                self._writer.abort()
                return
            self._writer.close()
            is_file = self.path.suffix == ".mcap"
            written = self._directory / f"{self._directory.name}.mcap" if is_file else self._directory
            written.replace(self.path)

    def write(self, topic: str, time_ns: int, message: Any) -> None:
        """Append a message of `depth_node.bag_messages` (or one read from a bag)."""
        type_name = message.__msgtype__
        if topic not in self._connections:
            qos = [_LATCHED] if topic.endswith("tf_static") else []
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=jazzy_types(), offered_qos_profiles=qos
            )
        self._writer.write(self._connections[topic], time_ns, jazzy_types().serialize_cdr(message, type_name))


def _ros2_path(path: Path) -> Path:
    """The path itself; for a directory without metadata.yaml, which a recorder writes last, the one bag file in it."""
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))
        if len(files) != 1:
            raise BagError(f"{path} has no metadata.yaml, and {len(files)} bag files; name one .mcap or .db3 file")
        return files[0]
    return path


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Turns whatever reading a bag raises into a BagError of one sentence."""
    try:
        yield
    except BagError:
        raise
    except FileNotFoundError:
        raise BagError(f"there is no bag at {path}") from None
    except Exception as error:  # on damaged data rosbags lets errors of struct, zstd, lz4 and SQLite through
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise BagError(f"cannot read bag {path}: {reason}") from error
