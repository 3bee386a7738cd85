"""`python -m training prepare` on bags: exit codes, what is said, and the same frames as from KITTI's raw folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import bag_drive
from depth_node import bag_messages
from training.cli import main
from training.data.kitti_bag import kitti_to_bag


def prepare(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments)])


def index(output: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Folder of the only sequence, and its frames."""
    (path,) = output.rglob("index.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return path.parent, [row["frame"] for row in rows if "frame" in row]


def test_kitti_as_a_bag_and_as_a_raw_folder(shared_data: Path, tmp_path: Path) -> None:
    drive = shared_data / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0001_sync"
    kitti_to_bag(drive, tmp_path / "drive.mcap")
    assert prepare(drive, "--output", tmp_path / "raw") == 0
    assert prepare(tmp_path / "drive.mcap", "--output", tmp_path / "bag") == 0
    raw, expected = index(tmp_path / "raw")
    bag, frames = index(tmp_path / "bag")
    assert len(expected) == 10
    for frame, wanted in zip(frames, expected, strict=True):
        for key in ("index", "part", "stamp_ns", "K", "depth"):
            assert frame[key] == pytest.approx(wanted[key], rel=1e-12)
        name = f"{frame['index']:010d}"
        assert (bag / f"{name}.jpg").read_bytes() == (raw / f"{name}.jpg").read_bytes()
        if frame["depth"]:
            file = f"{name}.depth.png"
            depth, truth = (cv2.imread(str(f / file), cv2.IMREAD_UNCHANGED).astype(int) for f in (bag, raw))
            assert np.count_nonzero(truth) > 10_000
            # One step is 1/256 m. tf's quaternions may put a point on the border of two pixels into the other one.
            assert np.count_nonzero(np.abs(depth - truth) > 1) <= 2


def test_damaged_bag_is_exit_code_3_and_the_others_are_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bags = tmp_path / "bags"
    bags.mkdir()
    folder = bag_drive.write_ros2(tmp_path / "cut", bag_drive.messages(60))
    (folder / "cut.mcap").rename(bags / "cut.mcap")
    with (bags / "cut.mcap").open("r+b") as file:
        file.truncate((bags / "cut.mcap").stat().st_size // 2)
    bag_drive.write_ros1(tmp_path / "whole.bag", bag_drive.messages()).rename(bags / "whole.bag")
    assert prepare(bags, "--output", tmp_path / "out", "--width", 48, "--height", 32) == 3
    shown = "".join(capfd.readouterr())
    assert "cut.mcap is not whole" in shown
    assert "of its bytes" in shown
    assert "whole: 12 frames" in shown
    assert 20 < len(list((tmp_path / "out" / "cut").glob("*.jpg"))) < 40


def test_image_topics_are_listed_with_exit_code_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    entries = bag_drive.messages(2)
    for number in range(2):
        time_ns = bag_drive.stamp(number) + 1
        entries.append(("/rear", time_ns, bag_messages.image(time_ns, "r", bag_drive.pixels(number), "bgr8")))
    path = bag_drive.write_ros2(tmp_path / "drive", entries)
    assert prepare(path, "--output", tmp_path / "out") == 2
    shown = "".join(capfd.readouterr())
    assert "/camera/image_raw  sensor_msgs/msg/Image  2" in shown
    assert "/rear  sensor_msgs/msg/Image  2" in shown
    assert prepare(path, "--output", tmp_path / "rear", "--image_topic", "/rear") == 0
