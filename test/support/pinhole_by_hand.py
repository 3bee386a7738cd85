"""A pinhole camera with radial distortion, written point by point: independent truth for adjustments of intrinsics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.projection import PixelCamera

Array = NDArray[np.float64]

WIDTH, HEIGHT = 640, 240
INTRINSICS = (0.7, 0.7 * WIDTH / HEIGHT, 0.51, 0.48)


def seen_by_hand(pixels: Array, inverse_depth: Array, change: Array, rotations: Array, translations: Array) -> Array:
    """[M, 2, N] of INTRINSICS changed by [5], lens distortion and its inverse included."""
    camera = PixelCamera.of(INTRINSICS, change, WIDTH, HEIGHT)
    seen = np.empty((len(rotations), 2, pixels.shape[1]))
    for n, (x, y) in enumerate(pixels.T):
        bent = np.array([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy])
        straight = bent.copy()
        for _ in range(50):
            straight = bent / (1 + camera.k * (straight @ straight))
        for m, (rotation, translation) in enumerate(zip(rotations, translations, strict=True)):
            point = rotation @ np.append(straight, 1.0) + inverse_depth[n] * translation
            plane = point[:2] / point[2]
            plane = plane * (1 + camera.k * (plane @ plane))
            seen[m, :, n] = camera.fx * plane[0] + camera.cx, camera.fy * plane[1] + camera.cy
    return seen
