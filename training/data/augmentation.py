"""Augmentation of a batch on its device: one draw per sample, so that a target and its sources agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms import v2

from training.data.sample import Batch, Views, clean_views


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each sample, independently.

    Args:
        flip: probability of a horizontal flip (principal point, depth and poses are mirrored with the pixels).
        jitter: probability of a colour change.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation.
        hue: largest change of hue, as a fraction of the colour circle.
        grayscale: probability that the networks see the sample without colour.
    """

    flip: float = 0.5
    jitter: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.0

    def __call__(self, batch: Batch) -> Views:
        """Augmented views; flips change every field, colours only what the networks see."""
        flipped = torch.rand(len(batch.names)) < self.flip
        views = clean_views(_flip(batch, flipped.to(batch.image.device)))
        network_image, network_sources = self._recolor(views.image, views.sources)
        return replace(views, network_image=network_image, network_sources=network_sources)

    def _recolor(self, image: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        jitter = v2.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue)
        gray = v2.RandomGrayscale(self.grayscale)
        frames = torch.cat([image[:, None], sources], dim=1)
        recolored = []
        for sample in frames:  # a torchvision transform draws once per call: once per target and its sources
            seen = jitter(sample) if torch.rand(()) < self.jitter else sample
            recolored.append(gray(seen))
        result = torch.stack(recolored)
        return result[:, 0], result[:, 1:]


def _flip(batch: Batch, flipped: Tensor) -> Batch:
    """Mirror the samples where `flipped` [B] is true.

    Pixel x becomes W - 1 - x, so that (cx + 0.5)/W becomes 1 minus itself.
    """
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, 2] = torch.where(flipped, 1.0 - intrinsics[:, 2], intrinsics[:, 2])
    return replace(
        batch,
        image=_mirror(batch.image, flipped),
        sources=_mirror(batch.sources, flipped),
        intrinsics=intrinsics,
        depth=None if batch.depth is None else _mirror(batch.depth, flipped),
        T_source_target=None if batch.T_source_target is None else _mirror_pose(batch.T_source_target, flipped),
    )


def _mirror(images: Tensor, flipped: Tensor) -> Tensor:
    chosen = flipped.view(-1, *([1] * (images.ndim - 1)))
    return torch.where(chosen, images.flip(-1), images)


def _mirror_pose(T: Tensor, flipped: Tensor) -> Tensor:
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], device=T.device, dtype=T.dtype))
    return torch.where(flipped.view(-1, 1, 1, 1), mirror @ T @ mirror, T)
