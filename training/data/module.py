"""The data of a training run: which frames, at which size, in which batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from training.data.augmentation import Augmentation
from training.data.dataset import FrameDataset
from training.data.records import FrameRecord, Intrinsics
from training.data.sample import Batch, Sample, Views, clean_views
from training.data.source import Source
from training.errors import DataError

SMALLEST_SIZE = 64  # two rows of features at stride 32: the decoder pads by reflection


class DepthData(L.LightningDataModule):
    """Training and validation frames.

    Args:
        root: folder that the sources' paths start from. Without `train`, all KITTI raw drives in it are trained on.
        train: where training frames come from.
        validation: where validation frames come from; empty for none.
        width: width of the network's input in pixels, a multiple of 32 and at least 64.
        height: height of the network's input in pixels, a multiple of 32 and at least 64.
        batch_size: samples per step.
        workers: processes that decode frames.
        source_offsets: neighbours that a frame is reconstructed from, in frames; empty for supervision by depth alone.
        stereo: the rectified stereo partner is one more source.
        depth: frames need depth (measured or proxy), and bring it.
        known_poses: frames bring the recorded poses of their neighbours.
        min_crop: smallest share of width and height that a random crop keeps; 1 does not crop.
        cache: keep decoded frames in memory.
        augmentation: flips and colours.

    Raises:
        DataError: the input size does not suit the networks, or min_crop is no share.
    """

    def __init__(
        self,
        root: Path,
        train: list[Source] | None = None,
        validation: list[Source] | None = None,
        width: int = 640,
        height: int = 192,
        batch_size: int = 12,
        workers: int = 4,
        source_offsets: list[int] | None = None,
        stereo: bool = False,
        depth: bool = False,
        known_poses: bool = False,
        min_crop: float = 1.0,
        cache: bool = False,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        super().__init__()
        if width % 32 or height % 32 or min(width, height) < SMALLEST_SIZE:
            raise DataError(
                f"input size is {width}x{height}; the networks need multiples of 32 from {SMALLEST_SIZE} on"
            )
        if not 0 < min_crop <= 1:
            raise DataError(f"min_crop is {min_crop}; expected a share of the image, above 0 and at most 1")
        self.root = Path(root)
        self.train_sources = train or [Source("kitti_raw")]
        self.validation_sources = validation or []
        self.width, self.height = width, height
        self.batch_size, self.workers = batch_size, workers
        self.source_offsets = [-1, 1] if source_offsets is None else source_offsets
        self.stereo, self.depth, self.known_poses = stereo, depth, known_poses
        self.min_crop, self.cache, self.augmentation = min_crop, cache, augmentation

    @cached_property
    def train_records(self) -> list[list[FrameRecord]]:
        """Training frames of each source."""
        return [source.read(self.root) for source in self.train_sources]

    @cached_property
    def validation_records(self) -> list[list[FrameRecord]]:
        """Validation frames of each source."""
        return [source.read(self.root) for source in self.validation_sources]

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled training batches.

        Raises:
            DataError: the frames do not fill one batch, or cannot be trained on.
        """
        parts: list[FrameDataset] = []
        for source, records in zip(self.train_sources, self.train_records, strict=True):
            frames = FrameDataset(
                records,
                self.width,
                self.height,
                source_offsets=self.source_offsets,
                stereo=self.stereo,
                depth=self.depth,
                known_poses=self.known_poses,
                min_crop=self.min_crop,
                cache=self.cache,
            )
            parts += [frames] * source.repeat
        together: ConcatDataset[Sample] = ConcatDataset(parts)
        if len(together) < self.batch_size:
            raise DataError(f"{len(together)} training frames do not fill one batch: lower data.batch_size")
        return self._loader(together, shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Whole validation frames in order, one loader a source; with depth where measured, else with neighbours."""
        return [self._loader(self._validation_frames(records), shuffle=False) for records in self.validation_records]

    def intrinsics_prior(self) -> Intrinsics:
        """Median intrinsics of the training frames: what a model trained on them assumes where no camera is known."""
        known = [r.intrinsics for records in self.train_records for r in records if r.intrinsics is not None]
        fx, fy, cx, cy = np.median(known, axis=0).tolist()
        return fx, fy, cx, cy

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Views:
        """Augment training batches, on the device."""
        training = self.trainer is not None and self.trainer.training
        return self.augmentation(batch) if training else clean_views(batch)

    @cached_property
    def _train_records(self) -> list[list[FrameRecord]]:
        """Records of each training source."""
        return [source.read(self.root) for source in self.train_sources]

    def _validation_frames(self, records: list[FrameRecord]) -> FrameDataset:
        measured = has_depth(records)
        offsets = () if measured else self.source_offsets
        return FrameDataset(records, self.width, self.height, source_offsets=offsets, depth=measured, cache=self.cache)

    def _loader(self, frames: Dataset[Sample], shuffle: bool) -> DataLoader[Sample]:
        return DataLoader(
            frames,
            self.batch_size,
            shuffle=shuffle,
            drop_last=shuffle,
            num_workers=self.workers,
            collate_fn=Batch.collate,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def has_depth(records: Sequence[FrameRecord]) -> bool:
    """Whether any of the frames has measured (or proxy) depth."""
    return any(record.depth is not None for record in records)
