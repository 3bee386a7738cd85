"""Bags: every kind is read alike, what is written is read back, and faults are told in one sentence."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from depth_node import bag_messages
from depth_node.bags import BagWriter, open_bag
from depth_node.camera import PinholeCamera
from depth_node.errors import BagError
from depth_node.frames import stamp_ns

CAMERA = PinholeCamera(4, 3, 5.0, 6.0, 1.5, 1.0)
PIXELS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
TOPICS = ["/camera/camera_info", "/camera/image_raw"]


def pose(quaternion: np.ndarray, translation: tuple[float, float, float]) -> np.ndarray:
    """[4, 4] of a unit quaternion x, y, z, w by v' = v + 2 w (q x v) + 2 q x (q x v)."""
    imaginary, real = quaternion[:3], quaternion[3]
    basis = np.eye(3)
    crossed = np.cross(imaginary, basis)
    matrix = np.eye(4)
    matrix[:3, :3] = (basis + 2 * real * crossed + 2 * np.cross(imaginary, crossed)).T
    matrix[:3, 3] = translation
    return matrix


def camera_messages(count: int) -> list[tuple[str, int, Any]]:
    messages = []
    for number in range(count):
        stamp = 1_500_000_000_123_456_789 + number * 100_000_000
        messages.append((TOPICS[0], stamp, bag_messages.camera_info(stamp, "camera", CAMERA)))
        messages.append((TOPICS[1], stamp + 5, bag_messages.image(stamp, "camera", PIXELS + number, "rgb8")))
    return messages


def write_mcap(path: Path, count: int = 3) -> Path:
    with BagWriter(path) as bag:
        for topic, stamp, message in camera_messages(count):
            bag.write(topic, stamp, message)
    return path


def write_db3(path: Path, count: int = 3) -> Path:
    types = bag_messages.jazzy_types()
    with Ros2Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        connections: dict[str, Any] = {}
        for topic, stamp, message in camera_messages(count):
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, message.__msgtype__, typestore=types)
            bag.write(connections[topic], stamp, types.serialize_cdr(message, message.__msgtype__))
    return path


def write_ros1(path: Path, count: int = 3) -> Path:
    types = get_typestore(Stores.ROS1_NOETIC)
    types.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf/msg/tfMessage"))
    with Ros1Writer(path) as bag:
        image = bag.add_connection(TOPICS[1], "sensor_msgs/msg/Image", typestore=types)
        info = bag.add_connection(TOPICS[0], "sensor_msgs/msg/CameraInfo", typestore=types)
        tf = bag.add_connection("/tf", "tf/msg/tfMessage", typestore=types)
        for number, (topic, time_ns, ours) in enumerate(camera_messages(count)):
            seconds, nanoseconds = divmod(stamp_ns(ours), 1_000_000_000)
            stamp = types.types["builtin_interfaces/msg/Time"](seconds, nanoseconds)
            header = types.types["std_msgs/msg/Header"](number, stamp, "camera")
            if topic == TOPICS[1]:
                message = types.types["sensor_msgs/msg/Image"](header, 3, 4, "rgb8", 0, 12, ours.data)
                bag.write(image, time_ns, types.serialize_ros1(message, message.__msgtype__))
            else:
                region = types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
                message = types.types["sensor_msgs/msg/CameraInfo"](
                    header, 3, 4, "plumb_bob", ours.d, ours.k, ours.r, ours.p, 0, 0, region
                )
                bag.write(info, time_ns, types.serialize_ros1(message, message.__msgtype__))
        message = types.types["tf/msg/tfMessage"]([])
        bag.write(tf, time_ns, types.serialize_ros1(message, message.__msgtype__))
    return path


@pytest.mark.parametrize("kind", ["mcap file", "mcap directory", "db3 directory", "db3 file", "ROS 1"])
def test_every_kind_of_bag_gives_the_same_messages(tmp_path: Path, kind: str) -> None:
    paths = {
        "mcap file": lambda: write_mcap(tmp_path / "drive.mcap"),
        "mcap directory": lambda: write_mcap(tmp_path / "drive"),
        "db3 directory": lambda: write_db3(tmp_path / "drive"),
        "db3 file": lambda: write_db3(tmp_path / "drive") / "drive.db3",
        "ROS 1": lambda: write_ros1(tmp_path / "drive.bag"),
    }
    with open_bag(paths[kind]()) as bag:
        types = bag.topics()
        assert types[TOPICS[0]] == "sensor_msgs/msg/CameraInfo"
        assert types[TOPICS[1]] == "sensor_msgs/msg/Image"
        assert bag.image_topics() == [TOPICS[1]]
        assert bag.message_count(TOPICS) == 6
        received = list(bag.messages(TOPICS))
        serialized = list(bag.serialized(TOPICS))
    expected = camera_messages(3)
    assert [(topic, time_ns) for topic, time_ns, _ in received] == [(t, ns) for t, ns, _ in expected]
    for (_, _, message), (_, _, ours) in zip(received, expected, strict=True):
        assert stamp_ns(message) == stamp_ns(ours)
        assert message.header.frame_id == "camera"
    np.testing.assert_array_equal(received[3][2].data.reshape(3, 4, 3), PIXELS + 1)
    np.testing.assert_array_equal(received[2][2].k, [5, 0, 1.5, 0, 6, 1, 0, 0, 1])
    jazzy = bag_messages.jazzy_types()
    assert serialized[3][2] == bytes(jazzy.serialize_cdr(expected[3][2], "sensor_msgs/msg/Image"))


def test_ros1_tf_is_read_as_tf2(tmp_path: Path) -> None:
    with open_bag(write_ros1(tmp_path / "drive.bag")) as bag:
        assert bag.topics()["/tf"] == "tf2_msgs/msg/TFMessage"
        assert [message.transforms for _, _, message in bag.messages(["/tf"])] == [[]]


def test_serialized_bytes_are_what_rclpy_reads(tmp_path: Path) -> None:
    serialization = pytest.importorskip("rclpy.serialization")
    sensor_msgs = pytest.importorskip("sensor_msgs.msg")
    with open_bag(write_mcap(tmp_path / "drive.mcap")) as bag:
        _, _, data = next(bag.serialized([TOPICS[1]]))
    image = serialization.deserialize_message(data, sensor_msgs.Image)
    assert (image.height, image.width, image.encoding, image.step) == (3, 4, "rgb8", 12)
    assert bytes(image.data) == PIXELS.tobytes()


def test_missing_topic_is_answered_with_the_image_topics(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "drive.mcap")
    with open_bag(path) as bag, pytest.raises(BagError, match=r"no topic /front; its image topics: /camera/image_raw$"):
        list(bag.messages(["/front", TOPICS[1]]))


def test_absent_bag_is_told(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="there is no bag at"), open_bag(tmp_path / "absent.mcap"):
        pass


def test_unknown_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"0" * 100)
    with pytest.raises(BagError, match=r"cannot read bag .*drive.mp4: .*'.mp4'"), open_bag(path):
        pass


def test_folder_of_several_bag_files_without_metadata_is_told(tmp_path: Path) -> None:
    for name in ("a.mcap", "b.mcap"):
        write_mcap(tmp_path / name)
    with pytest.raises(BagError, match=r"no metadata\.yaml, and 2 bag files"), open_bag(tmp_path):
        pass


@pytest.mark.parametrize("suffix", [".mcap", ".db3", ".bag"])
@given(keep=st.floats(0.0, 0.95), flip=st.integers(1, 255))
@settings(max_examples=15, deadline=None)
def test_damaged_bag_gives_a_bag_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, keep: float, flip: int
) -> None:
    """Cut off anywhere, the bag is refused; with one byte changed it is refused or read, but raises nothing else."""
    folder = tmp_path_factory.mktemp("damaged")
    writers = {".mcap": write_mcap, ".bag": write_ros1}
    if suffix == ".db3":
        whole = (write_db3(folder / "drive") / "drive.db3").read_bytes()
    else:
        whole = writers[suffix](folder / f"drive{suffix}").read_bytes()
    position = int(len(whole) * keep)
    cut, changed = folder / f"cut{suffix}", folder / f"changed{suffix}"
    cut.write_bytes(whole[:position])
    changed.write_bytes(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])

    def read(path: Path) -> None:
        with open_bag(path) as bag:
            list(bag.serialized(bag.image_topics()))

    if suffix != ".db3":  # SQLite reads what is left of a file that ends in empty pages
        with pytest.raises(BagError) as error:
            read(cut)
        assert "\n" not in str(error.value)
    for path in (cut, changed):
        with contextlib.suppress(BagError):
            read(path)


def test_existing_bag_is_not_overwritten(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "drive.mcap")
    with pytest.raises(BagError, match="exists already"):
        BagWriter(path)


def test_bag_whose_writing_fails_is_not_left_behind(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with BagWriter(tmp_path / "drive.mcap") as bag:
            bag.write(*camera_messages(1)[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


@given(
    st.tuples(*[st.floats(-1, 1)] * 4).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1),
    st.tuples(*[st.floats(-1e3, 1e3)] * 3),
)
def test_rotation_survives_its_quaternion(quaternion: np.ndarray, translation: tuple[float, float, float]) -> None:
    quaternion = quaternion / np.linalg.norm(quaternion)
    tf = bag_messages.transforms(0, {("map", "base_link"): pose(quaternion, translation)})
    transform = tf.transforms[0].transform
    rotation = transform.rotation
    written = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    assert abs(abs(written @ quaternion) - 1) < 1e-12
    assert written[3] >= 0
    assert (transform.translation.x, transform.translation.y, transform.translation.z) == translation
