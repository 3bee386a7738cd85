"""Synthetic drives on disk: what is written is read again, as exactly as the files can say it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from depth_node.camera import PinholeCamera
from depth_node.synthetic import render, street_world
from training.data.image_files import read_rgb
from training.data.instance_files import read_instances
from training.data.records import FrameRecord
from training.data.synthetic import SKY_DEPTH, DriveOptions, read_synthetic, write_street_drive
from training.errors import DataError, RecipeError

OPTIONS = DriveOptions(width=64, height=32, frames=3, step=2.0, focal=(0.55, 0.6))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    for seed in (1, 2):
        write_street_drive(folder / f"street_{seed}", seed, OPTIONS)
    return folder


def test_frames_are_what_the_renderer_shows_from_their_own_camera_and_pose(root: Path) -> None:
    for record in read_synthetic(root, ["street_1"]):
        assert record.intrinsics is not None
        assert record.pose is not None
        assert record.depth is not None
        camera = PinholeCamera.from_normalized(record.intrinsics, 64, 32)
        rgb, truth = render(street_world(1), camera, record.pose)
        depth = record.depth.read()
        sky = np.isnan(truth)
        assert (depth[sky] == SKY_DEPTH).all()
        np.testing.assert_allclose(depth[~sky], np.minimum(truth[~sky], SKY_DEPTH), atol=0.5 / 256 + 1e-4)
        assert np.abs(read_rgb(record.image).astype(int) - rgb).mean() < 4  # JPEG


def test_records_of_a_drive(root: Path) -> None:
    records = read_synthetic(root)
    assert [(r.sequence, r.index) for r in records] == [(f"street_{s}", i) for s in (1, 2) for i in range(3)]
    assert [r.stamp_ns - records[0].stamp_ns for r in records[:3]] == [0, 100_000_000, 200_000_000]
    for before, after in pairwise(records[:3]):
        assert before.pose is not None
        assert after.pose is not None
        assert np.linalg.norm(after.pose[:3, 3] - before.pose[:3, 3]) == pytest.approx(2.0, rel=0.05)
    cameras = {r.intrinsics for r in records}
    assert len(cameras) == 2
    assert all(camera is not None and 0.55 <= camera[0] <= 0.6 and camera[2] == 0.5 for camera in cameras)


def test_oncoming_cars_are_met_and_their_masks_are_instances(root: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, frames=6, oncoming=2)
    write_street_drive(tmp_path / "street_1", 1, options)
    records = read_synthetic(tmp_path)
    masks = [read_instances(record.instances) for record in records if record.instances is not None]
    assert len(masks) == 6
    assert {1, 2} <= {int(number) for mask in masks for number in np.unique(mask)}
    areas = [int((mask == 1).sum()) for mask in masks]
    assert areas[0] < max(areas)
    assert all(record.instances is None for record in read_synthetic(root))
    still = read_synthetic(root, ["street_1"])[0]
    assert records[0].intrinsics == still.intrinsics  # the street, the camera and the place on it stay as they were
    np.testing.assert_array_equal(records[0].pose, still.pose)


def test_a_seed_gives_one_drive(root: Path, tmp_path: Path) -> None:
    write_street_drive(tmp_path / "street_1", 1, OPTIONS)
    for name in ("frames.csv", "image/0000000002.jpg", "depth/0000000002.png"):
        again, first, other = (
            (f / name).read_bytes() for f in (tmp_path / "street_1", root / "street_1", root / "street_2")
        )
        assert again == first
        assert again != other


def test_drives_by_name(root: Path) -> None:
    def names(records: list[FrameRecord]) -> set[str]:
        return {record.sequence for record in records}

    assert names(read_synthetic(root, ["street_2"])) == {"street_2"}
    with pytest.raises(DataError, match=r"no synthetic drive street_9; it has street_1, street_2"):
        read_synthetic(root, ["street_2", "street_9"])


def test_no_drives(tmp_path: Path) -> None:
    (tmp_path / "cut_off" / "image").mkdir(parents=True)  # its list of frames would have come last
    with pytest.raises(DataError, match=r"no synthetic drives .*synthesize"):
        read_synthetic(tmp_path)


@pytest.mark.parametrize("line", ["0,1,0.5", "x" * 20, "0,1" + ",a" * 16])
def test_a_damaged_list_of_frames_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "street").mkdir()
    (tmp_path / "street" / "frames.csv").write_text(line + "\n")
    with pytest.raises(DataError, match=r"street/frames.csv is damaged .* render it again"):
        read_synthetic(tmp_path)


def test_a_camera_carried_by_hand_looks_around(tmp_path: Path) -> None:
    for name, handheld in (("hand", True), ("wheels", False)):
        write_street_drive(tmp_path / name, 3, replace(OPTIONS, frames=4, step=0.1, handheld=handheld))

    def degrees(name: str) -> float:
        poses = [record.pose for record in read_synthetic(tmp_path, [name])]
        assert poses[0] is not None
        assert poses[-1] is not None
        cosine = (np.trace(poses[0][:3, :3].T @ poses[-1][:3, :3]) - 1) / 2
        return float(np.degrees(np.arccos(min(1.0, cosine))))

    assert degrees("hand") > 1
    assert degrees("wheels") < 1  # 0.3 metres; no street is bent more than 0.057 / m (its two sines together)


def test_a_hand_meets_no_cars() -> None:
    with pytest.raises(RecipeError, match="oncoming is 2"):
        DriveOptions(handheld=True, oncoming=2)
