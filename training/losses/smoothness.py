"""Edge-aware smoothness of disparity."""

from __future__ import annotations

from torch import Tensor


def edge_aware_smoothness(disparity: Tensor, image: Tensor) -> Tensor:
    """Mean gradient of the mean-normalised disparity, damped where the image has edges; a scalar.

    disparity: float [B, 1, H, W], positive; image: float [B, C, H, W] in 0..1. Dividing by the mean of each map keeps
    the loss from shrinking the disparity as a whole (Wang et al., CVPR 2018).
    Source: Godard et al., Digging into Self-Supervised Monocular Depth Prediction, 2019, equation 3.
    """
    normalized = disparity / disparity.mean((-2, -1), keepdim=True).clamp(min=1e-7)
    return _damped_gradient(normalized, image, -1) + _damped_gradient(normalized, image, -2)


def _damped_gradient(disparity: Tensor, image: Tensor, dim: int) -> Tensor:
    edges = image.diff(dim=dim).abs().mean(-3, keepdim=True)
    return (disparity.diff(dim=dim).abs() * (-edges).exp()).mean()
