"""Frames of records as training samples: decode, crop, resize. Colours and flips come later, on the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.data.frame_store import FrameFiles, FramesInMemory, FrameStore
from training.data.records import FrameRecord, Matrix
from training.data.sample import Sample
from training.data.weather import Weather
from training.errors import DataError
from training.geometry.framing import UNKNOWN_CAMERA, Framing

Window = tuple[int, int, int, int]  # x, y, width, height in pixels
UNKNOWN_INTRINSICS = (math.nan,) * 4


class FrameDataset(Dataset[Sample]):
    """Samples of equal size from records of any origin.

    Args:
        records: frames; a frame becomes a target where its intrinsics and all that is asked for below are known.
        width, height: size of the samples in pixels.
        source_offsets: neighbours that become sources, in frames: (-1, 1) for Monodepth2; () for none.
        stereo: the rectified partner is one more source, the last, with its known pose.
        depth: samples carry depth.
        known_poses: samples carry the recorded poses of their sources.
        min_crop: a random window of at least this share of the image's width and height is cut out; 1 keeps all of it.
        cache: read all frames at once and keep them in memory, no larger than the smallest window needs.
        known_intrinsics: only frames of known cameras; without it, those of unknown ones have intrinsics NaN.
        camera: number of this source among those that are trained on, for cameras that are learned.
        weather: what the networks see in place of clear sky, target and sources alike.
        instances: samples carry instance masks.
        speed: samples carry the distances to their sources, where speeds are known.

    Raises:
        DataError: no record qualifies.
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
        known_intrinsics: bool = True,
        camera: int = UNKNOWN_CAMERA,
        weather: Weather | None = None,
        instances: bool = False,
        speed: bool = False,
    ) -> None:
        self.width, self.height = width, height
        self.source_offsets = tuple(source_offsets)
        self.stereo, self.depth, self.known_poses, self.min_crop = stereo, depth, known_poses, min_crop
        self.known_intrinsics, self.camera, self.weather = known_intrinsics, camera, weather
        self.instances, self.speed = instances, speed
        by_place = {(r.sequence, r.index): r for r in records}
        neighbours = [[by_place.get((r.sequence, r.index + offset)) for offset in self.source_offsets] for r in records]
        found = [(r, [n for n in around if n is not None]) for r, around in zip(records, neighbours, strict=True)]
        chosen = [(r, around) for r, around in found if self._qualifies(r, around)]
        if not chosen:
            raise DataError(
                f"none of {len(records)} frames can be a target: {'known intrinsics' if known_intrinsics else 'images'}"
                f"{', depth' * depth}{', poses' * known_poses}{', a stereo partner' * stereo}"
                f"{', an instance mask' * instances} and neighbours at {list(self.source_offsets)} are needed"
            )
        self.targets = [record for record, _ in chosen]
        self.neighbours = [around for _, around in chosen]
        self._frames: FrameStore = self._in_memory() if cache else FrameFiles()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> Sample:
        record, sources = self.targets[position], self.source_files(position)
        image = self._frames.image(record.image)
        height, width = image.shape[:2]
        window = self._draw_window(width, height)
        views = np.empty((1 + len(sources), self.height, self.width, 3), np.uint8)
        self._cut(image, window, views[0])
        for path, view in zip(sources, views[1:], strict=True):
            source = self._frames.image(path)
            check_shape(path, source.shape, image.shape)
            self._cut(source, window, view)
        # Channels stay interleaved here: stacking a batch sorts them ten times as fast as a copy of each sample would.
        tensors = torch.from_numpy(views).permute(0, 3, 1, 2)
        framing = Framing.window(window, width, height, self.camera)
        return Sample(
            image=tensors[0],
            sources=tensors[1:],
            intrinsics=framing.of_sample(torch.tensor(record.intrinsics or UNKNOWN_INTRINSICS)),
            depth=self._cut_depth(record, width, height, window) if self.depth else None,
            T_source_target=self.relative_poses(position) if self.known_poses or self.stereo else None,
            name=record.name,
            instances=self._cut_instances(record, width, height, window) if self.instances else None,
            distances=self.distances(position) if self.speed else None,
            framing=framing,
            weathered=None if self.weather is None else self.weather.draw(tensors),
        )

    def whole_image(self, path: Path) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
        """An image at the samples' size, not cropped, uint8 [H, W, 3], RGB; and the shape that it is stored in."""
        image = self._frames.image(path)
        whole = np.empty((self.height, self.width, 3), np.uint8)
        self._cut(image, (0, 0, image.shape[1], image.shape[0]), whole)
        return whole, image.shape

    def whole_depth(self, position: int) -> torch.Tensor:
        """A target's depth at the samples' size, not cropped: float32 [1, H, W], metres, 0 where unknown."""
        return self._cut_depth(self.targets[position], 1, 1, (0, 0, 1, 1))

    def whole_instances(self, position: int) -> torch.Tensor:
        """A target's instance mask at the samples' size, not cropped: uint8 [1, H, W], 0 for none."""
        return self._cut_instances(self.targets[position], 1, 1, (0, 0, 1, 1))

    def source_files(self, position: int) -> list[Path]:
        """Images of a target's sources, in their order in a sample."""
        partner = self.targets[position].stereo
        paths = [neighbour.image for neighbour in self.neighbours[position]]
        return [*paths, partner.image] if self.stereo and partner else paths

    def relative_poses(self, position: int) -> torch.Tensor:
        """T_source_target float32 [M, 4, 4] of those of a target's sources whose poses are known, the last M."""
        record = self.targets[position]
        posed = self.neighbours[position] if self.known_poses else []
        relative = [relative_pose(neighbour, record) for neighbour in posed]
        if self.stereo and record.stereo:
            relative.append(record.stereo.T_other_this)
        return torch.tensor(np.array(relative), dtype=torch.float32).reshape(-1, 4, 4)

    def distances(self, position: int) -> torch.Tensor:
        """Metres float32 [N] that the camera travelled between a target and each source; NaN where unknown."""
        target = self.targets[position]
        to_neighbours = [travelled(neighbour, target) for neighbour in self.neighbours[position]]
        return torch.tensor([*to_neighbours, *[math.nan] * self.stereo], dtype=torch.float32)

    def image_files(self) -> list[Path]:
        """Every image that samples are made of, once."""
        images = [path for i, record in enumerate(self.targets) for path in (record.image, *self.source_files(i))]
        return list(dict.fromkeys(images))

    def _in_memory(self) -> FramesInMemory:
        size = math.ceil(self.width / self.min_crop), math.ceil(self.height / self.min_crop)
        depths, instances = (self.targets if wanted else [] for wanted in (self.depth, self.instances))
        return FramesInMemory(self.image_files(), depths, size, instances)

    def _qualifies(self, record: FrameRecord, neighbours: Sequence[FrameRecord]) -> bool:
        return (
            record.is_target
            and (record.intrinsics is not None or not self.known_intrinsics)
            and len(neighbours) == len(self.source_offsets)
            and (record.depth is not None or not self.depth)
            and (record.stereo is not None or not self.stereo)
            and (record.instances is not None or not self.instances)
            and (not self.known_poses or all(r.pose is not None for r in [record, *neighbours]))
        )

    def _draw_window(self, width: int, height: int) -> Window:
        share = self.min_crop + (1.0 - self.min_crop) * float(torch.rand(()))
        w, h = max(1, round(share * width)), max(1, round(share * height))
        x = int(torch.randint(width - w + 1, ()))
        y = int(torch.randint(height - h + 1, ()))
        return x, y, w, h

    def _cut(self, image: NDArray[np.uint8], window: Window, result: NDArray[np.uint8]) -> None:
        x, y, w, h = window
        filter_ = cv2.INTER_AREA if w >= self.width else cv2.INTER_LINEAR
        cv2.resize(image[y : y + h, x : x + w], (self.width, self.height), dst=result, interpolation=filter_)

    def _cut_depth(self, record: FrameRecord, width: int, height: int, window: Window) -> torch.Tensor:
        depth = self._nearest(self._frames.depth(record), width, height, window)
        return torch.from_numpy(depth.astype(np.float32))[None]

    def _cut_instances(self, record: FrameRecord, width: int, height: int, window: Window) -> torch.Tensor:
        return torch.from_numpy(self._nearest(self._frames.instances(record), width, height, window))[None]

    def _nearest(self, values: NDArray[Any], width: int, height: int, window: Window) -> NDArray[Any]:
        """Values [h, w], the nearest to each pixel of a sample; the window is of an image of `width` x `height`."""
        scale = (values.shape[1] / width, values.shape[0] / height) * 2
        x, y, w, h = (v * s for v, s in zip(window, scale, strict=True))
        columns = (x + (np.arange(self.width) + 0.5) * w / self.width).astype(int).clip(0, values.shape[1] - 1)
        rows = (y + (np.arange(self.height) + 0.5) * h / self.height).astype(int).clip(0, values.shape[0] - 1)
        return np.asarray(values[rows[:, None], columns])


def check_shape(path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a source image of another size than its target: one window and one K are for both.

    Raises:
        DataError: the shapes [H, W, 3] differ.
    """
    if shape != expected:
        raise DataError(
            f"{path} is {shape[1]}x{shape[0]}, and the frame it belongs to is {expected[1]}x{expected[0]}: "
            "expected one size"
        )


def relative_pose(source: FrameRecord, target: FrameRecord) -> Matrix:
    """T_source_target, float64 [4, 4], of two frames of one sequence.

    Raises:
        DataError: one of them has no pose.
    """
    if source.pose is None or target.pose is None:
        raise DataError(f"{(source if source.pose is None else target).name} has no pose")
    return np.asarray(np.linalg.inv(source.pose) @ target.pose)


def travelled(source: FrameRecord, target: FrameRecord) -> float:
    """Metres between two frames: their mean speed times the time between them; NaN where a speed is unknown."""
    speeds = [None if frame.speed is None else frame.speed.read() for frame in (source, target)]
    known = [speed for speed in speeds if speed is not None]
    if len(known) < 2:
        return math.nan
    return abs(source.stamp_ns - target.stamp_ns) * 1e-9 * sum(known) / 2
