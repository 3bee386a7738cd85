"""Prepared frames as records: what is missing, unfinished or asked for by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from depth_node.camera import PinholeCamera
from training.data.dataset import FrameDataset
from training.data.depth_files import DepthPng
from training.data.instance_files import encode_instances
from training.data.prepared import read_prepared
from training.data.records import translation
from training.data.source import Source
from training.errors import DataError
from training.prepare.frames import PrepareOptions, RawFrame, RawStereo
from training.prepare.writer import prepare_stream

CAMERA = PinholeCamera(64, 64, 50.0, 51.0, 30.0, 32.0)


class Noise:
    """A recording of noise with depth."""

    source, expected_frames = "noise", 6

    def __init__(self, name: str) -> None:
        self.name = name

    def frames(self, first: int) -> Iterator[RawFrame]:
        for index in range(first, 6):
            rgb = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
            yield RawFrame(rgb, index * 100_000_000, CAMERA, np.full((64, 64), 2.0 + index, np.float32))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("day/a", "b"):
        prepare_stream(Noise(name), tmp_path, PrepareOptions(64, 64))
    return tmp_path


def test_records_make_samples(root: Path) -> None:
    records = Source("prepared").read(root)
    assert [record.name for record in records[5:7]] == ["b/000/0000000005", "day/a/000/0000000000"]
    frames = FrameDataset(records, 64, 64, source_offsets=(-1, 1), depth=True)
    assert len(frames) == 8
    sample = frames[0]
    assert sample.depth is not None
    assert sample.depth.unique().tolist() == [3.0]
    assert sample.intrinsics.tolist() == pytest.approx(CAMERA.normalized())


class Pairs:
    """A recording of a stereo pair, whose speed is known."""

    name, source, expected_frames = "pairs", "noise", 3

    def frames(self, first: int) -> Iterator[RawFrame]:
        for index in range(first, 3):
            left, right = np.random.default_rng(index).integers(0, 256, (2, 64, 64, 3), np.uint8)
            partner = RawStereo(right, translation(-0.54, 0, 0))
            yield RawFrame(left, index * 100_000_000, CAMERA, speed=2.0 + index, stereo=partner)


def test_stereo_partners_and_speeds_are_kept(tmp_path: Path) -> None:
    prepare_stream(Pairs(), tmp_path, PrepareOptions(64, 64, format="png"))
    records = read_prepared(tmp_path)
    (sample,) = FrameDataset(records, 64, 64, source_offsets=(-1, 1), stereo=True, speed=True)
    assert sample.T_source_target is not None
    assert sample.distances is not None
    np.testing.assert_allclose(sample.T_source_target[0], translation(-0.54, 0, 0), rtol=1e-6)
    right = next(iter(Pairs().frames(1))).stereo
    assert right is not None
    np.testing.assert_array_equal(sample.sources[2].permute(1, 2, 0), right.rgb)
    np.testing.assert_allclose(sample.distances, [0.25, 0.35, np.nan], rtol=1e-6)
    (tmp_path / "pairs" / "0000000001.stereo.png").unlink()
    assert [record.stereo is None for record in read_prepared(tmp_path)] == [False, True, False]


def test_instance_masks_are_found_beside_their_images(root: Path) -> None:
    (root / "b" / "0000000002.instances.png").write_bytes(encode_instances(np.full((64, 64), 3, np.uint8)))
    found = [record for record in read_prepared(root) if record.instances is not None]
    assert [record.name for record in found] == ["b/000/0000000002"]
    (sample,) = FrameDataset(read_prepared(root), 64, 64, instances=True)
    assert sample.instances is not None
    assert sample.instances.unique().tolist() == [3]


def test_sequences_by_name(root: Path) -> None:
    assert {record.sequence for record in Source("prepared", select=["day/a"]).read(root)} == {"day/a/000"}
    with pytest.raises(DataError, match="has no sequence c; it has b, day/a"):
        read_prepared(root, ["c"])


def test_missing_files_are_counted_and_leave_gaps(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "b" / "0000000002.jpg").unlink()
    (root / "b" / "0000000004.depth.png").unlink()
    records = read_prepared(root, ["b"])
    assert [record.index for record in records] == [0, 1, 3, 4, 5]
    assert [record.depth is None for record in records] == [False, False, False, True, False]
    assert records[0].depth == DepthPng(root / "b" / "0000000000.depth.png")
    assert "1 missing (image): b/0000000002.jpg" in caplog.text
    assert "1 missing (depth): b/0000000004.depth.png" in caplog.text


def test_unfinished_sequence_is_read_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = root / "b" / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:4]) + lines[4][:20])
    assert len(read_prepared(root, ["b"])) == 3
    assert "was not prepared to its end" in caplog.text


def test_folder_without_prepared_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prepared frames in .*training prepare"):
        read_prepared(tmp_path)
