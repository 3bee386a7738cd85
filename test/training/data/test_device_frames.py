"""A data set on a device gives the samples that its files give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from training.data.dataset import FrameDataset
from training.data.device_frames import DeviceFrames
from training.data.records import FrameRecord, StereoView, translation
from training.data.sample import Batch
from training.data.synthetic import read_synthetic
from training.errors import DataError, FrameError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def samples(frames: Any) -> Batch:
    return Batch.collate([frames[i] for i in range(len(frames))])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "options",
    [
        {"source_offsets": (-1, 1)},
        {"source_offsets": (1,), "known_poses": True, "depth": True},
        {"depth": True},
    ],
)
def test_samples_are_those_of_the_files(streets: Path, options: dict[str, Any], device: str) -> None:
    frames = FrameDataset(read_synthetic(streets), 64, 32, **options)
    expected, got = samples(frames), samples(DeviceFrames(frames, torch.device(device)))
    assert got.image.device.type == device
    assert got.names == expected.names
    for name in ("image", "sources", "intrinsics", "T_source_target"):
        value, truth = getattr(got, name), getattr(expected, name)
        assert (value is None) == (truth is None)
        if truth is not None:
            assert value.device.type == device
            torch.testing.assert_close(value.cpu(), truth, rtol=1e-6, atol=0)
    if expected.depth is not None:
        assert got.depth is not None
        assert got.depth.dtype == torch.float32
        torch.testing.assert_close(got.depth.cpu(), expected.depth, rtol=2**-11, atol=0)  # kept as float16


def test_a_stereo_partner_is_a_source(streets: Path) -> None:
    first, second = read_synthetic(streets)[:2]
    pair = FrameRecord(
        first.image, first.intrinsics, "pair", 0, 0, stereo=StereoView(second.image, translation(-0.5, 0, 0))
    )
    frames = FrameDataset([pair], 64, 32, stereo=True)
    expected, got = samples(frames), samples(DeviceFrames(frames, torch.device("cpu")))
    assert torch.equal(got.sources, expected.sources)
    assert got.T_source_target is not None
    assert got.T_source_target[0, 0, 0, 3] == -0.5


def test_a_frame_that_cannot_be_read_fails_as_target_and_as_source(streets: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    image = read_synthetic(streets)[0].image
    records = [FrameRecord(bad if i == 1 else image, (0.5, 1, 0.5, 0.5), "drive", i, i) for i in range(5)]
    frames = DeviceFrames(FrameDataset(records, 64, 32, source_offsets=(1,)), torch.device("cpu"))
    for position in (0, 1):
        with pytest.raises(FrameError, match=r"bad\.png cannot be decoded"):
            frames[position]
    assert frames[2].sources.shape == (1, 3, 32, 64)


def test_sizes_of_a_sample_must_agree(streets: Path, tmp_path: Path) -> None:

    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((20, 30, 3), np.uint8))
    images = [read_synthetic(streets)[0].image, tmp_path / "1.png"]
    records = [FrameRecord(image, (0.5, 1, 0.5, 0.5), "drive", i, i) for i, image in enumerate(images)]
    with pytest.raises(DataError, match=r"1\.png is 30x20, and the frame it belongs to is 96x64"):
        DeviceFrames(FrameDataset(records, 64, 32, source_offsets=(1,)), torch.device("cpu"))


def test_random_crops_need_another_cache(streets: Path) -> None:
    frames = FrameDataset(read_synthetic(streets), 64, 32, min_crop=0.5)
    with pytest.raises(DataError, match=r"min_crop is 0\.5: .* set data.min_crop: 1, or data.cache: ram"):
        DeviceFrames(frames, torch.device("cpu"))
