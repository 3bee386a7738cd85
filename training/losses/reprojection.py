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

    loss: scalar. depth: [B, 1, H, W] metres. warped: [B, N, 3, H, W], the sources as the target camera would see them.
    error: [B, 1, H, W], infinite where no source sees the pixel. mask: bool [B, 1, H, W], the pixels that train.
    """

    loss: Tensor
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
    identity = _combine(photometric_error(sources, image.unsqueeze(1)), minimum)
    scales: list[Reprojection] = []
    roughness: list[Tensor] = []
    for scale, disparity in enumerate(d.to(image.dtype) for d in disparities):
        full_size = F.interpolate(disparity, image.shape[-2:], mode="bilinear", align_corners=False)
        depth = disparity_to_depth(full_size, min_depth, max_depth)
        scales.append(reproject(depth, image, sources, intrinsics, T_source_target, identity, minimum, automask))
        resized_image = F.interpolate(image, disparity.shape[-2:], mode="area")
        roughness.append(smoothness / 2**scale * edge_aware_smoothness(disparity, resized_image))
    photometric = torch.stack([s.loss for s in scales]).mean()
    smooth = torch.stack(roughness).mean()
    return photometric + smooth, ReprojectionDiagnostics(photometric.detach(), smooth.detach(), _detached(scales[0]))


def reproject(
    depth: Tensor,
    image: Tensor,
    sources: Tensor,
    intrinsics: Tensor,
    T_source_target: Tensor,
    identity: Tensor,
    minimum: bool,
    automask: bool,
) -> Reprojection:
    """Photometric error of the sources warped by depth [B, 1, H, W]; identity [B, 1, H, W] is that without warping.

    A pixel that no source sees, or that the auto-mask takes out, enters the loss with its identity error, a constant.
    """
    warped, visible = warp(sources, depth.unsqueeze(1), intrinsics.unsqueeze(1), T_source_target)
    errors = photometric_error(warped, image.unsqueeze(1))
    error = _combine(errors.masked_fill(~visible, torch.inf), minimum)
    # Noise decides between equal errors, as where nothing moves and nothing has texture.
    noisy = identity + TIE_BREAK_NOISE * torch.randn_like(identity)
    mask = error < noisy if automask else error.isfinite()
    return Reprojection(torch.where(mask, error, identity).mean(), depth, warped, error, mask)


def _combine(errors: Tensor, minimum: bool) -> Tensor:
    """One error [B, 1, H, W] of errors [B, N, 1, H, W], infinite where a source does not see the pixel."""
    if minimum:
        return errors.amin(dim=1)
    seen = errors.isfinite()
    total = torch.where(seen, errors, 0.0).sum(dim=1)
    return torch.where(seen.any(dim=1), total / seen.sum(dim=1).clamp(min=1), torch.inf)


def _detached(r: Reprojection) -> Reprojection:
    return Reprojection(r.loss.detach(), r.depth.detach(), r.warped.detach(), r.error.detach(), r.mask)
