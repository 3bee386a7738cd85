"""DenseDepth's losses, of inverse depth times the largest depth: y = max_depth / depth, 1 to max_depth / min_depth.

Source: Alhashim and Wonka, High Quality Monocular Depth Estimation via Transfer Learning, 2018, equations 1 to 4. Depth
may be known in part, as a laser's: all terms are means over what is known.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.supervised import Average, alone

_WINDOW, _SIGMA = 11, 1.5  # of the Gaussian that structural similarity is computed under (Wang et al., 2004)


def inverse_target(depth: Tensor, min_depth: float, max_depth: float, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """True max_depth / depth at a network's resolution, and where it is known: float and bool [B, 1, *size].

    A pixel that several fall into has their mean.

    Args:
        depth: float [B, 1, H, W], metres, 0 where unknown; nearer and farther than the limits counts as at the limit.
        min_depth: metres.
        max_depth: metres.
        size: rows and columns, H and W divided by one whole number.
    """
    known = (depth > 0).to(depth.dtype)
    inverse = max_depth / depth.clamp(min_depth, max_depth) * known
    share = F.adaptive_avg_pool2d(known, size)
    return F.adaptive_avg_pool2d(inverse, size) / torch.where(share > 0, share, 1.0), share > 0


def inverse_l1(prediction: Tensor, target: Tensor, known: Tensor, average: Average = alone) -> Tensor:
    """Mean absolute difference over known pixels, a scalar; all [B, 1, h, w]."""
    error = (prediction - target).abs().where(known, 0.0)
    return error.sum() / average(known.sum()).clamp(min=1)


def inverse_gradient(prediction: Tensor, target: Tensor, known: Tensor, average: Average = alone) -> Tensor:
    """Mean absolute difference of horizontal and of vertical gradients, their sum; between pairs of known pixels."""
    terms = []
    for dim in (-1, -2):
        both = known.narrow(dim, 1, known.shape[dim] - 1) & known.narrow(dim, 0, known.shape[dim] - 1)
        step = (prediction - target).diff(dim=dim).abs().where(both, 0.0)
        terms.append(step.sum() / average(both.sum()).clamp(min=1))
    return torch.stack(terms).sum()


def inverse_dissimilarity(
    prediction: Tensor, target: Tensor, known: Tensor, value_range: float, average: Average = alone
) -> Tensor:
    """Mean of (1 - structural similarity) / 2 over windows inside of the maps, a scalar.

    The statistics of a window are those of its known pixels, and it counts by their share of its weight; where all are
    known, this is the usual similarity.

    Args:
        prediction, target: float [B, 1, h, w].
        known: bool, the same shape.
        value_range: largest value less the smallest, which the constants go with.
        average: of the windows, over all processes.
    """
    size = min(_WINDOW, *prediction.shape[-2:])
    offset = torch.arange(size, dtype=prediction.dtype, device=prediction.device) - (size - 1) / 2
    bell = (-offset.square() / (2 * _SIGMA**2)).exp()
    window = torch.outer(bell, bell) / bell.sum() ** 2
    weight = known.to(prediction.dtype)

    def weighted(values: Tensor) -> Tensor:
        return F.conv2d(values * weight, window[None, None])

    coverage = weighted(torch.ones_like(prediction))
    total = coverage.clamp(min=1e-6)
    mean_a, mean_b = weighted(prediction) / total, weighted(target) / total
    variance_a = weighted(prediction.square()) / total - mean_a.square()
    variance_b = weighted(target.square()) / total - mean_b.square()
    covariance = weighted(prediction * target) / total - mean_a * mean_b
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    dissimilarity = ((1 - luminance * structure) / 2).clamp(0, 1)
    return (dissimilarity * coverage).sum() / average(coverage.sum()).clamp(min=1e-6)
