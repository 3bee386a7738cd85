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
from training.losses.coherence import coherent_disparity
from training.losses.consistency import geometry_consistency
from training.losses.masks import best_source, mean_source, outlier_mask
from training.losses.options import SelfSupervisedLosses
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

    photometric, smoothness, consistency, velocity: scalars, the weighted terms of the loss; None where there is none.
    finest: the maps of the finest scale.
    """

    photometric: Tensor
    smoothness: Tensor
    finest: Reprojection
    consistency: Tensor | None = None
    velocity: Tensor | None = None

    @property
    def terms(self) -> dict[str, Tensor]:
        """The terms that there are, by name."""
        named = {name: getattr(self, name) for name in ("photometric", "smoothness", "consistency", "velocity")}
        return {name: value for name, value in named.items() if value is not None}


def photometric_reprojection_loss(
    disparities: Sequence[Tensor],
    image: Tensor,
    sources: Tensor,
    intrinsics: Tensor,
    T_source_target: Tensor,
    *,
    min_depth: float,
    max_depth: float,
    options: SelfSupervisedLosses,
    source_disparities: Tensor | None = None,
    instances: Tensor | None = None,
) -> tuple[Tensor, ReprojectionDiagnostics]:
    """Multi-scale photometric loss with edge-aware smoothness and geometry consistency: a scalar, and what to log.

    Computed in the dtype of `image`, float32, even where a network gave bfloat16: pixel coordinates need it.

    Args:
        disparities: sigmoids in (0, 1), float [B, 1, H/2^s, W/2^s], finest first.
        image: target, float [B, 3, H, W], RGB in 0..1.
        sources: float [B, N, 3, H, W], N at least 1.
        intrinsics: float [B, 4], normalised.
        T_source_target: float [B, N, 4, 4].
        min_depth: metres, depth at disparity 1.
        max_depth: metres, depth at disparity 0.
        options: which terms there are, and how they are combined.
        source_disparities: sigmoids of the sources, float [B, N, 1, H, W], for `options.consistency`.
        instances: uint8 [B, 1, H, W], 0 for none, for `options.instances`; without it, no disparity is changed.
    """
    disparities = [disparity.to(image.dtype) for disparity in disparities]
    numbers = None if options.instances is None else instances
    depths = [
        disparity_to_depth(_coherent(stack, numbers), min_depth, max_depth)
        for stack in _stacked(disparities, image.shape[-2:], options.full_resolution)
    ]
    consistency = weights = None
    if options.consistency is not None and source_disparities is not None:
        source_depth = disparity_to_depth(source_disparities.to(image.dtype), min_depth, max_depth)
        disagreement, agreement = geometry_consistency(depths[0][:, 0], source_depth, intrinsics, T_source_target)
        consistency = options.consistency.weight * disagreement
        weights = agreement if options.consistency.mask else None
    scored = [_photometric(depth, image, sources, intrinsics, T_source_target, weights, options) for depth in depths]
    errors = torch.cat([scale_errors for scale_errors, _ in scored])
    photometric = (errors * errors.new_tensor([options.scale_decay**s for s in range(len(errors))])).mean()
    smooth = options.smoothness * _roughness(disparities, image, numbers, options)
    loss = photometric + smooth if consistency is None else photometric + smooth + consistency
    logged = None if consistency is None else consistency.detach()
    return loss, ReprojectionDiagnostics(photometric.detach(), smooth.detach(), scored[0][1], logged)


def _photometric(
    depth: Tensor,
    image: Tensor,
    sources: Tensor,
    intrinsics: Tensor,
    T_source_target: Tensor,
    weights: Tensor | None,
    options: SelfSupervisedLosses,
) -> tuple[Tensor, Reprojection]:
    """Photometric loss [S] of depth [B, S, 1, h, w] of S scales of one size; and the maps of the first.

    weights: float [B, N, 1, H, W], how much each source's error counts; None for all alike.
    """
    size = depth.shape[-2:]
    image, sources = _shrunk(image, size), _shrunk(sources, size)
    # All scales at once, [B, S, N, ...]: a quarter of the operations, and the target's statistics but once.
    warped, visible = warp(
        sources.unsqueeze(1), depth.unsqueeze(2), intrinsics[:, None, None], T_source_target.unsqueeze(1)
    )
    errors = photometric_error(warped, image[:, None, None])
    unwarped = photometric_error(sources, image.unsqueeze(1)).unsqueeze(1)
    seen = visible if options.boundary_mask else torch.ones_like(visible)
    error, mask, weight = _chosen(errors, seen, unwarped, weights, options)
    identity = _combined(unwarped, options.minimum_reprojection)
    if options.automask:
        # Noise decides between equal errors, as where nothing moves and nothing has texture.
        mask = mask & (error < identity + TIE_BREAK_NOISE * torch.randn_like(error))
    finest = Reprojection(*(maps[:, 0].detach() for maps in (depth, warped, error, mask)))
    each_scale = (0, 2, 3, 4)
    taught = torch.where(mask, error if weight is None else weight * error, 0.0)
    if options.mean_over == "trained":
        return taught.sum(each_scale) / mask.sum(each_scale).clamp(min=1), finest
    # A pixel that does not train enters the loss with its identity error, a constant.
    return torch.where(mask, taught, identity).mean(each_scale), finest


def _chosen(
    errors: Tensor, seen: Tensor, unwarped: Tensor, weights: Tensor | None, options: SelfSupervisedLosses
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Error, mask and weight [B, S, 1, h, w] of the source that counts, or the means of all.

    errors, seen: [B, S, N, 1, h, w]; unwarped: [B, 1, N, 1, h, w].
    """
    taught = seen
    if options.outlier_mask is not None:
        taught = taught & outlier_mask(errors, seen, options.outlier_mask.lower, options.outlier_mask.upper)
    if options.static_mask:
        taught = taught & (errors < unwarped)
    maps = [] if weights is None else [_shrunk(weights, errors.shape[-2:]).unsqueeze(1)]
    if not options.minimum_reprojection:
        error, *weight = mean_source(errors, taught, *maps)
        return error, error.isfinite(), weight[0] if weight else None
    error, mask, *weight = best_source(errors.masked_fill(~seen, torch.inf), taught, *maps)
    return error, mask, weight[0] if weight else None


def _combined(errors: Tensor, minimum: bool) -> Tensor:
    """One error [..., 1, H, W] of errors [..., N, 1, H, W]."""
    return errors.amin(dim=-4) if minimum else errors.mean(dim=-4)


def _stacked(disparities: Sequence[Tensor], size: Sequence[int], full_resolution: bool) -> list[Tensor]:
    """Disparities [B, S, 1, h, w], those of one size together: all enlarged to `size`, or each at its own."""
    if not full_resolution:
        return [disparity.unsqueeze(1) for disparity in disparities]
    enlarged = [F.interpolate(d, tuple(size), mode="bilinear", align_corners=False) for d in disparities]
    return [torch.stack(enlarged, dim=1)]


def _coherent(stack: Tensor, instances: Tensor | None) -> Tensor:
    """Disparity [B, S, 1, h, w] made coherent inside of instances [B, 1, H, W]."""
    if instances is None:
        return stack
    scales, height, width = stack.shape[1], *stack.shape[-2:]
    numbers = instances[..., :: instances.shape[-2] // height, :: instances.shape[-1] // width]
    repeated = numbers.unsqueeze(1).expand(-1, scales, -1, -1, -1)
    return coherent_disparity(stack.flatten(0, 1), repeated.flatten(0, 1)).unflatten(0, stack.shape[:2])


def _roughness(
    disparities: Sequence[Tensor], image: Tensor, instances: Tensor | None, options: SelfSupervisedLosses
) -> Tensor:
    """Edge-aware smoothness, halved from scale to scale, averaged."""
    if options.instances is not None and options.instances.smoothness:
        disparities = [_coherent(d.unsqueeze(1), instances).squeeze(1) for d in disparities]
    roughness = [edge_aware_smoothness(d, _shrunk(image, d.shape[-2:])) / 2**s for s, d in enumerate(disparities)]
    return torch.stack(roughness).mean()


def _shrunk(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [..., C, H, W] at a smaller size, by the mean over each pixel's area."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps.flatten(0, -4), tuple(size), mode="area").unflatten(0, maps.shape[:-3])
