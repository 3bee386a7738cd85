"""Self-supervision by reprojection: depth is right where a source frame, warped by it, looks like the target.

Source: Godard et al., Digging into Self-Supervised Monocular Depth Prediction (Monodepth2), ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.geometry.warp import warp
from training.losses.photometric import photometric_error
from training.losses.smoothness import edge_aware_smoothness
from training.networks.depth import disparity_to_depth

TIE_BREAK_NOISE = 1e-5


@dataclass(frozen=True)
class Reprojection:
    """What one depth map explains of its target image.

    depth: [B, 1, H, W] metres. warped: [B, N, 3, H, W], the sources as the target camera would see them.
    error: [B, 1, H, W], infinite where no source sees the pixel. mask: bool [B, 1, H, W], the pixels that train.
    """

    depth: Tensor
    warped: Tensor
    error: Tensor
    mask: Tensor


@dataclass(frozen=True)
class ReprojectionDiagnostics:
    """What to log of a loss over all scales, detached.

    photometric, smoothness: scalars, the two terms of the loss. finest: the maps of the finest scale.
    """

    photometric: Tensor
    smoothness: Tensor
    finest: Reprojection


def photometric_reprojection_loss(
    disparities: Sequence[Tensor],
    image: Tensor,
    sources: Tensor,
    intrinsics: Tensor,
    T_source_target: Tensor,
    *,
    min_depth: float,
    max_depth: float,
    smoothness: float = 1e-3,
    minimum: bool = True,
    automask: bool = True,
) -> tuple[Tensor, ReprojectionDiagnostics]:
    """Full-resolution multi-scale photometric loss with edge-aware smoothness: a scalar, and what to log of it.

    Computed in the dtype of `image`, float32, even where a network gave bfloat16: pixel coordinates need it.

    Args:
        disparities: sigmoids in (0, 1), float [B, 1, H/2^s, W/2^s], finest first; upsampled to H, W before warping.
        image: target, float [B, 3, H, W], RGB in 0..1.
        sources: float [B, N, 3, H, W], N at least 1.
        intrinsics: float [B, 4], normalised.
        T_source_target: float [B, N, 4, 4].
        min_depth: metres, depth at disparity 1.
        max_depth: metres, depth at disparity 0.
        smoothness: weight of the smoothness at the finest scale, halved from scale to scale.
        minimum: per pixel the best source counts; otherwise the mean of the sources.
        automask: pixels which unwarped sources explain better do not train (a still camera, a car at our own speed).
    """
    disparities = [disparity.to(image.dtype) for disparity in disparities]
    full_size = [F.interpolate(d, image.shape[-2:], mode="bilinear", align_corners=False) for d in disparities]
    # All scales at once, [B, S, N, ...]: a quarter of the operations, and the target's statistics but once.
    depth = disparity_to_depth(torch.stack(full_size, dim=1), min_depth, max_depth)
    warped, visible = warp(
        sources.unsqueeze(1), depth.unsqueeze(2), intrinsics[:, None, None], T_source_target.unsqueeze(1)
    )
    errors = photometric_error(warped, image[:, None, None])
    error = _combine(errors.masked_fill(~visible, torch.inf), minimum)
    identity = _combine(photometric_error(sources, image.unsqueeze(1)), minimum).unsqueeze(1)
    # Noise decides between equal errors, as where nothing moves and nothing has texture.
    mask = error < identity + TIE_BREAK_NOISE * torch.randn_like(error) if automask else error.isfinite()
    # A pixel that does not train enters the loss with its identity error, a constant.
    photometric = torch.where(mask, error, identity).mean()
    roughness = [
        edge_aware_smoothness(d, F.interpolate(image, d.shape[-2:], mode="area")) / 2**scale
        for scale, d in enumerate(disparities)
    ]
    smooth = smoothness * torch.stack(roughness).mean()
    finest = Reprojection(*(maps[:, 0].detach() for maps in (depth, warped, error, mask)))
    return photometric + smooth, ReprojectionDiagnostics(photometric.detach(), smooth.detach(), finest)


def _combine(errors: Tensor, minimum: bool) -> Tensor:
    """One error [..., 1, H, W] of errors [..., N, 1, H, W], infinite where a source does not see the pixel."""
    if minimum:
        return errors.amin(dim=-4)
    seen = errors.isfinite()
    total = torch.where(seen, errors, 0.0).sum(dim=-4)
    return torch.where(seen.any(dim=-4), total / seen.sum(dim=-4).clamp(min=1), torch.inf)
