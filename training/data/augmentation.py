"""Augmentation of a batch on its device: one draw per sample, so that a target and its sources agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.data.colors import ColorChange, change_colors, grayscale
from training.data.sample import Batch, Views, clean_views


@dataclass(frozen=True)
class Draws:
    """What was drawn for each of B samples: tensors on the CPU, so that the device has nothing to answer.

    flipped, recolored, gray: bool [B]. colors: what happens to the colours of those that are recoloured.
    channels: int64 [B, 3], which of red, green and blue each channel becomes; (0, 1, 2) where nothing is permuted.
    """

    flipped: Tensor
    recolored: Tensor
    colors: ColorChange
    gray: Tensor
    channels: Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each sample, independently; colours as torchvision's ColorJitter changes them.

    Args:
        flip: probability of a horizontal flip (principal point, depth and poses are mirrored with the pixels).
        jitter: probability of a colour change.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation.
        hue: largest change of hue, as a fraction of the colour circle.
        grayscale: probability that the networks see the sample without colour.
        channel_permutation: probability that red, green and blue change places (0.25 in DenseDepth, Alhashim and
            Wonka, 2018).
    """

    flip: float = 0.5
    jitter: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.0
    channel_permutation: float = 0.0

    def __call__(self, batch: Batch) -> Views:
        """Augmented views; flips change every field, colours only what the networks see.

        Draws from torch's generator of the CPU, whatever the batch's device: one seed means one augmentation.
        """
        draws = self.draw(len(batch.names))
        views = clean_views(_flip(batch, draws.flipped.to(batch.image.device, non_blocking=True)))
        network_image, network_sources = _recolor(views.network_image, views.network_sources, draws)
        return replace(views, network_image=network_image, network_sources=network_sources)

    def draw(self, count: int) -> Draws:
        """Draws for `count` samples, from torch's generator of the CPU."""
        decisions = torch.rand(count, 3) < torch.tensor([self.flip, self.jitter, self.grayscale])
        largest = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue])
        unchanged = torch.tensor([1.0, 1.0, 1.0, 0.0])
        lowest = torch.tensor([0.0, 0.0, 0.0, -1.0])
        factors = torch.maximum(unchanged - largest, lowest)
        factors = factors + (unchanged + largest - factors) * torch.rand(count, 4)
        order = torch.rand(count, 4).argsort(dim=1)
        flipped, recolored, gray = decisions.unbind(1)
        permuted = torch.rand(count, 1) < self.channel_permutation
        channels = torch.where(permuted, torch.rand(count, 3).argsort(dim=1), torch.arange(3))
        return Draws(flipped, recolored, ColorChange(factors, order), gray, channels)


def _recolor(image: Tensor, sources: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Target [B, 3, H, W] and sources [B, N, 3, H, W] in the colours that were drawn; others are left as they are."""
    permuted = (draws.channels != torch.arange(3)).any(dim=1)
    if not (draws.recolored.any() or draws.gray.any() or permuted.any()):
        return image, sources
    device = image.device
    frames = torch.cat([image[:, None], sources], dim=1)
    if draws.recolored.any():
        chosen = draws.recolored.nonzero()[:, 0]
        change = ColorChange(draws.colors.factors[chosen], draws.colors.order[chosen]).to(device)
        chosen = chosen.to(device, non_blocking=True)
        frames[chosen] = change_colors(frames[chosen], change)
    if draws.gray.any():
        gray = draws.gray.to(device, non_blocking=True).view(-1, 1, 1, 1, 1)
        frames = torch.where(gray, grayscale(frames), frames)
    if permuted.any():
        channels = draws.channels.to(device, non_blocking=True).view(-1, 1, 3, 1, 1)
        frames = frames.take_along_dim(channels, dim=2)
    return frames[:, 0], frames[:, 1:]


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
        framing=None if batch.framing is None else batch.framing.mirrored(flipped),
        weathered=None if batch.weathered is None else _mirror(batch.weathered, flipped),
        depth=None if batch.depth is None else _mirror(batch.depth, flipped),
        instances=None if batch.instances is None else _mirror(batch.instances, flipped),
        T_source_target=None if batch.T_source_target is None else _mirror_pose(batch.T_source_target, flipped),
    )


def _mirror(images: Tensor, flipped: Tensor) -> Tensor:
    chosen = flipped.view(-1, *([1] * (images.ndim - 1)))
    return torch.where(chosen, images.flip(-1), images)


def _mirror_pose(T: Tensor, flipped: Tensor) -> Tensor:
    # Elementwise, since a matrix product may run in TensorFloat-32: poses would keep three digits.
    sign = T.new_tensor([-1.0, 1.0, 1.0, 1.0])
    return torch.where(flipped.view(-1, 1, 1, 1), sign[:, None] * T * sign, T)
