"""All that a recipe compares predicted with known depth by."""

from __future__ import annotations

from torch import Tensor

from training.losses.inverse_depth import inverse_dissimilarity, inverse_gradient, inverse_l1, inverse_target
from training.losses.options import SupervisedLosses
from training.losses.supervised import (
    Average,
    alone,
    gradient_matching,
    log_l1,
    log_residual,
    scale_invariant,
    upsample,
)


def supervised_terms(
    inverse_depth: Tensor,
    depth: Tensor,
    options: SupervisedLosses,
    *,
    min_depth: float,
    max_depth: float,
    average: Average = alone,
) -> dict[str, Tensor]:
    """Weighted terms of the loss by name, those whose weight is not 0; the loss is their sum.

    Logarithms are compared at the truth's resolution, inverse depth at the prediction's.

    Args:
        inverse_depth: float [B, 1, h, w], 1/m, positive.
        depth: float [B, 1, H, W], metres, 0 where unknown; h and w are H and W, or a whole part of them.
        options: weights.
        min_depth: metres, nearest prediction.
        max_depth: metres, farthest prediction.
        average: of the number of known pixels, over all processes.
    """
    terms: dict[str, Tensor] = {}
    if options.log_l1 or options.scale_invariant or options.gradient:
        height, width = depth.shape[-2:]
        residual, known = log_residual(upsample(inverse_depth, (height, width)), depth)
        if options.log_l1:
            terms["log_l1"] = options.log_l1 * log_l1(residual, known, average=average)
        if options.scale_invariant:
            terms["scale_invariant"] = options.scale_invariant * scale_invariant(residual, known, average=average)
        if options.gradient:
            terms["gradient"] = options.gradient * gradient_matching(residual, known, average=average)
    if options.inverse_l1 or options.inverse_gradient or options.inverse_dissimilarity:
        rows, columns = inverse_depth.shape[-2:]
        target, known = inverse_target(depth, min_depth, max_depth, (rows, columns))
        maps = (max_depth * inverse_depth, target, known)
        if options.inverse_l1:
            terms["inverse_l1"] = options.inverse_l1 * inverse_l1(*maps, average=average)
        if options.inverse_gradient:
            terms["inverse_gradient"] = options.inverse_gradient * inverse_gradient(*maps, average=average)
        if options.inverse_dissimilarity:
            dissimilarity = inverse_dissimilarity(*maps, max_depth / min_depth, average=average)
            terms["inverse_dissimilarity"] = options.inverse_dissimilarity * dissimilarity
    return terms
