"""Samples of frames: where crops put pixels, which neighbours become sources, and what cannot be a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from training.data.dataset import FrameDataset, relative_pose
from training.data.image_files import read_rgb
from training.data.instance_files import encode_instances
from training.data.records import FrameRecord, KnownSpeed, StereoView, translation
from training.data.sample import Batch
from training.errors import DataError

CAMERA = PinholeCamera(width=200, height=80, fx=150, fy=140, cx=97, cy=41)


@dataclass(frozen=True)
class KnownDepth:
    """A depth map that is in memory."""

    depth: NDArray[np.float32] = field(compare=False)

    def read(self) -> NDArray[np.float32]:
        return self.depth


@pytest.fixture
def make_frame(tmp_path: Path) -> Callable[..., FrameRecord]:
    """Writes an image, [80, 200, 3] RGB or one grey value for all of it, and describes it."""

    def make(index: int, image: NDArray[np.uint8] | int = 0, sequence: str = "drive", **known: Any) -> FrameRecord:
        pixels = np.full((80, 200, 3), image, np.uint8) if isinstance(image, int) else image
        path = tmp_path / f"{sequence}_{index}.png"
        cv2.imwrite(str(path), pixels[..., ::-1])
        return FrameRecord(path, CAMERA.normalized(), sequence, index, stamp_ns=index, **known)

    return make


def blob(x: float, y: float) -> NDArray[np.uint8]:
    """A soft light centred at pixel (x, y)."""
    columns, rows = np.meshgrid(np.arange(200), np.arange(80))
    light = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    return np.repeat(np.round(light).astype(np.uint8)[..., None], 3, axis=2)


def centre(image: torch.Tensor) -> tuple[float, float] | None:
    """Centroid of the light in pixels; None where it is not wholly inside."""
    light = image.double().mean(0).numpy()
    if light[[0, -1]].max() > 1 or light[:, [0, -1]].max() > 1 or light.max() < 10:
        return None
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    return float((columns * light).sum() / light.sum()), float((rows * light).sum() / light.sum())


@pytest.mark.parametrize("cache", [False, True])
def test_a_point_projects_to_its_texture_after_crop_and_resize(
    make_frame: Callable[..., FrameRecord], cache: bool
) -> None:
    x, y, z = 3.1, -0.6, 12.0
    light = blob(150 * x / z + 97, 140 * y / z + 41)
    dataset = FrameDataset([make_frame(0, light)], width=96, height=64, min_crop=0.5, cache=cache)
    torch.manual_seed(0)
    seen = 0
    for _ in range(40):
        sample = dataset[0]
        fx, fy, cx, cy = sample.intrinsics.tolist()
        got = centre(sample.image)
        if got is not None:
            seen += 1
            expected = (fx * 96 * x / z + cx * 96 - 0.5, fy * 64 * y / z + cy * 64 - 0.5)
            assert got == pytest.approx(expected, abs=0.2)
    assert seen >= 10


def test_the_whole_image_keeps_its_normalised_intrinsics(make_frame: Callable[..., FrameRecord]) -> None:
    sample = FrameDataset([make_frame(0)], width=64, height=96)[0]
    assert sample.intrinsics.tolist() == pytest.approx(CAMERA.normalized())
    assert sample.name == "drive/0000000000"


def test_crops_have_all_sizes_and_places(make_frame: Callable[..., FrameRecord]) -> None:
    """fx/W is divided by the share of the width that is left; the principal point tells where it was cut."""
    dataset = FrameDataset([make_frame(0)], width=64, height=64, min_crop=0.6)
    torch.manual_seed(0)
    intrinsics = torch.stack([dataset[0].intrinsics for _ in range(200)])
    shares = 0.75 / intrinsics[:, 0]
    assert 0.6 <= shares.min() < 0.63
    assert 0.97 < shares.max() <= 1
    left = 0.4875 - shares * intrinsics[:, 2]  # (cx + 0.5)/W of the whole image is 0.4875
    assert left.min().item() == pytest.approx(0, abs=0.01)
    assert left.max() > 0.3
    torch.testing.assert_close(1.75 / intrinsics[:, 1], shares, atol=0.01, rtol=0)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_depth_is_cut_with_the_image(make_frame: Callable[..., FrameRecord], cache: bool, scale: float) -> None:
    """Bands of grey value 10 d are at depth d; the depth map may have a resolution of its own."""
    metres = np.repeat(np.arange(1, 21, dtype=np.float32), 10)[None].repeat(80, axis=0)
    image = np.repeat((10 * metres).astype(np.uint8)[..., None], 3, axis=2)
    size = (round(200 * scale), round(80 * scale))
    depth = np.asarray(cv2.resize(metres, size, interpolation=cv2.INTER_NEAREST_EXACT), np.float32)
    frame = make_frame(0, image, depth=KnownDepth(depth))
    dataset = FrameDataset([frame], width=96, height=64, min_crop=0.5, depth=True, cache=cache)
    torch.manual_seed(0)
    for _ in range(10):
        sample = dataset[0]
        assert sample.depth is not None
        assert sample.depth.shape == (1, 64, 96)
        assert sample.depth.dtype == torch.float32
        error = sample.image[0] / 10 - sample.depth[0]
        assert error.abs().max() <= 1.01  # where the image blends two bands
        assert error.mean().abs() < 0.05  # a shift by one pixel of ten would be 0.1
        assert (error.abs() < 0.06).float().mean() > 0.6


def test_unknown_depth_stays_unknown(make_frame: Callable[..., FrameRecord]) -> None:
    depth = np.zeros((80, 200), np.float32)
    depth[40, 100] = 7.0
    sample = FrameDataset([make_frame(0, depth=KnownDepth(depth))], width=200, height=80, depth=True)[0]
    assert sample.depth is not None
    assert sample.depth.unique().tolist() == [0, 7]
    assert sample.depth[0, 40, 100] == 7


def test_neighbours_do_not_reach_over_gaps_or_into_other_sequences(make_frame: Callable[..., FrameRecord]) -> None:
    frames = [make_frame(index, 10 * index) for index in (0, 1, 2, 4, 5, 6)]
    frames += [make_frame(index, 200, sequence="other") for index in (3, 7)]
    dataset = FrameDataset(frames, width=64, height=64, source_offsets=(-1, 1))
    assert [target.index for target in dataset.targets] == [1, 5]
    assert len(dataset) == 2
    sample = dataset[1]
    assert sample.sources.shape == (2, 3, 64, 64)
    assert [int(view[0, 0, 0]) for view in (sample.image, *sample.sources)] == [50, 40, 60]
    assert sample.T_source_target is None
    assert sample.depth is None


def test_target_and_sources_are_cut_alike(make_frame: Callable[..., FrameRecord]) -> None:
    frames = [make_frame(index, blob(100, 40)) for index in (0, 1)]
    dataset = FrameDataset(frames, width=64, height=64, source_offsets=(-1,), min_crop=0.5)
    for _ in range(5):
        sample = dataset[0]
        assert torch.equal(sample.sources[0], sample.image)


def test_recorded_poses_become_relative_ones(make_frame: Callable[..., FrameRecord]) -> None:
    """Half a metre ahead a frame: what lies z metres ahead of a frame lies z - 0.5 ahead of the next."""
    frames = [make_frame(index, pose=translation(3, 0, 0.5 * index)) for index in range(3)]
    sample = FrameDataset(frames, width=64, height=64, source_offsets=(-1, 1), known_poses=True)[0]
    assert sample.T_source_target is not None
    assert sample.T_source_target.dtype == torch.float32
    expected = np.stack([translation(0, 0, 0.5), translation(0, 0, -0.5)])
    np.testing.assert_allclose(sample.T_source_target.numpy(), expected, atol=1e-6)


def test_relative_pose_of_a_turning_camera() -> None:
    """The source looks along +x of the world from (0, 0, 10): 4 m ahead of it is 2 m ahead of the target."""
    turned = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 10], [0, 0, 0, 1]])
    target = FrameRecord(Path("a"), None, "s", 0, 0, pose=translation(4, 0, 8))
    source = FrameRecord(Path("b"), None, "s", 1, 0, pose=turned)
    point = relative_pose(source, target) @ [0, 0, 2, 1]  # (4, 0, 10) in the world
    np.testing.assert_allclose(point, [0, 0, 4, 1], atol=1e-12)
    with pytest.raises(DataError, match="s/0000000001 has no pose"):
        relative_pose(replace(source, pose=None), target)


def test_stereo_partner_is_the_last_source(make_frame: Callable[..., FrameRecord]) -> None:
    right = make_frame(0, 90, sequence="right")
    stereo = StereoView(right.image, translation(-0.54, 0, 0))
    frames = [make_frame(index, 10 * index, pose=translation(0, 0, index), stereo=stereo) for index in (1, 2)]
    alone = FrameDataset(frames, width=64, height=64, stereo=True)[0]
    assert [int(view[0, 0, 0]) for view in (alone.image, *alone.sources)] == [10, 90]
    assert alone.T_source_target is not None
    np.testing.assert_allclose(alone.T_source_target.numpy(), [stereo.T_other_this], atol=1e-7)
    both = FrameDataset(frames, width=64, height=64, stereo=True, source_offsets=(1,), known_poses=True)[0]
    assert [int(view[0, 0, 0]) for view in both.sources] == [20, 90]
    assert both.T_source_target is not None
    np.testing.assert_allclose(both.T_source_target[:, :3, 3].numpy(), [[0, 0, -1], [-0.54, 0, 0]], atol=1e-6)


def test_known_poses_without_sources_are_none_at_all(make_frame: Callable[..., FrameRecord]) -> None:
    sample = FrameDataset([make_frame(0, pose=np.eye(4))], width=64, height=64, known_poses=True)[0]
    assert sample.sources.shape == (0, 3, 64, 64)
    assert sample.T_source_target is not None
    assert sample.T_source_target.shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, "known intrinsics and"),
        ({"depth": True}, "known intrinsics, depth and"),
        ({"stereo": True}, "known intrinsics, a stereo partner and"),
        ({"known_poses": True, "source_offsets": (-1, 2)}, r"known intrinsics, poses and neighbours at \[-1, 2\]"),
    ],
)
def test_says_what_frames_lack(make_frame: Callable[..., FrameRecord], options: dict[str, Any], needs: str) -> None:
    frames = [replace(make_frame(0), intrinsics=None), replace(make_frame(1), intrinsics=None)]
    if options:
        frames = [make_frame(0), make_frame(1), make_frame(2), make_frame(3)]
    with pytest.raises(DataError, match=f"none of {len(frames)} frames can be a target: {needs}"):
        FrameDataset(frames, width=64, height=64, **options)


def test_a_stereo_partner_is_the_last_source_and_the_only_one_of_known_pose(
    make_frame: Callable[..., FrameRecord],
) -> None:
    partner = StereoView(make_frame(0, 90, "right").image, translation(-0.5, 0, 0))
    frames = [make_frame(0, 10), make_frame(1, 20, stereo=partner), make_frame(2, 30)]
    (sample,) = FrameDataset(frames, width=64, height=64, stereo=True, source_offsets=(-1, 1))
    assert sample.sources[:, 0, 0, 0].tolist() == [10, 30, 90]
    assert sample.T_source_target is not None
    torch.testing.assert_close(sample.T_source_target, torch.tensor(translation(-0.5, 0, 0)[None]).float())


def test_distances_are_mean_speed_times_time(make_frame: Callable[..., FrameRecord]) -> None:
    speeds = [10.0, 12.0, None, 14.0]
    frames = [
        replace(make_frame(i), stamp_ns=i * 100_000_000, speed=None if speed is None else KnownSpeed(speed))
        for i, speed in enumerate(speeds)
    ]
    dataset = FrameDataset(frames, width=64, height=64, source_offsets=(-1, 2), speed=True)
    first = dataset[0].distances
    assert first is not None
    torch.testing.assert_close(first, torch.tensor([1.1, 2.6]))
    (no_target,) = FrameDataset(frames[1:3], width=64, height=64, source_offsets=(1,), speed=True)
    assert no_target.distances is not None
    assert no_target.distances.isnan().all()


@pytest.mark.parametrize("cache", [False, True])
def test_instances_are_cut_out_with_their_image(
    make_frame: Callable[..., FrameRecord], tmp_path: Path, cache: bool
) -> None:
    mask = np.zeros((80, 200), np.uint8)
    mask[30:60, 50:90] = 7
    (tmp_path / "mask.png").write_bytes(encode_instances(mask))
    image = np.repeat((mask * 30)[..., None], 3, axis=2)
    frame = make_frame(0, image, instances=tmp_path / "mask.png")
    dataset = FrameDataset([frame], width=96, height=64, min_crop=0.5, cache=cache, instances=True)
    torch.manual_seed(0)
    for _ in range(10):
        sample = dataset[0]
        assert sample.instances is not None
        assert sample.instances.dtype == torch.uint8
        inside, outside = sample.image[:1] > 200, sample.image[:1] < 10
        assert (sample.instances[inside] == 7).all()
        assert (sample.instances[outside] == 0).all()
        assert (inside | outside).float().mean() > 0.85
    with pytest.raises(DataError, match="an instance mask and neighbours"):
        FrameDataset([make_frame(1)], width=64, height=64, instances=True)


def test_sources_of_another_size_are_refused(make_frame: Callable[..., FrameRecord]) -> None:
    frames = [make_frame(0), make_frame(1, np.zeros((40, 100, 3), np.uint8))]
    with pytest.raises(DataError, match=r"drive_1.png is 100x40, and the frame it belongs to is 200x80"):
        FrameDataset(frames, width=64, height=64, source_offsets=(1,))[0]


def test_a_damaged_image_is_named(make_frame: Callable[..., FrameRecord]) -> None:
    frame = make_frame(0)
    frame.image.write_bytes(frame.image.read_bytes()[:40])
    with pytest.raises(DataError, match=r"drive_0.png cannot be decoded"):
        FrameDataset([frame], width=64, height=64)[0]


@pytest.mark.parametrize("min_crop", [0.5, 1.0])
def test_cache_gives_the_same_samples(make_frame: Callable[..., FrameRecord], min_crop: float) -> None:
    """Frames no larger than the cache keeps (here 200x80 in samples of 100x40 that may be crops of one half)."""
    random = np.random.default_rng(0)
    depth = KnownDepth(random.uniform(1, 80, (80, 200)).astype(np.float32))
    frames = [
        make_frame(index, random.integers(0, 256, (80, 200, 3), np.uint8), depth=depth, pose=translation(0, 0, index))
        for index in range(3)
    ]
    options: dict[str, Any] = {"source_offsets": (-1, 1), "depth": True, "known_poses": True, "min_crop": min_crop}
    batches = []
    for cache in (False, True):
        dataset = FrameDataset(frames, width=100, height=40, cache=cache, **options)
        torch.manual_seed(0)
        batches.append(Batch.collate([dataset[0] for _ in range(4)]))
    plain, cached = batches
    for name in ("image", "sources", "intrinsics", "T_source_target"):
        assert torch.equal(getattr(plain, name), getattr(cached, name)), name
    assert plain.depth is not None
    assert cached.depth is not None
    torch.testing.assert_close(cached.depth, plain.depth, rtol=2**-11, atol=0)  # kept as float16


def test_cache_reads_each_file_once(make_frame: Callable[..., FrameRecord]) -> None:
    frame = make_frame(0, 120, depth=KnownDepth(np.full((80, 200), 4, np.float32)))
    dataset = FrameDataset([frame], width=64, height=64, depth=True, cache=True)
    first = dataset[0]
    frame.image.unlink()
    assert torch.equal(dataset[0].image, first.image)


def test_batches_keep_what_samples_have(make_frame: Callable[..., FrameRecord]) -> None:
    frames = [make_frame(index, 10 * index) for index in range(3)]
    samples = [FrameDataset(frames, width=64, height=64, source_offsets=(1,))[i] for i in (0, 1)]
    batch = Batch.collate(samples)
    assert batch.image.shape == (2, 3, 64, 64)
    assert batch.sources.shape == (2, 1, 3, 64, 64)
    assert batch.names == ("drive/0000000000", "drive/0000000001")
    assert batch.depth is None
    moved = batch.to("meta")
    assert (moved.image.device.type, moved.names, moved.depth) == ("meta", batch.names, None)
    with pytest.raises(DataError, match="1 of 2 samples"):
        Batch.collate([replace(samples[0], depth=torch.ones(1, 64, 64)), samples[1]])


def test_images_are_rgb_and_grey_ones_repeat(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((2, 3, 3), (255, 0, 9), np.uint8))
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((2, 3), 77, np.uint8))
    assert read_rgb(tmp_path / "blue.png")[0, 0].tolist() == [9, 0, 255]
    assert read_rgb(tmp_path / "grey.png")[1, 2].tolist() == [77, 77, 77]
