"""The data of a training run: which frames, at which size, in which batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Sampler

from training.data.augmentation import Augmentation
from training.data.dataset import FrameDataset
from training.data.device_frames import DeviceFrames
from training.data.records import FrameRecord, Intrinsics
from training.data.sample import Batch, Sample, Views, clean_views
from training.data.sampling import (
    Draw,
    EpochBatches,
    LateDataLoader,
    Position,
    ReadableSamples,
    ValidationBatches,
    digest,
    seed_everything_for,
)
from training.data.shard_files import Shards, read_shards
from training.data.shards import ShardLoader, ShardSamples
from training.data.source import Source
from training.data.unreadable import UnreadableFrames
from training.data.weather import Weather
from training.errors import DataError

Cache = Literal["none", "ram", "device"]
SMALLEST_SIZE = 64  # two rows of features at stride 32: the decoder pads by reflection


class DepthData(L.LightningDataModule):
    """Training and validation frames.

    Args:
        root: folder that the sources' paths start from. Without `train`, all KITTI raw drives in it are trained on.
        train: where training frames come from.
        validation: where validation frames come from; empty for none.
        validate: what validation frames bring: depth where it is measured, else neighbours; or, to validate motion,
            neighbours and their recorded poses in any case.
        width: width of the network's input in pixels, at least 64, and a multiple of 32 unless the network says else.
        height: height of the network's input in pixels; as width.
        batch_size: samples per step and device.
        workers: processes that decode frames.
        source_offsets: neighbours that a frame is reconstructed from, in frames; empty for supervision by depth alone.
        stereo: the rectified stereo partner is one more source, beside the neighbours.
        depth: frames need depth (measured or proxy), and bring it.
        known_poses: frames bring the recorded poses of their neighbours.
        min_crop: smallest share of width and height that a random crop keeps; 1 does not crop.
        cache: read all frames at the start and keep them: in ram, which the workers of a process share, or on the
            device, where batches are made without workers (not with min_crop); none reads them whenever needed.
        prefetch: batches that each worker prepares ahead.
        augmentation: flips and colours.
        known_intrinsics: train on frames of known cameras only; false takes all, for a task that learns intrinsics.
        weather: snow, sun flare, fog and rain that the networks see and the losses do not; none keeps the sky clear.
        instances: frames need instance masks (`prepare --instances`), and bring them.
        speed: frames bring the distances travelled to their neighbours, where speeds are known.
        shards: folder or URL of what `prepare --shards` wrote; training frames are streamed from there, not from
            `train`.

    Raises:
        DataError: the input size does not suit the networks, min_crop is no share, or options exclude each other.
    """

    def __init__(
        self,
        root: Path,
        train: list[Source] | None = None,
        validation: list[Source] | None = None,
        validate: Literal["depth", "motion"] = "depth",
        width: int = 640,
        height: int = 192,
        batch_size: int = 12,
        workers: int = 4,
        source_offsets: list[int] | None = None,
        stereo: bool = False,
        depth: bool = False,
        known_poses: bool = False,
        min_crop: float = 1.0,
        cache: Cache = "none",
        prefetch: int = 2,
        augmentation: Augmentation = Augmentation(),
        known_intrinsics: bool = True,
        weather: Weather | None = None,
        instances: bool = False,
        speed: bool = False,
        shards: str | None = None,
    ) -> None:
        super().__init__()
        if min(width, height) < SMALLEST_SIZE:
            raise DataError(f"input size is {width}x{height}; the networks need at least {SMALLEST_SIZE} on each side")
        if not 0 < min_crop <= 1:
            raise DataError(f"min_crop is {min_crop}; expected a share of the image, above 0 and at most 1")
        if shards is not None and (train or stereo or cache != "none"):
            raise DataError("shards are streamed: leave out train, stereo and cache")
        if weather is not None and cache == "device":
            raise DataError("data.weather is painted by workers, and data.cache is device: set data.cache: ram")
        self.root = Path(root)
        self.shards = shards
        self.train_sources = [] if shards is not None else train or [Source("kitti_raw")]
        self.validation_sources, self.validate = validation or [], validate
        self.width, self.height = width, height
        self.batch_size, self.workers = batch_size, workers
        self.source_offsets = [-1, 1] if source_offsets is None else source_offsets
        self.stereo, self.depth, self.known_poses = stereo, depth, known_poses
        self.min_crop, self.cache, self.prefetch, self.augmentation = min_crop, cache, prefetch, augmentation
        self.known_intrinsics, self.weather = known_intrinsics, weather
        self.instances, self.speed = instances, speed
        self.seed = torch.initial_seed()

    @cached_property
    def train_records(self) -> list[list[FrameRecord]]:
        """Training frames of each source."""
        return [source.read(self.root) for source in self.train_sources]

    @cached_property
    def validation_records(self) -> list[list[FrameRecord]]:
        """Validation frames of each source."""
        return [source.read(self.root) for source in self.validation_sources]

    @cached_property
    def unreadable(self) -> UnreadableFrames:
        """Frames that could not be read so far."""
        records = [*self.train_records, *self.validation_records]
        streamed = 0 if self.stream is None else self.stream.targets
        return UnreadableFrames(streamed + len({r.image for source in records for r in source}), report=True)

    @cached_property
    def stream(self) -> Shards | None:
        """The shards that training frames come from."""
        return None if self.shards is None else read_shards(self.shards)

    def setup(self, stage: str) -> None:
        """All processes of a run take the first one's seed."""
        if self.trainer is not None:
            self.seed = self.trainer.strategy.broadcast(self.seed)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the seed. The place in the epoch is the trainer's."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the seed of a checkpoint, so that a resumed run sees what it would have seen."""
        self.seed = state_dict["seed"]

    def train_dataloader(self) -> LateDataLoader:
        """Shuffled training batches.

        Raises:
            DataError: the frames do not fill one batch, or cannot be trained on.
        """
        if self.stream is not None:
            return ShardLoader(self._streamed(self.stream), self._position, self.workers, self.prefetch)
        if self.speed and all(r.speed is None for records in self.train_records for r in records):
            raise DataError("data.speed is true, and no training frame has one: prepare them with odometry or oxts")
        parts: list[Dataset[Sample]] = []
        for camera, (source, records) in enumerate(zip(self.train_sources, self.train_records, strict=True)):
            frames = FrameDataset(
                records,
                self.width,
                self.height,
                source_offsets=self.source_offsets,
                stereo=self.stereo,
                depth=self.depth,
                known_poses=self.known_poses,
                min_crop=self.min_crop,
                cache=self.cache == "ram",
                known_intrinsics=self.known_intrinsics,
                camera=camera,
                weather=self.weather,
                instances=self.instances,
                speed=self.speed,
            )
            parts += [self._on_device(frames)] * source.repeat
        together: ConcatDataset[Sample] = ConcatDataset(parts)
        rank, world_size = self._process()
        batches = EpochBatches(len(together), self.batch_size, self.seed, self._position, rank, world_size)
        if not len(batches):
            everywhere = "" if world_size == 1 else f" in each of {world_size} processes"
            raise DataError(f"{len(together)} training frames do not fill one batch{everywhere}: lower data.batch_size")
        return self._loader(together, len(together), batches)

    def val_dataloader(self) -> list[LateDataLoader]:
        """Whole validation frames in order, one loader a source; with depth where measured, else with neighbours."""
        loaders = []
        for records in self.validation_records:
            frames = self._validation_frames(records)
            batches = ValidationBatches(len(frames), self.batch_size, *self._process())
            loaders.append(self._loader(self._on_device(frames), len(frames), batches))
        return loaders

    @property
    def cameras(self) -> int:
        """Entries of `train`, whose frames are of one camera each where cameras are learned."""
        return max(1, len(self.train_sources))

    def intrinsics_prior(self) -> Intrinsics:
        """Median intrinsics of the training frames: what a model trained on them assumes where no camera is known."""
        if self.stream is not None:
            if self.stream.intrinsics is None:
                raise DataError(f"no frame in {self.shards} has known intrinsics: prepare with a camera")
            return self.stream.intrinsics
        known = [r.intrinsics for records in self.train_records for r in records if r.intrinsics is not None]
        fx, fy, cx, cy = np.median(known, axis=0).tolist()
        return fx, fy, cx, cy

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Note unreadable frames, and seed what is drawn from here on: by the place in the run, or for validation by
        what is validated.

        Raises:
            DataError: too many frames cannot be read.
        """
        self.unreadable.add(batch.unreadable)
        rank, _ = self._process()
        if self.trainer is not None and self.trainer.training:
            position = self._position()
            seed_everything_for(self.seed, rank, position.epoch, position.batch)
        else:
            seed_everything_for(self.seed, digest(batch.names))
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Views:
        """Augment training batches, on the device."""
        training = self.trainer is not None and self.trainer.training
        return self.augmentation(batch) if training else clean_views(batch)

    def _streamed(self, shards: Shards) -> ShardSamples:
        rank, world_size = self._process()
        return ShardSamples(
            shards,
            self.width,
            self.height,
            self.batch_size,
            self.seed,
            source_offsets=self.source_offsets,
            depth=self.depth,
            known_poses=self.known_poses,
            min_crop=self.min_crop,
            known_intrinsics=self.known_intrinsics,
            weather=self.weather,
            instances=self.instances,
            speed=self.speed,
            rank=rank,
            world_size=world_size,
        )

    def _process(self) -> tuple[int, int]:
        """Rank of this process, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _position(self) -> Position:
        if self.trainer is None:
            return Position(epoch=0, batch=0)
        overfit = self.trainer.overfit_batches  # type: ignore[attr-defined]  # set by a helper of Trainer's
        batches = self.trainer.fit_loop.epoch_loop.batch_progress
        return Position(0 if overfit else self.trainer.current_epoch, batches.current.ready)

    def _validation_frames(self, records: list[FrameRecord]) -> FrameDataset:
        motion = self.validate == "motion"
        measured = has_depth(records) and not motion
        return FrameDataset(
            records,
            self.width,
            self.height,
            source_offsets=() if measured else self.source_offsets,
            depth=measured,
            known_poses=motion,
            cache=self.cache == "ram",
        )

    def _on_device(self, frames: FrameDataset) -> Dataset[Sample]:
        """The same samples, in the device's memory where that is asked for."""
        if self.cache != "device":
            return frames
        return DeviceFrames(frames, torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device)

    def _loader(self, frames: Dataset[Sample], length: int, batches: Sampler[list[Draw]]) -> LateDataLoader:
        workers = 0 if self.cache == "device" else self.workers
        return LateDataLoader(
            ReadableSamples(frames, length),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=ReadableSamples.collate,
            persistent_workers=workers > 0,
            prefetch_factor=self.prefetch if workers else None,
            pin_memory=torch.cuda.is_available() and self.cache != "device",
        )


def has_depth(records: Sequence[FrameRecord]) -> bool:
    """Whether any of the frames has measured (or proxy) depth."""
    return any(record.depth is not None for record in records)
