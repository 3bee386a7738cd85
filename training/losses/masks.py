"""Which pixels a photometric error may teach, and how much; pure functions of error maps."""

from __future__ import annotations

import torch
from torch import Tensor


def outlier_mask(errors: Tensor, visible: Tensor, lower: float, upper: float) -> Tensor:
    """Errors that are no outliers: mean - lower sigma < error < mean + upper sigma; bool, as `errors`.

    Mean and standard deviation are those of all sources' visible errors of one depth map.
    Source: Jiang et al., DiPE, IROS 2020, section III-B; theirs counts pixels that no source sees, too.

    Args:
        errors: float [..., N, 1, H, W], of N sources.
        visible: bool, the same shape: where a source sees the pixel.
        lower: standard deviations.
        upper: standard deviations.
    """
    over = (-4, -3, -2, -1)
    count = visible.sum(over, keepdim=True).clamp(min=1)
    seen = errors.detach().where(visible, 0.0)
    mean = seen.sum(over, keepdim=True) / count
    variance = (seen - mean).square().where(visible, 0.0).sum(over, keepdim=True) / count
    sigma = variance.sqrt()
    return visible & (errors > mean - lower * sigma) & (errors < mean + upper * sigma)


def best_source(errors: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
    """The least of errors [..., N, 1, H, W] per pixel, [..., 1, H, W], and the same source's value in other maps.

    maps: shapes that broadcast to that of `errors`.
    """
    least, which = errors.min(dim=-4, keepdim=True)
    chosen = (torch.take_along_dim(m.expand_as(errors), which, dim=-4).squeeze(-4) for m in maps)
    return least.squeeze(-4), *chosen


def mean_source(errors: Tensor, counted: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
    """Mean of errors [..., N, 1, H, W] over the sources that count, [..., 1, H, W]; infinite where none does.

    Args:
        counted: bool, as `errors`.
        maps: further values, shapes that broadcast to that of `errors`; their means over the same sources, 0 where
            none counts.
    """
    count = counted.sum(dim=-4)

    def mean(values: Tensor) -> Tensor:
        return values.where(counted, 0.0).sum(dim=-4) / count.clamp(min=1)

    return mean(errors).where(count > 0, torch.inf), *(mean(m.expand_as(errors)) for m in maps)
