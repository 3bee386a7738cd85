"""A whole data set in the memory of the device that trains: no loading, no transfer, no worker processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from training.data.dataset import UNKNOWN_INTRINSICS, FrameDataset, check_shape
from training.data.frame_store import at_once, available_memory, check_room, reading
from training.data.sample import Sample
from training.errors import DataError, FrameError
from training.geometry.framing import Framing

Shape = tuple[int, ...] | FrameError


class DeviceFrames(Dataset[Sample]):
    """The samples of a FrameDataset, made of tensors that lie on a device. Depth is kept as float16.

    Raises:
        DataError: the samples are random crops, images of one sample differ in size, or they do not fit.
    """

    def __init__(self, frames: FrameDataset, device: torch.device) -> None:
        if frames.min_crop != 1:
            raise DataError(
                f"data.cache is device and data.min_crop is {frames.min_crop}: whole frames are kept at the size "
                "they train at; set data.min_crop: 1, or data.cache: ram"
            )
        self.targets = frames.targets
        files = frames.image_files()
        pixels = frames.width * frames.height
        needed = pixels * (3 * len(files) + len(self.targets) * (2 * frames.depth + frames.instances))
        check_room(needed, _free(device), f"{len(files)} frames", f"memory on {device}")
        with reading(f"{len(files)} frames"):
            self._images, shapes = _load_images(frames, files, device)
            self._depths, no_depth = _load_depths(frames, device)
            self._instances, no_instances = _load_instances(frames, device)
        slots = {path: slot for slot, path in enumerate(files)}
        used = [
            [slots[record.image], *(slots[path] for path in frames.source_files(i))]
            for i, record in enumerate(self.targets)
        ]
        self._unreadable = _unreadable(used, shapes, files) | no_depth | no_instances
        self._slots = torch.tensor(used, device=device)
        known_or_nan = [record.intrinsics or UNKNOWN_INTRINSICS for record in self.targets]
        self._intrinsics = torch.tensor(known_or_nan, device=device)
        self._framings = [
            None
            if isinstance(shape, FrameError)
            else _framing(shape, frames.camera).with_tensors(lambda tensor: tensor.to(device))
            for shape in (shapes[slots[record.image]] for record in self.targets)
        ]
        known = frames.known_poses or frames.stereo
        poses = [frames.relative_poses(i) for i in range(len(used))] if known else []
        self._poses = torch.stack(poses).to(device) if known else None
        distances = [frames.distances(i) for i in range(len(used))] if frames.speed else []
        self._distances = torch.stack(distances).to(device) if frames.speed else None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> Sample:
        if position in self._unreadable:
            raise self._unreadable[position]
        slots = self._slots[position]
        frames = self._images[slots]
        return Sample(
            image=frames[0],
            sources=frames[1:],
            intrinsics=self._intrinsics[position],
            depth=None if self._depths is None else self._depths[position].float(),
            T_source_target=None if self._poses is None else self._poses[position],
            instances=None if self._instances is None else self._instances[position],
            distances=None if self._distances is None else self._distances[position],
            name=self.targets[position].name,
            framing=self._framings[position],
        )


def _framing(shape: tuple[int, ...], camera: int) -> Framing:
    height, width = shape[:2]
    return Framing.window((0, 0, width, height), width, height, camera)


def _load_images(frames: FrameDataset, files: list[Path], device: torch.device) -> tuple[Tensor, list[Shape]]:
    """uint8 [len(files), 3, H, W] on the device; and the shape that each is stored in, or why it cannot be read."""
    images = torch.empty((len(files), 3, frames.height, frames.width), dtype=torch.uint8, device=device)

    def keep(slot: int, read: tuple[NDArray[np.uint8], tuple[int, ...]]) -> tuple[int, ...]:
        image, shape = read
        images[slot] = torch.from_numpy(image).to(device).permute(2, 0, 1)
        return shape

    return images, at_once(keep, [partial(frames.whole_image, path) for path in files])


def _load_depths(frames: FrameDataset, device: torch.device) -> tuple[Tensor | None, dict[int, FrameError]]:
    """float16 [targets, 1, H, W] on the device, where samples have depth; and why that of a target cannot be read."""
    if not frames.depth:
        return None, {}
    depths = torch.empty((len(frames), 1, frames.height, frames.width), dtype=torch.float16, device=device)

    def keep(slot: int, depth: Tensor) -> None:
        depths[slot] = depth.half().to(device)

    results = at_once(keep, [partial(frames.whole_depth, i) for i in range(len(frames))])
    return depths, {i: error for i, error in enumerate(results) if error is not None}


def _load_instances(frames: FrameDataset, device: torch.device) -> tuple[Tensor | None, dict[int, FrameError]]:
    """uint8 [targets, 1, H, W] on the device, where samples have instances; and why that of a target is not there."""
    if not frames.instances:
        return None, {}
    masks = torch.empty((len(frames), 1, frames.height, frames.width), dtype=torch.uint8, device=device)

    def keep(slot: int, mask: Tensor) -> None:
        masks[slot] = mask.to(device)

    results = at_once(keep, [partial(frames.whole_instances, i) for i in range(len(frames))])
    return masks, {i: error for i, error in enumerate(results) if error is not None}


def _unreadable(used: list[list[int]], shapes: list[Shape], files: list[Path]) -> dict[int, FrameError]:
    """Which targets lack a frame, and why.

    Raises:
        DataError: images of one sample differ in size.
    """
    errors: dict[int, FrameError] = {}
    for position, slots in enumerate(used):
        expected = shapes[slots[0]]
        for slot in slots:
            shape = shapes[slot]
            if isinstance(shape, FrameError):
                errors.setdefault(position, shape)
            elif not isinstance(expected, FrameError):
                check_shape(files[slot], shape, expected)
    return errors


def _free(device: torch.device) -> int | None:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
