"""The data of a run: what an epoch holds, what validation sees, and what cannot be trained on."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from training.data.augmentation import Augmentation
from training.data.module import DepthData
from training.data.records import FrameRecord
from training.data.sample import Batch
from training.data.source import Source
from training.data.synthetic import DriveOptions, read_synthetic, write_street_drive
from training.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic drives of three frames, and a folder of five frames without depth."""
    folder = tmp_path_factory.mktemp("data")
    for seed in (0, 1):
        write_street_drive(folder / "streets" / f"street_{seed}", seed, DriveOptions(width=64, height=64, frames=3))
    (folder / "video").mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / "video" / f"{index}.png"), np.full((32, 64, 3), 10 * index, np.uint8))
    (folder / "camera.yaml").write_text(
        "{image_width: 64, image_height: 32, camera_matrix: {data: [32, 0, 31.5, 0, 32, 15.5, 0, 0, 1]}}"
    )
    return folder


STREETS = Source("synthetic", Path("streets"))
VIDEO = Source("folder", Path("video"), camera_file=Path("camera.yaml"))


def make_data(root: Path, train: list[Source], **options: Any) -> DepthData:
    return DepthData(root, train, width=64, height=64, **{"workers": 0, "batch_size": 2, **options})


def batches(loader: Any) -> list[Batch]:
    return list(loader)


def test_an_epoch_holds_each_frame_as_often_as_it_is_repeated(root: Path) -> None:
    once = Source("synthetic", Path("streets"), select=["street_0"])
    thrice = Source("synthetic", Path("streets"), select=["street_1"], repeat=3)
    data = make_data(root, [once, thrice], source_offsets=[], depth=True)
    names = [name for batch in batches(data.train_dataloader()) for name in batch.names]
    assert sorted(names) == sorted(
        [f"street_0/{i:010d}" for i in range(3)] + 3 * [f"street_1/{i:010d}" for i in range(3)]
    )
    assert names != sorted(names)


def test_an_incomplete_batch_is_dropped_in_training_and_kept_in_validation(root: Path) -> None:
    data = make_data(root, [STREETS], validation=[STREETS], source_offsets=[], depth=True, batch_size=4)
    assert [len(batch.names) for batch in batches(data.train_dataloader())] == [4]
    (loader,) = data.val_dataloader()
    assert [len(batch.names) for batch in batches(loader)] == [3, 3]
    assert [name for batch in batches(loader) for name in batch.names] == [r.name for r in data.validation_records[0]]


def test_validation_sees_depth_where_there_is_some_and_neighbours_elsewhere(root: Path) -> None:
    data = make_data(root, [VIDEO], validation=[STREETS, VIDEO], source_offsets=[-1, 1], min_crop=0.5)
    measured, video = (batches(loader) for loader in data.val_dataloader())
    assert measured[0].depth is not None
    assert measured[0].sources.shape[1] == 0
    assert video[0].depth is None
    assert video[0].sources.shape[1] == 2
    assert sum(len(batch.names) for batch in video) == 3
    assert (video[0].intrinsics[:, 0] == 0.5).all()  # not cropped


def test_training_batches_are_augmented_and_others_are_not(root: Path) -> None:
    data = make_data(root, [VIDEO], augmentation=Augmentation(flip=1.0, jitter=0.0))
    batch = next(iter(data.train_dataloader()))
    for training in (True, False):
        data.trainer = SimpleNamespace(training=training)  # type: ignore[assignment]
        views = data.on_after_batch_transfer(batch, 0)
        expected = batch.image.flip(-1) if training else batch.image
        assert torch.equal(views.image, expected / 255)


def test_prior_is_the_median_camera_of_the_training_frames(root: Path) -> None:
    data = make_data(root, [STREETS, VIDEO])
    known = [r.intrinsics for r in read_synthetic(root / "streets")] + 5 * [(0.5, 1.0, 0.5, 0.5)]
    assert data.intrinsics_prior() == pytest.approx(tuple(np.median(np.array(known), axis=0)))


def test_sources_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Source] = []

    def read(source: Source, folder: Path) -> list[FrameRecord]:
        calls.append(source)
        return read_synthetic(folder / source.path)

    monkeypatch.setattr(Source, "read", read)
    data = make_data(root, [STREETS], validation=[STREETS], source_offsets=[], depth=True)
    for _ in range(2):
        data.train_dataloader()
        data.val_dataloader()
        data.intrinsics_prior()
    assert len(calls) == 2


def test_without_sources_all_kitti_raw_drives_are_trained_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no frames of any drive .* in {tmp_path}"):
        DepthData(tmp_path).train_dataloader()


def test_too_few_frames_for_one_batch(root: Path) -> None:
    with pytest.raises(DataError, match=r"3 training frames do not fill one batch: lower data.batch_size"):
        make_data(root, [VIDEO], batch_size=4).train_dataloader()


@pytest.mark.parametrize("size", [(96, 63), (32, 64)])
def test_size_must_suit_the_networks(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"input size is {size[0]}x{size[1]}; the networks need at least 64"):
        DepthData(Path("."), width=size[0], height=size[1])


@pytest.mark.parametrize("share", [0.0, -0.5, 1.1])
def test_crops_are_shares_of_the_image(share: float) -> None:
    with pytest.raises(DataError, match=f"min_crop is {share}; expected a share"):
        DepthData(Path("."), min_crop=share)


@pytest.mark.parametrize("cache", ["ram", "device"])
def test_a_cache_changes_no_batch(root: Path, cache: Any) -> None:
    options: dict[str, Any] = {"validation": [STREETS], "source_offsets": [-1, 1]}
    plain, cached = make_data(root, [VIDEO], **options), make_data(root, [VIDEO], **options, cache=cache)
    for read, kept in (
        (plain.train_dataloader(), cached.train_dataloader()),
        (plain.val_dataloader()[0], cached.val_dataloader()[0]),
    ):
        for expected, got in zip(batches(read), batches(kept), strict=True):
            assert got.names == expected.names
            assert torch.equal(got.image, expected.image)
            assert torch.equal(got.sources, expected.sources)


def test_a_set_on_the_device_needs_no_workers(root: Path) -> None:
    assert make_data(root, [VIDEO], workers=2, cache="device").train_dataloader().num_workers == 0
    loader = make_data(root, [VIDEO], workers=2, prefetch=5).train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers) == (2, 5, True)


def write_video(folder: Path, frames: int) -> Source:
    """Small images below `folder`."""
    (folder / "long").mkdir()
    for index in range(frames):
        cv2.imwrite(str(folder / "long" / f"{index}.png"), np.full((4, 6, 3), index, np.uint8))
    (folder / "camera.yaml").write_text(
        "{image_width: 6, image_height: 4, camera_matrix: {data: [3, 0, 2.5, 0, 3, 1.5, 0, 0, 1]}}"
    )
    return Source("folder", Path("long"), camera_file=Path("camera.yaml"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_frame_is_named_and_another_takes_its_place(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    video = write_video(tmp_path, 120)
    damaged = tmp_path / "long" / "7.png"
    damaged.write_bytes(damaged.read_bytes()[:30])
    data = make_data(tmp_path, [video], source_offsets=[], batch_size=40, workers=workers)
    with caplog.at_level(logging.WARNING, "training.data.unreadable"):
        seen = [data.on_before_batch_transfer(batch, 0) for _ in range(2) for batch in data.train_dataloader()]
    names = [name for batch in seen[:3] for name in batch.names]
    assert sorted(set(names)) == [f"long/{index:010d}" for index in range(120) if index != 7]
    assert len(names) == 120
    (record,) = caplog.records
    assert record.getMessage().startswith(f"left out, 1 of 120 frames so far: {damaged} cannot be decoded")


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_one_percent_unreadable_ends_the_run(tmp_path: Path, workers: int) -> None:
    video = write_video(tmp_path, 120)
    damaged = [tmp_path / "long" / f"{index}.png" for index in (3, 90)]
    for path in damaged:
        path.write_bytes(b"")
    data = make_data(tmp_path, [video], source_offsets=[], batch_size=10, workers=workers)
    with pytest.raises(DataError, match="2 of 120 frames cannot be read, more than 1%") as caught:
        [data.on_before_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert all(str(path) in str(caught.value) for path in damaged)


def test_what_is_drawn_on_a_batch_depends_on_the_place_in_the_run(root: Path) -> None:
    data = make_data(root, [VIDEO], validation=[VIDEO])
    batch = next(iter(data.train_dataloader()))

    def draw(epoch: int, step: int, rank: int = 0, training: bool = True) -> float:
        progress = SimpleNamespace(current=SimpleNamespace(ready=step))
        data.trainer = SimpleNamespace(  # type: ignore[assignment]
            training=training,
            current_epoch=epoch,
            overfit_batches=0,
            global_rank=rank,
            world_size=2,
            fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        )
        torch.rand(3)  # whatever was drawn before
        data.on_before_batch_transfer(batch, 0)
        return float(torch.rand(()))

    places = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]
    assert len({draw(*place) for place in places}) == len(places)
    assert [draw(*place) for place in places] == [draw(*place) for place in places]
    assert draw(0, 0, training=False) == draw(3, 5, training=False)
    state = data.state_dict()
    data.seed += 1
    changed = draw(0, 0)
    data.load_state_dict(state)
    assert draw(0, 0) != changed


def test_frames_for_every_process(root: Path) -> None:
    data = make_data(root, [VIDEO], validation=[VIDEO], batch_size=2)
    data.trainer = SimpleNamespace(global_rank=1, world_size=3)  # type: ignore[assignment]
    with pytest.raises(DataError, match="3 training frames do not fill one batch in each of 3 processes: lower"):
        data.train_dataloader()
    (loader,) = data.val_dataloader()
    assert [batch.names for batch in loader] == [("video/0000000002",)]
