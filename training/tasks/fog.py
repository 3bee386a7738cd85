"""Fog by depth in a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from training.data.depth_fog import DepthFog, add_fog
from training.data.sample import Views


def in_depth_fog(views: Views, fog: DepthFog, inverse_depth: Callable[[Tensor], Tensor]) -> Views:
    """Views whose networks see some of the samples in fog, target and sources in the same one.

    inverse_depth: 1/m or up to scale, [K, 1, H, W], of images [K, 3, H, W]: what the depth network says of them under a
    clear sky. No gradient flows through it.
    """
    draw = fog.draw(len(views.image))
    chosen = draw.foggy.nonzero()[:, 0]
    if not len(chosen):
        return views
    device = views.image.device
    thickness, airlight = (values[chosen].to(device, non_blocking=True) for values in (draw.thickness, draw.airlight))
    chosen = chosen.to(device, non_blocking=True)
    clean = torch.cat([views.image[chosen, None], views.sources[chosen]], dim=1)
    with torch.no_grad():
        depth = 1 / inverse_depth(clean.flatten(0, 1)).unflatten(0, clean.shape[:2])
    extinction = thickness / depth.flatten(1).median(dim=1).values
    per_sample = (-1, 1, 1, 1, 1)
    frames = torch.cat([views.network_image[:, None], views.network_sources], dim=1)
    frames[chosen] = add_fog(frames[chosen], depth, extinction.view(per_sample), airlight.view(per_sample))
    return replace(views, network_image=frames[:, 0], network_sources=frames[:, 1:])
