"""Bags that are cut off, damaged or without an index: what they still hold, and how much is said to be lost."""

from __future__ import annotations

import logging
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin

import bag_drive
from bag_drive import IMAGE, stamp
from depth_node.errors import BagError
from training.prepare.bags import BagOptions, bag_streams
from training.prepare.frames import RawFrame, UnreadableFrame

COUNT = 90  # several chunks of a megabyte


def salvage(source: Path) -> tuple[int, str]:
    """Number of frames that are read, each checked against the drive, and what is said of the rest."""
    (stream,) = bag_streams(source, BagOptions())
    *frames, lost = stream.frames(0)
    for number, frame in enumerate(frames):
        assert isinstance(frame, RawFrame)
        assert frame.stamp_ns == stamp(number)
        np.testing.assert_array_equal(frame.rgb, bag_drive.pixels(number))
        assert frame.camera == bag_drive.CAMERA
    assert isinstance(lost, UnreadableFrame)
    return len(frames), lost.reason


def cut(path: Path, share: float) -> Path:
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    return path


def write_mcap(folder: Path, compression: CompressionMode = CompressionMode.NONE) -> Path:
    return bag_drive.write_ros2(folder / "drive", bag_drive.messages(COUNT), compression=compression) / "drive.mcap"


@pytest.mark.parametrize("share", [0.35, 0.5, 0.75, 0.97])
def test_mcap_cut_in_the_middle(tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    read, reason = salvage(cut(write_mcap(tmp_path), share))
    assert share - 0.06 < read / COUNT < share + 0.06  # the chunk that is cut is read, too
    assert f"read {read} frames over {(read - 1) / 10:.1f} s" in reason
    assert float(re.search(r"([\d.]+)% of its bytes", reason)[1]) > 95  # type: ignore[index]
    assert reason in caplog.text


def test_compressed_chunk_that_is_cut(tmp_path: Path) -> None:
    read, _ = salvage(cut(write_mcap(tmp_path, CompressionMode.STORAGE), 0.5))
    assert 0.3 * COUNT < read < 0.6 * COUNT


def test_metadata_tells_how_many_frames_there_were(tmp_path: Path) -> None:
    path = write_mcap(tmp_path)
    cut(path, 0.5)
    read, reason = salvage(path.parent)
    assert f"read {read} frames of the {COUNT} in the recording" in reason


def test_mcap_without_footer_gives_all_frames(tmp_path: Path) -> None:
    path = write_mcap(tmp_path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 20)
    assert salvage(path)[0] == COUNT


def test_damaged_chunk_is_left_out(tmp_path: Path) -> None:
    path = write_mcap(tmp_path)
    content = bytearray(path.read_bytes())
    place = 8
    while content[place] != 6:  # the first chunk
        place += 9 + struct.unpack_from("<Q", content, place + 1)[0]
    start = place + 9 + 24 + 4 + 4 + 8  # after its checksum, which rosbags leaves out, and its compression: none
    (size,) = struct.unpack_from("<Q", content, start - 8)
    struct.pack_into("<I", content, place + 9 + 24, zlib.crc32(content[start : start + size]))
    content[start + size // 2] ^= 0xFF
    path.write_bytes(content)
    (stream,) = bag_streams(path, BagOptions())
    *frames, lost = stream.frames(0)
    first = next(n for n in range(COUNT) if stamp(n) == frames[0].stamp_ns)  # type: ignore[union-attr]
    assert 30 < first < 70
    assert [frame.stamp_ns for frame in frames] == [stamp(n) for n in range(first, COUNT)]  # type: ignore[union-attr]
    assert isinstance(lost, UnreadableFrame)


@pytest.mark.parametrize("compression", [None, "bz2", "lz4"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_ros1_bag_cut_in_the_middle(tmp_path: Path, compression: str | None, share: float) -> None:
    path = bag_drive.write_ros1(tmp_path / "drive.bag", bag_drive.messages(COUNT), compression)
    size = path.stat().st_size
    read, reason = salvage(cut(path, share))
    assert share - 0.3 < read / COUNT < share + 0.1
    told = float(re.search(r"([\d.]+)% of its bytes", reason)[1]) / 100  # type: ignore[index]
    assert told == pytest.approx(share, abs=0.05), size  # the header says where the index was


def test_ros1_bag_without_an_index(tmp_path: Path) -> None:
    path = bag_drive.write_ros1(tmp_path / "drive.bag", bag_drive.messages(COUNT))
    content = path.read_bytes()
    place = content.index(b"index_pos=") + len(b"index_pos=")
    (index,) = struct.unpack_from("<Q", content, place)
    active = tmp_path / "night.bag.active"  # as `rosbag record` leaves it when it is killed
    active.write_bytes(content[:place] + bytes(8) + content[place + 8 : index])
    assert salvage(active)[0] == COUNT
    (stream,) = bag_streams(active, BagOptions())
    assert stream.name == "night"


def test_ros1_last_chunk_was_left_open(tmp_path: Path) -> None:
    path = bag_drive.write_ros1(tmp_path / "drive.bag", bag_drive.messages(20))
    content = bytearray(path.read_bytes())
    place = content.index(b"index_pos=") + len(b"index_pos=")
    (index,) = struct.unpack_from("<Q", content, place)
    content[place : place + 8] = bytes(8)
    chunk = content.index(b"compression=none")
    size_field = content.index(b"size=", chunk - 60)
    header_end = max(chunk + len(b"compression=none"), size_field + 9)
    (length,) = struct.unpack_from("<I", content, header_end)
    content[header_end : header_end + 4] = bytes(4)
    path.write_bytes(content[: header_end + 4 + length - 100])
    assert index > header_end
    assert salvage(path)[0] >= 18


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_db3_cut_in_the_middle(tmp_path: Path, share: float) -> None:
    folder = bag_drive.write_ros2(tmp_path / "drive", bag_drive.messages(COUNT), StoragePlugin.SQLITE3)
    read, reason = salvage(cut(folder / "drive.db3", share))
    assert share - 0.1 < read / COUNT < share + 0.1
    told = float(re.search(r"([\d.]+)% of its bytes", reason)[1]) / 100  # type: ignore[index]
    assert told == pytest.approx(share, abs=0.02)


def test_compressed_file_cut_in_the_middle(tmp_path: Path) -> None:
    folder = bag_drive.write_ros2(
        tmp_path / "drive", bag_drive.messages(COUNT), StoragePlugin.MCAP, CompressionMode.FILE
    )
    (file,) = folder.glob("*.zstd")
    read, reason = salvage(cut(file, 0.5).parent)
    assert 0 < read < COUNT
    assert f"of the {COUNT} in the recording" in reason


def test_missing_part_is_told(tmp_path: Path) -> None:
    folder = bag_drive.write_ros2(tmp_path / "drive", bag_drive.messages(5))
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("- drive.mcap", "- drive.mcap\n  - drive_1.mcap"))
    read, reason = salvage(folder)
    assert read == 5
    assert reason == f"{folder / 'drive_1.mcap'} is missing"


def test_parts_around_a_lost_one_are_read(tmp_path: Path) -> None:
    entries = bag_drive.messages(20)
    folder = tmp_path / "drive"
    folder.mkdir()
    for number, part in enumerate((entries[:40], entries[40:60], entries[60:])):
        written = bag_drive.write_ros2(tmp_path / f"p{number}", part)
        shutil.move(written / f"p{number}.mcap", folder / f"drive_{number}.mcap")
    (folder / "drive_1.mcap").write_bytes(b"\0" * 5000)
    (stream,) = bag_streams(folder, BagOptions())
    *frames, lost = stream.frames(0)
    expected = [time_ns for topic, time_ns, _ in entries[:40] + entries[60:] if topic == IMAGE]
    assert [frame.stamp_ns for frame in frames] == expected  # type: ignore[union-attr]
    assert "drive_1.mcap" in lost.reason  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["drive.mcap", "drive.bag", "drive.db3", "drive.mcap.zstd", "drive.bag.active"])
@pytest.mark.parametrize("content", [b"", b"not a bag at all" * 100, b"\x89MCAP0\r\n", b"#ROSBAG V2.0\n"])
def test_nothing_can_be_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (stream,) = bag_streams(tmp_path / name, BagOptions())
    with pytest.raises(BagError):
        list(stream.frames(0))
