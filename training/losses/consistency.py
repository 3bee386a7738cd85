"""Geometry consistency: what is at one depth in one view must be at the depth that another view has there.

Source: Bian et al., Unsupervised Scale-consistent Depth and Ego-motion Learning from Monocular Video, NeurIPS 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.geometry.projection import MIN_Z
from training.geometry.se3 import invert
from training.geometry.warp import reproject, sample


def depth_disagreement(
    depth: Tensor, other_depth: Tensor, intrinsics: Tensor, T_other_this: Tensor
) -> tuple[Tensor, Tensor]:
    """|z - z'| / (z + z') of each pixel, where z is its depth in the other camera's frame and z' the depth there.

    In 0..1; equation 2 of the paper. Leading dimensions broadcast.

    Args:
        depth: float [..., 1, H, W], metres or up to scale.
        other_depth: float [..., 1, H, W], of the other view, in the same unit.
        intrinsics: float [..., 4], normalised, of both cameras.
        T_other_this: float [..., 4, 4].

    Returns:
        The disagreement [..., 1, H, W], and where the other camera sees the pixel, bool, the same shape.
    """
    pixels, z, visible = reproject(depth, intrinsics, T_other_this)
    z, there = z.clamp(min=MIN_Z), sample(other_depth, pixels).clamp(min=MIN_Z)
    return (z - there).abs() / (z + there), visible


def geometry_consistency(
    depth: Tensor, source_depth: Tensor, intrinsics: Tensor, T_source_target: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of the depths of a target and its sources, and the weights for the target's photometric errors.

    Args:
        depth: float [B, 1, H, W], of the target.
        source_depth: float [B, N, 1, H, W].
        intrinsics: float [B, 4], normalised.
        T_source_target: float [B, N, 4, 4].

    Returns:
        The mean disagreement over visible pixels, a scalar, the mean of both directions (equation 3); and one minus
        the target's disagreement with each source, [B, N, 1, H, W], detached (equation 7): a weight that taught the
        network would teach it to disagree.
    """
    target, K = depth.unsqueeze(1), intrinsics.unsqueeze(1)
    forward, seen = depth_disagreement(target, source_depth, K, T_source_target)
    backward, seen_back = depth_disagreement(source_depth, target, K, invert(T_source_target))
    loss = (_mean(forward, seen) + _mean(backward, seen_back)) / 2
    return loss, 1 - forward.detach()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum().clamp(min=1)
