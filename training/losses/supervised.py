"""Losses against known depth. All compare logarithms: a metre at 5 m and ten metres at 50 m weigh the same.

They are means over what is known in the batch. Where several processes train together, `average` makes of the number
of known pixels the mean over the processes, so that the mean of the processes' gradients is the joined batch's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Average = Callable[[Tensor], Tensor]


def alone(count: Tensor) -> Tensor:
    """The count itself: one process trains."""
    return count


def log_residual(inverse_depth: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithmic depth error and where it is defined.

    Args:
        inverse_depth: float [B, 1, H, W], 1/m, positive.
        depth: float [B, 1, H, W], metres, 0 where unknown.

    Returns:
        log(predicted depth / depth) [B, 1, H, W], 0 where unknown, and the mask of known depth (bool, same shape).
    """
    known = depth > 0
    residual = -torch.log(inverse_depth.float()) - torch.log(torch.where(known, depth, 1.0))
    return torch.where(known, residual, 0.0), known


def log_l1(residual: Tensor, known: Tensor, limit: float = 0.5, average: Average = alone) -> Tensor:
    """Mean absolute residual over known pixels; each counts at most `limit`, so that wrong labels do not pull."""
    return (residual.abs().clamp(max=limit) * known).sum() / average(known.sum()).clamp(min=1)


def scale_invariant(residual: Tensor, known: Tensor, variance_focus: float = 0.85, average: Average = alone) -> Tensor:
    """Root of mean(r^2) - focus mean(r)^2 per image, averaged over images (Eigen et al. 2014; Lee et al. 2019)."""
    count = known.flatten(1).sum(1)
    mean = residual.flatten(1).sum(1) / count.clamp(min=1)
    square = residual.square().flatten(1).sum(1) / count.clamp(min=1)
    per_image = torch.sqrt((square - variance_focus * mean.square()).clamp(min=1e-8))
    return (per_image * (count > 0)).sum() / average((count > 0).sum()).clamp(min=1)


def gradient_matching(residual: Tensor, known: Tensor, scales: int = 4, average: Average = alone) -> Tensor:
    """Mean absolute gradient of the residual over a pyramid: edges where the truth has edges (Ranftl et al. 2020)."""
    sums: list[Tensor] = []
    counts: list[Tensor] = []
    for scale in range(scales):
        r, k = residual[..., :: 2**scale, :: 2**scale], known[..., :: 2**scale, :: 2**scale]
        for dim in (-1, -2):
            both = k.narrow(dim, 1, k.shape[dim] - 1) & k.narrow(dim, 0, k.shape[dim] - 1)
            step = r.diff(dim=dim).abs().clamp(max=1.0)
            sums.append((step * both).sum())
            counts.append(both.sum())
    return (torch.stack(sums) / average(torch.stack(counts)).clamp(min=1)).sum() / scales


def to_canonical_focal(depth: Tensor, intrinsics: Tensor, focal: float) -> Tensor:
    """Depth that shows the same image to a camera with normalised focal length `focal` (Yin et al., Metric3D, 2023).

    A zoomed image shows a nearer world: what is at depth z in a camera with fx/W looks as at z focal / (fx/W).

    Args:
        depth: float [B, 1, H, W], metres.
        intrinsics: float [B, 4], normalised.
        focal: fx/W of the canonical camera.
    """
    return depth * (focal / intrinsics[:, 0]).view(-1, 1, 1, 1)


def upsample(disparity: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear enlargement of a disparity map to [H, W] = size."""
    if disparity.shape[-2:] == size:
        return disparity
    return F.interpolate(disparity, size, mode="bilinear", align_corners=False)
