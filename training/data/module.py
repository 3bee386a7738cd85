"""The data of a training run: which frames, at which size, in which batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from training.data.augmentation import Augmentation
from training.data.dataset import FrameDataset
from training.data.folder import read_folder
from training.data.kitti_2015 import read_kitti_2015
from training.data.kitti_odometry import read_kitti_odometry
from training.data.kitti_raw import read_kitti_raw
from training.data.proxy_files import with_proxy_depth
from training.data.records import FrameRecord, Intrinsics
from training.data.sample import Batch, Sample, Views, clean_views
from training.data.synthetic import read_synthetic
from training.errors import DataError

Kind = Literal["kitti_raw", "kitti_odometry", "kitti_2015", "folder", "synthetic"]


@dataclass(frozen=True)
class Source:
    """Frames of one origin.

    Args:
        kind: layout of the folder.
        path: the folder, relative to `data.root` unless absolute.
        select: drives (kitti_raw), sequences (kitti_odometry) or lists (kitti_2015: training, validation); empty takes all.
        cameras: image folders (kitti_raw, kitti_odometry), such as image_02.
        depth_path: folder of KITTI depth PNGs (kitti_raw), relative to `data.root` unless absolute.
        proxy: folder that `proxy_depth` wrote; its depth fills the frames that have none.
        prefer_proxy: take proxy depth where there is measured depth, too.
        repeat: how often each frame is seen in an epoch.
    """

    kind: Kind
    path: Path = Path(".")
    select: list[str] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    depth_path: Path | None = None
    proxy: Path | None = None
    prefer_proxy: bool = False
    repeat: int = 1

    def read(self, root: Path) -> list[FrameRecord]:
        """Records of the selected frames below `root`."""
        records = self._read_layout(root / self.path, root)
        if self.proxy is not None:
            records = with_proxy_depth(records, root / self.proxy, self.prefer_proxy)
        return records

    def _read_layout(self, folder: Path, root: Path) -> list[FrameRecord]:
        select = self.select or None
        if self.kind == "kitti_raw":
            depth_root = None if self.depth_path is None else root / self.depth_path
            return read_kitti_raw(folder, select, self.cameras or ["image_02"], depth_root=depth_root)
        if self.kind == "kitti_odometry":
            return read_kitti_odometry(folder, select, self.cameras or ["image_2"])
        if self.kind == "kitti_2015":
            return [r for split in self.select or [None] for r in read_kitti_2015(folder, split)]
        if self.kind == "synthetic":
            return read_synthetic(folder, select)
        return read_folder(folder)


class DepthData(L.LightningDataModule):
    """Training and validation frames.

    Args:
        root: folder that the sources' paths start from. Without `train`, all KITTI raw drives in it are trained on.
        train: where training frames come from.
        validation: where validation frames come from; empty for none.
        width: width of the network's input in pixels, a multiple of 32.
        height: height of the network's input in pixels, a multiple of 32.
        batch_size: samples per step.
        workers: processes that decode frames.
        source_offsets: neighbours that a frame is reconstructed from, in frames; empty for supervision by depth alone.
        stereo: the rectified stereo partner is one more source.
        depth: frames need depth (measured or proxy), and bring it.
        known_poses: frames bring the recorded poses of their neighbours.
        min_crop: smallest share of width and height that a random crop keeps; 1 does not crop.
        cache: keep decoded frames in memory.
        augmentation: flips and colours.
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
        if width % 32 or height % 32:
            raise DataError(f"input size is {width}x{height}; the networks need multiples of 32")
        self.root = Path(root)
        self.train_sources = train or [Source("kitti_raw")]
        self.validation_sources = validation or []
        self.width, self.height = width, height
        self.batch_size, self.workers = batch_size, workers
        self.source_offsets = [-1, 1] if source_offsets is None else source_offsets
        self.stereo, self.depth, self.known_poses = stereo, depth, known_poses
        self.min_crop, self.cache, self.augmentation = min_crop, cache, augmentation

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled training batches."""
        parts: list[FrameDataset] = []
        for source, records in zip(self.train_sources, self._train_records, strict=True):
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
        return self._loader(ConcatDataset(parts), shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """Whole validation frames in order, one loader a source: with depth where it was measured, else with neighbours."""
        return [
            self._loader(self._validation_frames(s.read(self.root)), shuffle=False) for s in self.validation_sources
        ]

    def intrinsics_prior(self) -> Intrinsics:
        """Median intrinsics of the training frames: what a model trained on them assumes where no camera is known."""
        known = [r.intrinsics for records in self._train_records for r in records if r.intrinsics is not None]
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
        measured = any(r.depth is not None for r in records)
        offsets = () if measured else self.source_offsets
        return FrameDataset(records, self.width, self.height, source_offsets=offsets, depth=measured, cache=self.cache)

    def _loader(self, frames: Dataset[Sample], shuffle: bool) -> DataLoader[Batch]:
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
