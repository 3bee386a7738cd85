"""Where frames come from, as a recipe says it."""

from __future__ import annotations

import logging
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Literal

from training.data.folder import read_folder
from training.data.kitti_2015 import read_kitti_2015
from training.data.kitti_odometry import read_kitti_odometry
from training.data.kitti_raw import read_kitti_raw
from training.data.prepared import read_prepared
from training.data.proxy_files import with_proxy_depth
from training.data.records import FrameRecord
from training.data.splits import without_eigen_test
from training.data.synthetic import read_synthetic
from training.data.tum import read_tum
from training.errors import DataError

Kind = Literal["kitti_raw", "kitti_odometry", "kitti_2015", "tum", "folder", "synthetic", "prepared"]

LISTED_NEIGHBOURS = 4
"""Unlisted frames that are there for listed ones to be compared with: as far away as any recipe's source offsets."""

OPTIONS_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "kitti_raw": ("select", "cameras", "split_file", "depth_path"),
    "kitti_odometry": ("select", "cameras", "split_file"),
    "kitti_2015": ("select", "cameras"),
    "tum": ("select", "freiburg"),
    "folder": ("camera_file",),
    "synthetic": ("select",),
    "prepared": ("select", "split_file"),
}
OPTIONS_OF_ALL_KINDS = ("kind", "path", "exclude_eigen_test", "proxy", "prefer_proxy", "repeat")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Frames of one origin. Paths are relative to the data's root unless absolute.

    Args:
        kind: layout of the folder.
        path: the folder.
        select: drives (kitti_raw, synthetic), sequences (kitti_odometry, tum, prepared) or lists (kitti_2015: training,
            validation); empty takes all. For tum these are folders below `path`; empty takes `path` for the sequence.
        cameras: image folders (kitti_raw: image_02 by default; kitti_odometry and kitti_2015: image_2).
        split_file: list of frames, `FOLDER INDEX l|r` a line, FOLDER being DATE/DRIVE or the number of an odometry
            sequence (kitti_raw, kitti_odometry, prepared), instead of `select` and `cameras`.
        depth_path: folder of KITTI depth PNGs (kitti_raw), instead of velodyne scans.
        camera_file: YAML file as ROS camera_calibration writes it (folder); without it, the camera is unknown.
        freiburg: the Kinect that recorded (tum): 1, 2 or 3, as in freiburg1.
        exclude_eigen_test: leave out what is of the 28 drives of Eigen's test set, by the names of the sequences.
        proxy: folder that `proxy_depth` wrote; its depth fills the frames that have none.
        prefer_proxy: take proxy depth where there is measured depth, too.
        repeat: how often each frame is seen in an epoch.

    Raises:
        DataError: an option does not belong to the kind, or two exclude each other.
    """

    kind: Kind
    path: Path = Path(".")
    select: list[str] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    split_file: Path | None = None
    depth_path: Path | None = None
    camera_file: Path | None = None
    freiburg: Literal[1, 2, 3] = 1
    exclude_eigen_test: bool = False
    proxy: Path | None = None
    prefer_proxy: bool = False
    repeat: int = 1

    def __post_init__(self) -> None:
        allowed = OPTIONS_OF_KIND[self.kind]
        foreign = sorted(self._given() - {*allowed, *OPTIONS_OF_ALL_KINDS})
        if foreign:
            raise DataError(f"a source of kind {self.kind} has no {', '.join(foreign)}; it has {', '.join(allowed)}")
        if self.split_file is not None and (self.select or self.cameras):
            raise DataError(f"split_file {self.split_file} takes the place of select and cameras: leave these out")
        if self.exclude_eigen_test and self.kind == "kitti_2015":
            raise DataError(
                "KITTI 2015 does not name the drives of its frames: select a list without Eigen's test drives"
            )
        if self.prefer_proxy and self.proxy is None:
            raise DataError("prefer_proxy without proxy: name the folder that `proxy_depth` wrote")
        if self.repeat < 1:
            raise DataError(f"repeat is {self.repeat}; expected 1 or more")

    def read(self, root: Path) -> list[FrameRecord]:
        """Records of the selected frames below `root`.

        Raises:
            DataError: nothing was found.
        """
        records = self._read_layout(root)
        if self.exclude_eigen_test:
            records = self._without_eigen_test(records, root)
        if self.proxy is not None:
            records = with_proxy_depth(records, root / self.proxy, self.prefer_proxy)
        return records

    def _without_eigen_test(self, records: list[FrameRecord], root: Path) -> list[FrameRecord]:
        kept, excluded = without_eigen_test(records)
        logger.info("%s: %d sequences of Eigen's test drives are left out", root / self.path, len(excluded))
        if not kept:
            raise DataError(f"{root / self.path} has only frames of Eigen's test drives: {', '.join(excluded)}")
        return kept

    def _given(self) -> set[str]:
        """Options that differ from their defaults."""
        defaults = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(self)}
        return {name for name, default in defaults.items() if getattr(self, name) != default}

    def _read_layout(self, root: Path) -> list[FrameRecord]:
        folder, select = root / self.path, self.select or None
        listed, neighbours = _below(root, self.split_file), LISTED_NEIGHBOURS
        if self.kind == "kitti_raw":
            cameras, depth_root = self.cameras or ["image_02"], _below(root, self.depth_path)
            return read_kitti_raw(folder, select, cameras, depth_root, listed, neighbours)
        if self.kind == "kitti_odometry":
            return read_kitti_odometry(folder, select, self.cameras or ["image_2"], listed, neighbours)
        if self.kind == "prepared":
            return read_prepared(folder, select, listed, neighbours)
        if self.kind == "kitti_2015":
            views = self.cameras or ["image_2"]
            return [r for split in self.select or (None,) for r in read_kitti_2015(folder, split, cameras=views)]
        if self.kind == "tum":
            return [record for name in select or ["."] for record in read_tum(folder / name, self.freiburg)]
        camera_file = _below(root, self.camera_file)
        return read_synthetic(folder, select) if self.kind == "synthetic" else read_folder(folder, camera_file)


def _below(root: Path, path: Path | None) -> Path | None:
    return None if path is None else root / path
