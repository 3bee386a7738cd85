"""Lists of frames as they are published, and the drives of Eigen's test set."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.records import FrameRecord, MissingFiles
from training.data.source import Source
from training.data.splits import (
    EIGEN_TEST_DRIVES,
    SplitEntry,
    by_name,
    kitti_drive,
    read_split_file,
    select_listed,
    without_eigen_test,
)
from training.errors import DataError


def record(sequence: str, index: int) -> FrameRecord:
    return FrameRecord(Path(f"{index}.png"), None, sequence, index, index)


def test_eigens_test_drives_are_those_of_the_published_list(shared_data: Path) -> None:
    entries = read_split_file(shared_data / "splits" / "eigen" / "test_files.txt")
    assert len(entries) == 697
    drives = {entry.folder.rpartition("/")[2].removesuffix("_sync") for entry in entries}
    assert drives == EIGEN_TEST_DRIVES
    assert len(drives) == 28


def test_training_lists_have_no_test_drive(shared_data: Path) -> None:
    for name, frames in (("train", 39810), ("val", 4424)):
        entries = read_split_file(shared_data / "splits" / "eigen_zhou" / f"{name}_files.txt")
        assert len(entries) == frames
        assert not {kitti_drive(entry.folder) for entry in entries} & EIGEN_TEST_DRIVES


def test_odometry_lists(shared_data: Path) -> None:
    entries = read_split_file(shared_data / "splits" / "odom" / "test_files_09.txt")
    assert entries[1] == SplitEntry("9", 1, is_right=False)
    assert entries[1].names == ("09/image_2/0000000001", "09/image_0/0000000001")


@pytest.mark.parametrize(
    ("name", "drive"),
    [
        ("2011_09_26_drive_0002_sync/image_02", "2011_09_26_drive_0002"),
        ("2011_09_26_drive_0002_sync/image_02/003", "2011_09_26_drive_0002"),
        ("00/image_2", "2011_10_03_drive_0027"),
        ("00_small/image_2/000", "2011_10_03_drive_0027"),
        ("07/image_0", "2011_09_30_drive_0027"),
        ("11/image_2", None),
        ("holiday/image_2", None),
        ("kitti_2015/000002", None),
    ],
)
def test_drive_of_a_name(name: str, drive: str | None) -> None:
    assert kitti_drive(name) == drive


def test_records_without_test_drives() -> None:
    sequences = [
        "2011_09_26_drive_0001_sync/image_02",
        "2011_09_26_drive_0002_sync/image_03",
        "04/image_2",
        "03/image_2",
    ]
    kept, excluded = without_eigen_test([record(sequence, 0) for sequence in sequences])
    assert [r.sequence for r in kept] == [sequences[0], sequences[3]]
    assert excluded == sorted([sequences[1], sequences[2]])


def test_source_without_test_drives(shared_data: Path) -> None:
    root = shared_data / "kitti_odometry"
    with pytest.raises(DataError, match="only frames of Eigen's test drives: 00_small/image_2"):
        Source("kitti_odometry", select=["00_small"], exclude_eigen_test=True).read(root)
    everything = Source("kitti_odometry", cameras=["image_2", "image_0"], exclude_eigen_test=True).read(root)
    assert {r.sequence for r in everything} == {"03/image_0"}


def test_where_the_drives_are_not_named_they_cannot_be_left_out() -> None:
    with pytest.raises(DataError, match="KITTI 2015 does not name the drives"):
        Source("kitti_2015", exclude_eigen_test=True)


def test_neighbours_of_listed_frames_are_no_targets() -> None:
    drive = "2011_09_26_drive_0001_sync"
    records = [record(f"{drive}/image_02", i) for i in range(6)]
    entries = [SplitEntry(f"2011_09_26/{drive}", i, False) for i in (4, 1, 9)]
    missing = MissingFiles("KITTI", Path("root"))
    found = select_listed(by_name(records), entries, missing, neighbours=1)
    assert [(r.index, r.is_target) for r in found] == [
        (4, True),
        (1, True),
        (0, False),
        (2, False),
        (3, False),
        (5, False),
    ]
    assert missing.paths == {"image": [Path(f"root/{drive}/image_02/0000000009")]}


@pytest.mark.parametrize("line", ["drive 3", "drive x l", "drive 3 left", "a b 3 l"])
def test_lines_of_another_form_are_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"2011_09_26/a 0 l\n\n{line}\n")
    with pytest.raises(DataError, match=r"list\.txt, line 3 is"):
        read_split_file(tmp_path / "list.txt")
