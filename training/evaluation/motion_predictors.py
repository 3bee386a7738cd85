"""What a trajectory is estimated from: a pose network, or a baseline that looks at no image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from depth_node.pipeline import resize_image
from training.data.image_files import read_rgb
from training.data.records import FrameRecord, translation
from training.evaluation.predictors import default_device
from training.evaluation.trajectories import Transforms
from training.geometry.se3 import rigid_transform, so3_exp
from training.pose_checkpoints import load_pose_network


class MotionPredictor(Protocol):
    """Turns neighbouring frames into camera motions."""

    @property
    def name(self) -> str:
        """What is evaluated, for titles and tables."""

    def motions(self, records: Sequence[FrameRecord]) -> Transforms:
        """T_later_earlier [N - 1, 4, 4] of N consecutive frames, float64, up to scale."""


class CheckpointMotion:
    """The pose network of a checkpoint, at the input size of its training.

    Raises:
        CheckpointError: the file is missing, damaged, or has no pose network.
    """

    def __init__(self, path: Path, batch: int = 8, device: str = "auto") -> None:
        trained = load_pose_network(path)
        self.name = f"{path.name} (step {trained.steps})"
        self._size = trained.width, trained.height
        self._batch = batch
        self._device = torch.device(default_device() if device == "auto" else device)
        self._network = trained.network.to(self._device)

    @torch.inference_mode()
    def motions(self, records: Sequence[FrameRecord]) -> Transforms:
        """T_later_earlier [N - 1, 4, 4]; each image is read once, or twice where a batch ends."""
        motions = []
        for start in range(0, len(records) - 1, self._batch):
            images = network_images(records[start : start + self._batch + 1], *self._size).to(self._device)
            axis_angle, shift = self._network(images[:-1], images[1:])
            motions.append(rigid_transform(so3_exp(axis_angle.double()), shift.double()).cpu().numpy())
        return np.concatenate(motions)


def network_images(records: Sequence[FrameRecord], width: int, height: int) -> Tensor:
    """The records' images at a network's input size: float [N, 3, height, width], RGB in 0..1."""
    images = np.empty((len(records), height, width, 3), np.uint8)
    for record, target in zip(records, images, strict=True):
        resize_image(read_rgb(record.image), target)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0


class StraightMotion:
    """One metre straight ahead from each frame to the next: what a car mostly does."""

    name = "straight ahead"

    def motions(self, records: Sequence[FrameRecord]) -> Transforms:
        """The same motion N - 1 times."""
        return np.repeat(translation(0, 0, -1)[None], len(records) - 1, axis=0)
