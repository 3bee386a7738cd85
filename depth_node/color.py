"""Depth as a colour picture on a fixed scale: the same depth has the same colour in every frame."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.errors import DepthNodeError

COLORMAPS = {
    "turbo": cv2.COLORMAP_TURBO,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "magma": cv2.COLORMAP_MAGMA,
    "inferno": cv2.COLORMAP_INFERNO,
    "plasma": cv2.COLORMAP_PLASMA,
    "bone": cv2.COLORMAP_BONE,
}

_INVALID, _FARTHEST, _NEAREST = 0, 1, 255  # rows of the lookup table


def colorize(
    depth: NDArray[np.float32], min_depth: float, max_depth: float, colormap: str = "turbo"
) -> NDArray[np.uint8]:
    """RGB picture uint8 [H, W, 3] of depth float32 [H, W] in metres; NaN is black.

    The scale is logarithmic, from the map's first colour at `max_depth` and beyond to its last at `min_depth` and
    nearer: a tenth more depth is the same step of colour on the bonnet and down the road.

    Raises:
        DepthNodeError: the colour map is unknown, or not 0 < min_depth < max_depth.
    """
    if not 0 < min_depth < max_depth:
        raise DepthNodeError(f"colour scale from {min_depth} m to {max_depth} m; expected 0 < min_depth < max_depth")
    gain = (_NEAREST - _FARTHEST) / np.log(max_depth / min_depth)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.log(depth)
    index *= np.float32(-gain)
    index += np.float32(_FARTHEST + gain * np.log(max_depth))
    np.clip(index, _FARTHEST, _NEAREST, out=index)  # keeps NaN, which rounds to _INVALID
    picture: NDArray[np.uint8] = cv2.applyColorMap(cv2.convertScaleAbs(index), _lookup_table(colormap))  # type: ignore[assignment]
    return picture


@lru_cache
def _lookup_table(colormap: str) -> NDArray[np.uint8]:
    """uint8 [256, 1, 3]: black, then the colours of the map from far to near, RGB."""
    if colormap not in COLORMAPS:
        raise DepthNodeError(f"colour map '{colormap}' is unknown; expected one of: {', '.join(COLORMAPS)}")
    steps = np.linspace(0, 255, _NEAREST - _FARTHEST + 1).round().astype(np.uint8)[:, None]
    colors = cv2.cvtColor(cv2.applyColorMap(steps, COLORMAPS[colormap]), cv2.COLOR_BGR2RGB)
    return np.concatenate([np.zeros((1, 1, 3), np.uint8), colors])
