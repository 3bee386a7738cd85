"""Frames of records as training samples: decode, crop, resize. Colours and flips come later, on the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.data.records import FrameRecord, Matrix
from training.data.sample import Sample
from training.errors import DataError, FrameError

Window = tuple[int, int, int, int]  # x, y, width, height in pixels


class FrameDataset(Dataset[Sample]):
    """Samples of equal size from records of any origin.

    Args:
        records: frames; a frame becomes a target where its intrinsics and all that is asked for below are known.
        width, height: size of the samples in pixels.
        source_offsets: neighbours that become sources, in frames: (-1, 1) for Monodepth2; () for none.
        stereo: the rectified partner is one more source, with its known pose.
        depth: samples carry depth.
        known_poses: samples carry the recorded poses of their sources.
        min_crop: a random window of at least this share of the image's width and height is cut out; 1 keeps all of it.
        cache: keep decoded frames in memory, no larger than the smallest window needs.

    Raises:
        DataError: no record qualifies, or the sources would have poses in part.
    """

    def __init__(
        self,
        records: Sequence[FrameRecord],
        width: int,
        height: int,
        source_offsets: Sequence[int] = (),
        stereo: bool = False,
        depth: bool = False,
        known_poses: bool = False,
        min_crop: float = 1.0,
        cache: bool = False,
    ) -> None:
        self.width, self.height = width, height
        self.source_offsets = tuple(source_offsets)
        self.stereo, self.depth, self.known_poses, self.min_crop = stereo, depth, known_poses, min_crop
        if stereo and self.source_offsets and not known_poses:
            raise DataError("neighbours without poses cannot share a sample with a stereo partner: set known_poses")
        self._by_place = {(r.sequence, r.index): r for r in records}
        self.targets = [r for r in records if self._qualifies(r)]
        if not self.targets:
            raise DataError(
                f"none of {len(records)} frames can be a target: known intrinsics"
                f"{', depth' * depth}{', poses' * known_poses}{', a stereo partner' * stereo}"
                f" and neighbours at {list(self.source_offsets)} are needed"
            )
        self._frames = _FrameStore(self._stored_size() if cache else None)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> Sample:
        record = self.targets[position]
        image = self._frames.image(record.image)
        window = self._draw_window(image.shape[1], image.shape[0])
        views = [self._cut(image, window), *(self._cut_source(p, image, window) for p in self._source_paths(record))]
        tensors = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous()
        return Sample(
            image=tensors[0],
            sources=tensors[1:],
            intrinsics=_cropped_intrinsics(record, image.shape[1], image.shape[0], window),
            depth=self._cut_depth(record, image.shape[1], image.shape[0], window) if self.depth else None,
            T_source_target=self._relative_poses(record) if self.known_poses or self.stereo else None,
            name=record.name,
        )

    def _qualifies(self, record: FrameRecord) -> bool:
        neighbours = self._neighbours(record)
        return (
            record.is_target
            and record.intrinsics is not None
            and len(neighbours) == len(self.source_offsets)
            and (record.depth is not None or not self.depth)
            and (record.stereo is not None or not self.stereo)
            and (not self.known_poses or all(r.pose is not None for r in [record, *neighbours]))
        )

    def _neighbours(self, record: FrameRecord) -> list[FrameRecord]:
        """Those of the frames at the source offsets that were recorded."""
        places = [(record.sequence, record.index + offset) for offset in self.source_offsets]
        return [self._by_place[place] for place in places if place in self._by_place]

    def _source_paths(self, record: FrameRecord) -> list[Path]:
        paths = [neighbour.image for neighbour in self._neighbours(record)]
        return [*paths, record.stereo.image] if self.stereo and record.stereo else paths

    def _relative_poses(self, record: FrameRecord) -> torch.Tensor:
        relative = [relative_pose(neighbour, record) for neighbour in self._neighbours(record)]
        if self.stereo and record.stereo:
            relative.append(record.stereo.T_other_this)
        return torch.tensor(np.array(relative), dtype=torch.float32).reshape(-1, 4, 4)

    def _stored_size(self) -> tuple[int, int]:
        return math.ceil(self.width / self.min_crop), math.ceil(self.height / self.min_crop)

    def _draw_window(self, width: int, height: int) -> Window:
        share = self.min_crop + (1.0 - self.min_crop) * float(torch.rand(()))
        w, h = max(1, round(share * width)), max(1, round(share * height))
        x = int(torch.randint(width - w + 1, ()))
        y = int(torch.randint(height - h + 1, ()))
        return x, y, w, h

    def _cut(self, image: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        x, y, w, h = window
        cut = image[y : y + h, x : x + w]
        filter_ = cv2.INTER_AREA if w >= self.width else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(cut, (self.width, self.height), interpolation=filter_), np.uint8)

    def _cut_source(self, path: Path, target: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        source = self._frames.image(path)
        if source.shape != target.shape:
            size, expected = (f"{image.shape[1]}x{image.shape[0]}" for image in (source, target))
            raise DataError(f"{path} is {size}, and the frame it belongs to is {expected}: expected one size")
        return self._cut(source, window)

    def _cut_depth(self, record: FrameRecord, width: int, height: int, window: Window) -> torch.Tensor:
        depth = self._frames.depth(record)
        x, y, w, h = (v * s for v, s in zip(window, (depth.shape[1] / width, depth.shape[0] / height) * 2, strict=True))
        columns = (x + (np.arange(self.width) + 0.5) * w / self.width).astype(int).clip(0, depth.shape[1] - 1)
        rows = (y + (np.arange(self.height) + 0.5) * h / self.height).astype(int).clip(0, depth.shape[0] - 1)
        return torch.from_numpy(depth[rows[:, None], columns].astype(np.float32))[None]


class _FrameStore:
    """Decoded images and depth maps; with a size, each is reduced to at most that and kept."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        self._size = size
        self._images: dict[Path, NDArray[np.uint8]] = {}
        self._depths: dict[str, NDArray[np.float16]] = {}

    def image(self, path: Path) -> NDArray[np.uint8]:
        if path in self._images:
            return self._images[path]
        image = read_rgb(path)
        if self._size is not None:
            if image.shape[1] > self._size[0]:
                image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
            self._images[path] = image
        return image

    def depth(self, record: FrameRecord) -> NDArray[np.floating]:
        if record.depth is None:
            raise DataError(f"{record.name} has no depth")
        if record.name in self._depths:
            return self._depths[record.name]
        depth = record.depth.read()
        if self._size is None:
            return depth
        if depth.shape[1] > self._size[0]:
            depth = np.asarray(cv2.resize(depth, self._size, interpolation=cv2.INTER_NEAREST_EXACT), np.float32)
        return self._depths.setdefault(record.name, depth.astype(np.float16))


def relative_pose(source: FrameRecord, target: FrameRecord) -> Matrix:
    """T_source_target, float64 [4, 4], of two frames of one sequence.

    Raises:
        DataError: one of them has no pose.
    """
    if source.pose is None or target.pose is None:
        raise DataError(f"{(source if source.pose is None else target).name} has no pose")
    return np.asarray(np.linalg.inv(source.pose) @ target.pose)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], RGB; grey files repeat their channel.

    Raises:
        FrameError: the file cannot be decoded.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FrameError(f"{path} cannot be decoded as an image: it is missing, truncated, or of an unknown format")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _cropped_intrinsics(record: FrameRecord, width: int, height: int, window: Window) -> torch.Tensor:
    if record.intrinsics is None:
        raise DataError(f"{record.name} has no intrinsics")
    fx, fy, cx, cy = record.intrinsics
    x, y, w, h = window
    return torch.tensor([fx * width / w, fy * height / h, (cx * width - x) / w, (cy * height - y) / h])
