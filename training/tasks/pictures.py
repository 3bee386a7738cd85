"""Pictures of a training step."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.losses.reprojection import Reprojection


def reprojection_panel(image: Tensor, reprojection: Reprojection) -> NDArray[np.uint8]:
    """The first sample of a batch, top to bottom: image, inverse depth, each warped source, error, mask.

    image: float [B, 3, H, W], RGB in 0..1. Returns uint8 [3, rows * H, W], RGB.
    """
    inverse_depth = 1 / reprojection.depth[0, 0]
    rows = [
        image[0],
        colored(inverse_depth / inverse_depth.quantile(0.95)),
        *reprojection.warped[0],
        colored(reprojection.error[0, 0] / 0.5),
        reprojection.mask[0].float().expand_as(image[0]),
    ]
    panel = torch.cat([row.cpu() for row in rows], dim=1).clamp(0, 1)
    return (panel.numpy() * 255).round().astype(np.uint8)


def colored(values: Tensor) -> Tensor:
    """Colours float [3, H, W], RGB in 0..1, of values [H, W]: 0 is black, 1 and more are bright."""
    levels = (values.clamp(0, 1) * 255).round().byte().cpu().numpy()
    bgr = cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)
    return torch.from_numpy(bgr[..., ::-1].copy()).movedim(-1, 0) / 255
