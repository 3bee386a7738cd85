"""Folders of frames with a known, given or unknown camera."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.folder import read_camera_yaml, read_folder
from training.errors import DataError

YAML = """image_width: 200
image_height: 100
camera_name: narrow
camera_matrix: {rows: 3, cols: 3, data: [150.0, 0.0, 99.5, 0.0, 160.0, 49.5, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.0, 0.0, 0.0, 0.0, 0.0]}
"""


def make_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((10, 20, 3), np.uint8))


def test_unknown_camera_and_numbers_from_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path / "clip", ["9.png", "10.png", "12.png"])
    records = read_folder(tmp_path / "clip", rate=5)
    assert sorted((r.index, r.image.name, r.stamp_ns) for r in records) == [
        (9, "9.png", 1_800_000_000),
        (10, "10.png", 2_000_000_000),
        (12, "12.png", 2_400_000_000),
    ]
    assert {(r.sequence, r.intrinsics) for r in records} == {("clip", None)}
    assert "1 missing (image): 11" in caplog.text


def test_each_folder_is_a_sequence_and_names_give_the_order(tmp_path: Path) -> None:
    make_images(tmp_path / "a", ["frame_b.jpg", "frame_a.jpg"])
    make_images(tmp_path / "b" / "c", ["x.png"])
    records = read_folder(tmp_path)
    root = tmp_path.name
    assert [(r.sequence, r.index, r.image.name) for r in records] == [
        (f"{root}/a", 0, "frame_a.jpg"),
        (f"{root}/a", 1, "frame_b.jpg"),
        (f"{root}/b/c", 0, "x.png"),
    ]


def test_camera_yaml_holds_for_any_size(tmp_path: Path) -> None:
    make_images(tmp_path / "clip", ["0.png"])
    (tmp_path / "camera.yaml").write_text(YAML)
    (record,) = read_folder(tmp_path / "clip", camera=tmp_path / "camera.yaml")
    assert record.intrinsics == pytest.approx((0.75, 1.6, 0.5, 0.5))


def test_K_is_in_pixels_of_the_images(tmp_path: Path) -> None:
    make_images(tmp_path, ["0.png"])
    (record,) = read_folder(tmp_path, K=(15, 16, 9.5, 4.5))
    assert record.intrinsics == pytest.approx((0.75, 1.6, 0.5, 0.5))


def test_distortion_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "camera.yaml").write_text(YAML.replace("[0.0, 0.0", "[-0.3, 0.0"))
    assert read_camera_yaml(tmp_path / "camera.yaml").fx == 150
    assert "distortion" in caplog.text


@pytest.mark.parametrize("text", ["", "image_width: 3", "[", YAML.replace("0.0, 0.0, 1.0]", "1.0]"), "image_width: {"])
def test_bad_camera_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "camera.yaml").write_text(text)
    with pytest.raises(DataError, match=r"camera\.yaml.*camera_matrix"):
        read_camera_yaml(tmp_path / "camera.yaml")


def test_bad_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        read_folder(tmp_path)
    make_images(tmp_path, ["0.png"])
    with pytest.raises(DataError, match="rate"):
        read_folder(tmp_path, rate=0)
    with pytest.raises(DataError, match="both"):
        read_folder(tmp_path, camera=tmp_path / "camera.yaml", K=(1, 1, 1, 1))


def test_dashcam(shared_data: Path) -> None:
    records = read_folder(shared_data / "dashcam")
    assert [r.index for r in records] == list(range(294))
    assert {r.intrinsics for r in records} == {None}
