"""Photometric error between images: structural similarity and absolute difference."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SSIM_WEIGHT = 0.85
_C1, _C2 = 0.01**2, 0.03**2


def photometric_error(image: Tensor, target: Tensor) -> Tensor:
    """Per-pixel error [..., 1, H, W] in 0..1 between images [..., C, H, W] in 0..1; leading dimensions broadcast.

    0.85 (1 - SSIM)/2 + 0.15 |image - target|, each averaged over channels.
    Source: Godard et al., Digging into Self-Supervised Monocular Depth Prediction, 2019, equation 2.
    """
    dissimilarity = ((1 - ssim(image, target)) / 2).clamp(0, 1).mean(-3, keepdim=True)
    difference = (image - target).abs().mean(-3, keepdim=True)
    return SSIM_WEIGHT * dissimilarity + (1 - SSIM_WEIGHT) * difference


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity in -1..1, per pixel and channel [..., C, H, W], of images in 0..1.

    Statistics over 3x3 windows of equal weight, the border reflected. Leading dimensions broadcast; the statistics of
    an image are computed once however often it is compared.
    Source: Wang et al., Image Quality Assessment, 2004, equation 13.
    """
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a.square()) - mean_a.square()
    variance_b = _window_mean(b.square()) - mean_b.square()
    covariance = _window_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    return luminance * structure


def _window_mean(image: Tensor) -> Tensor:
    """Mean over 3x3 windows of image [..., C, H, W], the border reflected."""
    flat = image.reshape(-1, *image.shape[-3:])
    return F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="reflect"), kernel_size=3, stride=1).view_as(image)
