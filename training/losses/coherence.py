"""Instances stand upright: all of one has the disparity of the place where it stands.

Source: Niklaus et al., 3D Ken Burns Effect from a Single Image, ACM Transactions on Graphics 2019, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LOWER_END = 0.97
"""Share of an instance's height below which its lower end begins."""

MOST_INSTANCES = 256
"""Numbers that a mask of uint8 tells apart, that of no instance included."""

_EROSION = 5  # pixels: the mask's border mixes the instance with what is behind it


def coherent_disparity(disparity: Tensor, instances: Tensor) -> Tensor:
    """Disparity [B, 1, H, W] with one value for each instance: the largest at its lower end, inside of its border.

    The lower end is the last 3 % of the rows of the mask less two pixels all round, and the disparity there the least
    of its 5x5 neighbourhood. An instance too small to have an inside keeps the disparities that it has. Gradients
    reach the pixel whose disparity was taken.

    Args:
        disparity: float [B, 1, H, W], positive.
        instances: uint8 [B, 1, H, W], 0 for none, else the number of the instance in its image.
    """
    batch, height = disparity.shape[0], disparity.shape[-2]
    labels = instances.long()
    # Instances of all images, numbered through, so that one scatter serves them all.
    number = (labels + MOST_INSTANCES * torch.arange(batch, device=labels.device).view(-1, 1, 1, 1)).flatten()
    inside = (labels > 0) & _is_uniform(labels)
    row = torch.arange(height, device=labels.device).view(1, 1, -1, 1).expand_as(labels)

    def per_instance(values: Tensor, where: Tensor, reduce: str, start: float) -> Tensor:
        table = values.new_full((batch * MOST_INSTANCES,), start)
        return table.scatter_reduce(0, number, values.where(where, start).flatten(), reduce)

    top = per_instance(row, inside, "amin", height)
    bottom = per_instance(row, inside, "amax", -1)
    lower_end = (top + LOWER_END * (bottom - top)).round()
    stands = inside & (row >= lower_end[number].view_as(labels))
    eroded = -F.max_pool2d(-disparity, _EROSION, stride=1, padding=_EROSION // 2)
    value = per_instance(eroded, stands, "amax", 0.0)[number].view_as(disparity)
    return torch.where((labels > 0) & (value > 0), value, disparity)


def _is_uniform(labels: Tensor) -> Tensor:
    """Where the whole neighbourhood inside of the image has the pixel's own label."""
    values = labels.float()
    largest, least = (sign * F.max_pool2d(sign * values, _EROSION, stride=1, padding=_EROSION // 2) for sign in (1, -1))
    return (largest == values) & (least == values)
