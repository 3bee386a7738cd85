"""Colour changes of a whole batch at once, each sample with its own factors and its own order of operations.

The operations are torchvision's (brightness, contrast, saturation: a blend with black, with the mean grey, with grey;
hue: a turn in HSV), the orders those of its `ColorJitter`. Tensors only, no loop over samples, nothing read back from
the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


@dataclass(frozen=True)
class ColorChange:
    """What happens to the colours of each of B samples.

    factors: float32 [B, 4]: brightness, contrast and saturation (1: unchanged), and the turn of the hue as a fraction
        of the colour circle (0: unchanged).
    order: int64 [B, 4], a permutation of BRIGHTNESS, CONTRAST, SATURATION and HUE a row: what comes first.
    """

    factors: Tensor
    order: Tensor

    def to(self, device: torch.device) -> ColorChange:
        """The same change on another device."""
        return ColorChange(self.factors.to(device, non_blocking=True), self.order.to(device, non_blocking=True))


def change_colors(images: Tensor, change: ColorChange) -> Tensor:
    """Images [B, N, 3, H, W], float RGB in 0..1, with the colours of each sample's N images changed alike.

    Contrast is about each image's own mean, as in torchvision. Whatever the orders, the hue of all samples turns in one
    pass: three blends come before it and three after it, of which a sample takes those that its order says.
    """
    place_of_hue = (change.order == HUE).int().argmax(1, keepdim=True)
    images = images.clone()
    for half in ("before", "after"):
        for place in range(3):
            # Without the hue, the order has three places; the first `place_of_hue` of them come before it.
            operation = change.order.gather(1, place + (place >= place_of_hue).long())
            active = (place < place_of_hue) if half == "before" else (place >= place_of_hue)
            _blend_(images, operation, change.factors.gather(1, operation).where(active, 1.0))
        if half == "before":
            images = turn_hue(images, change.factors[:, HUE].view(-1, 1, 1, 1))
    return images


def grayscale(images: Tensor) -> Tensor:
    """Luma [..., 1, H, W] of RGB [..., 3, H, W]."""
    red, green, blue = images.unbind(-3)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(-3)


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """RGB in 0..1, float [..., 3, H, W], the hue turned by a fraction of the circle that broadcasts to [..., H, W].

    HSV by Smith, Color Gamut Transform Pairs, 1978; back from it by the form of it that needs no cases.
    """
    red, green, blue = images.unbind(-3)
    value, chroma = images.amax(-3), images.amax(-3) - images.amin(-3)
    colored = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red,
        (green - blue) / colored,
        torch.where(value == green, 2 + (blue - red) / colored, 4 + (red - green) / colored),
    )
    sixths = sixths + 6 * turn
    channels = [((offset + sixths) % 6) for offset in (5, 3, 1)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels], dim=-3)


def _blend_(images: Tensor, operation: Tensor, factor: Tensor) -> None:
    """Brightness, contrast or saturation in place, by operation [B, 1] of each sample and its factor [B, 1]."""
    per_sample = (-1, 1, 1, 1, 1)
    gray = grayscale(images)
    mean = gray.mean((-3, -2, -1), keepdim=True)
    other = gray.mul_((operation == SATURATION).view(per_sample)).add_(mean * (operation == CONTRAST).view(per_sample))
    torch.lerp(other.expand_as(images), images, factor.view(per_sample), out=images).clamp_(0, 1)
