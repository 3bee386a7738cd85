"""Depth error on validation batches, to choose checkpoints by; `evaluate` gives the numbers to report."""

from __future__ import annotations

import lightning as L
import numpy as np
from torch import Tensor

from training.evaluation.metrics import depth_metrics, garg_crop, median_scale
from training.processes import process_count

MAX_DEPTH = 80.0


def log_validation(task: L.LightningModule, name: str, value: Tensor | float, images: int, dataloader_idx: int) -> None:
    """Log a batch's mean over so many images; the curve is the mean over the images of all batches and processes.

    The first loader's curve has the plain name, by which checkpoints are chosen.
    """
    several = dataloader_idx > 0
    # Lightning takes the processes' mean of the number of images for an integer: make it one.
    weight = images * process_count()
    task.log(name, value, batch_size=weight, prog_bar=True, sync_dist=True, add_dataloader_idx=several)


def log_abs_rel(task: L.LightningModule, inverse_depth: Tensor, depth: Tensor, dataloader_idx: int) -> None:
    """Log val/abs_rel of a batch; images without a pixel that counts do not."""
    errors = median_scaled_abs_rel(inverse_depth, depth)
    log_validation(task, "val/abs_rel", float(np.mean(errors)) if errors else 0.0, len(errors), dataloader_idx)


def median_scaled_abs_rel(inverse_depth: Tensor, depth: Tensor) -> list[float]:
    """Mean absolute relative depth error of each image of a batch that has a pixel that counts.

    Each image is scaled by its median; pixels count in Garg's crop, nearer than 80 m.

    Args:
        inverse_depth: float [B, 1, H, W], 1/m or up to scale.
        depth: float [B, 1, H, W], metres, 0 where unknown.
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
    return errors
