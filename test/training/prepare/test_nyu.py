"""NYU Depth v2 as its publishers lay it out: the labelled MATLAB file, and extracted folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from training.data.prepared import read_prepared
from training.errors import DataError
from training.prepare.frames import PrepareOptions, RawFrame, UnreadableFrame
from training.prepare.nyu import LabeledNyu, NyuFolder, nyu_pairs
from training.prepare.sources import SourceOptions, open_source
from training.prepare.writer import prepare_stream

WIDTH, HEIGHT = 64, 48
# camera_params.m of the data set's toolbox, 640x480.
FX, FY, CX, CY = 518.857901, 519.469611, 325.582449, 253.736166


def make_labeled(path: Path, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, 3] and depths float32 [N, H, W] that were written as MATLAB does: columns first."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)
    depths = rng.uniform(0.7, 9.9, (count, HEIGHT, WIDTH)).astype(np.float32)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        file["depths"] = depths.transpose(0, 2, 1)
        file["rawDepths"] = np.zeros_like(depths).transpose(0, 2, 1)
    return images, depths


def test_labeled_frames(tmp_path: Path) -> None:
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    images, depths = make_labeled(path)
    stream = open_source(path, None, SourceOptions()).streams[0]
    assert stream.expected_frames == 3
    items = list(stream.frames(1))
    assert len(items) == 2
    for item, image, depth in zip(items, images[1:], depths[1:], strict=True):
        assert isinstance(item, RawFrame)
        assert np.array_equal(item.rgb, image)
        assert item.depth is not None
        assert np.array_equal(item.depth, depth)
        assert item.camera is not None
        expected = (FX / 640, FY / 480, (CX + 0.5) / 640, (CY + 0.5) / 480)
        assert item.camera.normalized() == pytest.approx(expected, rel=1e-12)


def test_labeled_frames_are_no_neighbours(tmp_path: Path) -> None:
    _, depths = make_labeled(tmp_path / "labeled.mat")
    prepare_stream(LabeledNyu(tmp_path / "labeled.mat"), tmp_path / "out", PrepareOptions(WIDTH, HEIGHT))
    records = read_prepared(tmp_path / "out")
    assert len({record.sequence for record in records}) == 3
    assert records[2].depth is not None
    assert np.abs(records[2].depth.read() - depths[2]).max() <= 1 / 512 + 1e-6


def test_another_matlab_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.mat"
    with h5py.File(path, "w") as file:
        file["labels"] = np.zeros(3)
    with pytest.raises(DataError, match="has labels: expected `images` and `depths`"):
        list(LabeledNyu(path).frames(0))
    with h5py.File(path, "w") as file:
        file["images"], file["depths"] = np.zeros((2, 48, 64, 3), np.uint8), np.zeros((2, 64, 48), np.float32)
    with pytest.raises(DataError, match=r"images uint8 \[2, 48, 64, 3\].*expected uint8 \[N, 3, W, H\]"):
        list(LabeledNyu(path).frames(0))
    path.write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match="cannot be opened"):
        list(LabeledNyu(path).frames(0))


@pytest.mark.parametrize(
    ("color", "depth", "stored", "metres"),
    [
        ("rgb_{:05d}.jpg", "sync_depth_{:05d}.png", np.uint16(2345), 2.345),
        ("{:05d}_colors.png", "{:05d}_depth.png", np.uint16(9999), 9.999),
        ("{}.jpg", "{}.png", np.uint8(51), 2.0),
    ],
)
def test_extracted_folders(color: str, depth: str, stored: np.generic, metres: float, tmp_path: Path) -> None:
    scene = tmp_path / "nyu" / "kitchen_0001a"
    scene.mkdir(parents=True)
    for number in (2, 10, 4):
        cv2.imwrite(str(scene / color.format(number)), np.full((HEIGHT, WIDTH, 3), number, np.uint8))
        cv2.imwrite(str(scene / depth.format(number)), np.full((HEIGHT, WIDTH), stored, stored.dtype))
    stream = open_source(tmp_path / "nyu", None, SourceOptions(rate=30.0)).streams[0]
    assert stream.name == "nyu/kitchen_0001a"
    frames = [item for item in stream.frames(0) if isinstance(item, RawFrame)]
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [2, 4, 10]  # by number, not by name
    assert frames[1].stamp_ns - frames[0].stamp_ns == pytest.approx(2e9 / 30, abs=1)
    for frame in frames:
        assert frame.depth is not None
        assert frame.depth == pytest.approx(metres, rel=1e-6)
    assert len(list(stream.frames(2))) == 1


def test_damaged_depth_makes_the_frame_unreadable(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "rgb_00000.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / "sync_depth_00000.png").write_bytes(b"\x89PNG")
    (item,) = NyuFolder(tmp_path, tmp_path, 10.0).frames(0)
    assert isinstance(item, UnreadableFrame)
    assert "sync_depth_00000.png is nothing that can be decoded" in item.reason


def test_images_without_depth_are_no_nyu(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    assert nyu_pairs(tmp_path) == {}
