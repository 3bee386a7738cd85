"""Sources of a recipe: each kind reaches its reader, and options of another kind are refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from training.data.depth_files import DepthPng
from training.data.source import OPTIONS_OF_ALL_KINDS, OPTIONS_OF_KIND, Kind, Source
from training.data.synthetic import DriveOptions, write_street_drive
from training.errors import DataError

DAY = "2011_09_26"
DRIVES = [f"{DAY}_drive_0001_sync", f"{DAY}_drive_0002_sync"]


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((10, 20, 3), np.uint8))


@pytest.fixture
def kitti_raw(tmp_path: Path) -> Path:
    """Two drives of three frames of both colour cameras."""
    root = tmp_path / "kitti_raw"
    for drive in DRIVES:
        for camera in ("image_02", "image_03"):
            for index in range(3):
                write_image(root / DAY / drive / camera / "data" / f"{index:010d}.png")
    (root / DAY / "calib_cam_to_cam.txt").write_text(
        "".join(f"S_rect_0{c}: 20 10\nP_rect_0{c}: 10 0 9.5 {t} 0 10 4.5 0 0 0 1 0\n" for c, t in ((2, 1), (3, -4)))
    )
    return tmp_path


def names(source: Source, root: Path) -> list[str]:
    return [f"{record.sequence.rpartition('/')[2]}:{record.index}" for record in source.read(root)]


def test_kitti_raw_by_drive_and_camera(kitti_raw: Path) -> None:
    everything = Source("kitti_raw", Path("kitti_raw")).read(kitti_raw)
    assert len(everything) == 6
    assert {record.sequence for record in everything} == {f"{drive}/image_02" for drive in DRIVES}
    one = Source("kitti_raw", Path("kitti_raw"), select=DRIVES[1:], cameras=["image_03"]).read(kitti_raw)
    assert {record.sequence for record in one} == {f"{DRIVES[1]}/image_03"}


def test_kitti_raw_by_split_file(kitti_raw: Path) -> None:
    (kitti_raw / "lists").mkdir()
    (kitti_raw / "lists" / "split.txt").write_text(f"{DAY}/{DRIVES[0]} 2 r\n{DAY}/{DRIVES[0]} 0 l\n")
    source = Source("kitti_raw", Path("kitti_raw"), split_file=Path("lists/split.txt"))
    records = source.read(kitti_raw)
    targets = [f"{record.sequence[-8:]}:{record.index}" for record in records if record.is_target]
    assert targets == ["image_03:2", "image_02:0"]
    neighbours = {(record.sequence[-8:], record.index) for record in records if not record.is_target}
    assert neighbours == {("image_03", 0), ("image_03", 1), ("image_02", 1), ("image_02", 2)}


def test_kitti_raw_with_depth_images(kitti_raw: Path) -> None:
    depth = kitti_raw / "truth" / "train" / DRIVES[0] / "proj_depth" / "groundtruth" / "image_02" / f"{1:010d}.png"
    depth.parent.mkdir(parents=True)
    cv2.imwrite(str(depth), np.full((10, 20), 256 * 7, np.uint16))
    source = Source("kitti_raw", Path("kitti_raw"), select=DRIVES[:1], depth_path=Path("truth"))
    assert [record.depth for record in source.read(kitti_raw)] == [None, DepthPng(depth), None]


def test_synthetic_by_drive(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_street_drive(tmp_path / name, seed=0, options=DriveOptions(width=16, height=8, frames=1))
    assert names(Source("synthetic"), tmp_path) == ["a:0", "b:0"]
    assert names(Source("synthetic", select=["b"]), tmp_path) == ["b:0"]


def test_tum_by_sequence_or_itself(tmp_path: Path) -> None:
    for name in ("desk", "room"):
        write_image(tmp_path / name / "rgb" / "1.png")
        (tmp_path / name / "associations.txt").write_text("1.0 rgb/1.png 1.0 depth/1.png\n")
    both = Source("tum", select=["desk", "room"], freiburg=3).read(tmp_path)
    assert [record.sequence for record in both] == ["desk", "room"]
    assert both[0].intrinsics is not None
    assert both[0].intrinsics[0] == pytest.approx(535.4 / 640)
    (alone,) = Source("tum", Path("room")).read(tmp_path)
    assert alone.intrinsics is not None
    assert alone.intrinsics[0] == pytest.approx(517.3 / 640)


def test_folder_with_and_without_a_camera(tmp_path: Path) -> None:
    write_image(tmp_path / "video" / "000.png")
    (tmp_path / "camera.yaml").write_text(
        "{image_width: 40, image_height: 20, camera_matrix: {data: [30, 0, 19.5, 0, 30, 9.5, 0, 0, 1]}}"
    )
    (known,) = Source("folder", Path("video"), camera_file=Path("camera.yaml")).read(tmp_path)
    assert known.intrinsics == pytest.approx((0.75, 1.5, 0.5, 0.5))
    (unknown,) = Source("folder", Path("video")).read(tmp_path)
    assert unknown.intrinsics is None


def test_absolute_paths_are_taken_as_they_are(kitti_raw: Path) -> None:
    source = Source("kitti_raw", kitti_raw / "kitti_raw", select=DRIVES[:1])
    assert len(source.read(Path("/nowhere"))) == 3


def test_real_kitti_2015_lists(shared_data: Path) -> None:
    counts = [
        len(Source("kitti_2015", Path("kitti_2015"), select=select).read(shared_data))
        for select in (["training"], ["validation"], ["training", "validation"], [])
    ]
    assert counts == [50, 34, 84, 84]


def test_real_kitti_odometry_and_tum(shared_data: Path) -> None:
    odometry = Source("kitti_odometry", Path("kitti_odometry"), select=["03"], cameras=["image_0"]).read(shared_data)
    assert len(odometry) == 801
    assert all(record.pose is not None for record in odometry)
    assert len(Source("tum", Path("tum_fr1_rpy")).read(shared_data)) == 60


def test_every_option_belongs_to_some_kind() -> None:
    assert set(OPTIONS_OF_KIND) == set(get_args(Kind))
    listed = {name for options in OPTIONS_OF_KIND.values() for name in options}
    assert {field.name for field in fields(Source)} == listed | set(OPTIONS_OF_ALL_KINDS)


@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        ("kitti_2015", {"split_file": Path("s")}, "kind kitti_2015 has no split_file; it has select, cameras"),
        ("folder", {"select": ["a"], "freiburg": 2}, "kind folder has no freiburg, select; it has camera_file"),
        ("synthetic", {"depth_path": Path("d")}, "kind synthetic has no depth_path"),
        ("kitti_odometry", {"depth_path": Path("d")}, "kind kitti_odometry has no depth_path"),
        ("kitti_raw", {"split_file": Path("s"), "select": ["a"]}, "takes the place of select and cameras"),
        ("synthetic", {"prefer_proxy": True}, "prefer_proxy without proxy"),
        ("kitti_raw", {"repeat": 0}, "repeat is 0; expected 1 or more"),
    ],
)
def test_options_that_would_be_ignored_are_refused(kind: Kind, option: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Source(kind, **option)
