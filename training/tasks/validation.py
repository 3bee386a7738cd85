"""Depth error on validation batches, to choose checkpoints by; `evaluate` gives the numbers to report."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from training.evaluation.metrics import depth_metrics, garg_crop, median_scale

MAX_DEPTH = 80.0


def median_scaled_abs_rel(inverse_depth: Tensor, depth: Tensor) -> float:
    """Mean absolute relative depth error of a batch, each image scaled by its median; Garg crop, nearer than 80 m.

    Args:
        inverse_depth: float [B, 1, H, W], 1/m or up to scale.
        depth: float [B, 1, H, W], metres, 0 where unknown.

    Returns:
        The mean over the images with a pixel that counts; NaN where no image has one.
    """
    truths = depth.cpu().double().numpy()
    predictions = 1.0 / inverse_depth.detach().cpu().double().numpy()
    crop = garg_crop(*truths.shape[-2:])
    errors = []
    for prediction, truth in zip(predictions[:, 0], truths[:, 0], strict=True):
        counted = crop & (truth > 1e-3) & (truth < MAX_DEPTH)
        if counted.any():
            p, t = prediction[counted], truth[counted]
            errors.append(depth_metrics((p * median_scale(p, t)).clip(1e-3, MAX_DEPTH), t).abs_rel)
    return float(np.mean(errors)) if errors else float("nan")
