"""Lists of frames, as papers publish them, and Eigen's test drives by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.records import FrameRecord, MissingFiles
from training.errors import DataError

SPLIT_LINE = "`FOLDER INDEX l|r`, the folder being DATE/DRIVE or an odometry sequence's number"
_RIGHT = {"l": False, "2": False, "r": True, "3": True}

EIGEN_TEST_DRIVES = frozenset(
    f"{day}_drive_{number:04d}"
    for day, numbers in {
        "2011_09_26": (2, 9, 13, 20, 23, 27, 29, 36, 46, 48, 52, 56, 59, 64, 84, 86, 93, 96, 101, 106, 117),
        "2011_09_28": (2,),
        "2011_09_29": (71,),
        "2011_09_30": (16, 18, 27),
        "2011_10_03": (27, 47),
    }.items()
    for number in numbers
)
"""The 28 KITTI raw drives of the test set of Eigen et al. (NIPS 2014)."""

ODOMETRY_DRIVES = {
    "00": "2011_10_03_drive_0027",
    "01": "2011_10_03_drive_0042",
    "02": "2011_10_03_drive_0034",
    "03": "2011_09_26_drive_0067",
    "04": "2011_09_30_drive_0016",
    "05": "2011_09_30_drive_0018",
    "06": "2011_09_30_drive_0020",
    "07": "2011_09_30_drive_0027",
    "08": "2011_09_30_drive_0028",
    "09": "2011_09_30_drive_0033",
    "10": "2011_09_30_drive_0034",
}
"""The KITTI raw drives that the odometry benchmark's sequences with poses were cut from (its development kit)."""

_DRIVE = re.compile(r"\d{4}_\d{2}_\d{2}_drive_\d{4}")
_ODOMETRY_SEQUENCE = re.compile(r"(?:^|/)(?P<sequence>\d{2})(?:_\w+)?/image_[0-3](?:/|$)")


@dataclass(frozen=True)
class SplitEntry:
    """One line of a list of frames.

    Args:
        folder: `DATE/DRIVE` of KITTI raw, or the number of an odometry sequence.
        index: frame number.
        is_right: of the stereo pair.
    """

    folder: str
    index: int
    is_right: bool

    @property
    def names(self) -> tuple[str, ...]:
        """`FrameRecord.name` of this frame: of the colour camera, and for odometry also of the grey one."""
        if self.folder.isdecimal():
            cameras = ("image_3", "image_1") if self.is_right else ("image_2", "image_0")
            return tuple(f"{int(self.folder):02d}/{camera}/{self.index:010d}" for camera in cameras)
        camera = "image_03" if self.is_right else "image_02"
        return (f"{self.folder.rpartition('/')[2]}/{camera}/{self.index:010d}",)


def read_split_file(path: Path) -> list[SplitEntry]:
    """Entries of a list such as Eigen's, Zhou's, KITTI's benchmark split, or odometry 09 and 10.

    Raises:
        DataError: there is no such file, or a line is no `FOLDER INDEX SIDE`.
    """
    if not path.is_file():
        raise DataError(f"no split file {path}: expected a list of {SPLIT_LINE}")
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            folder, index, side = line.split()
            entries.append(SplitEntry(folder.rstrip("/"), int(index), _RIGHT[side]))
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}, line {number} is {line!r}: expected {SPLIT_LINE}") from error
    return entries


def by_name(records: Sequence[FrameRecord]) -> dict[str, FrameRecord]:
    """Records by the names that lists have for them."""
    return {record.name: record for record in records}


def select_listed(
    records: Mapping[str, FrameRecord], entries: Sequence[SplitEntry], missing: MissingFiles, neighbours: int = 0
) -> list[FrameRecord]:
    """The listed frames, in the list's order, and after them unlisted ones up to `neighbours` frames away.

    Neighbours are there for listed frames to be compared with; they are no targets and bring no depth.

    Args:
        records: frames by the names that lists have for them (`by_name`).
        missing: takes the listed frames that none of the records is.
    """
    listed: dict[str, FrameRecord] = {}
    for entry in entries:
        name = next((name for name in entry.names if name in records), None)
        if name is None:
            missing.add("image", missing.root / entry.names[0])
        else:
            listed[name] = records[name]
    offsets = range(-neighbours, neighbours + 1)
    places = {(record.sequence, record.index + k) for record in listed.values() for k in offsets}
    others = [r for name, r in records.items() if name not in listed and (r.sequence, r.index) in places]
    return [*listed.values(), *(replace(record, is_target=False, depth=None) for record in others)]


def kitti_drive(*descriptions: str) -> str | None:
    """The KITTI raw drive, `DATE_drive_NNNN`, that a sequence's name or path speaks of; None where it names none.

    Sequences of the odometry benchmark (`NN/image_C`) are named by the drive that they were cut from.
    """
    for description in descriptions:
        drive = _DRIVE.search(description)
        if drive:
            return drive[0]
        odometry = _ODOMETRY_SEQUENCE.search(description)
        if odometry:
            return ODOMETRY_DRIVES.get(odometry["sequence"])
    return None


def without_eigen_test(records: Sequence[FrameRecord]) -> tuple[list[FrameRecord], list[str]]:
    """The frames that are not of Eigen's test drives, and the names of the sequences that were left out."""
    is_test = {name: kitti_drive(name) in EIGEN_TEST_DRIVES for name in {record.sequence for record in records}}
    return [record for record in records if not is_test[record.sequence]], sorted(
        n for n, test in is_test.items() if test
    )
