"""Where the patches around points of a reference image are seen in other images, to a few hundredths of a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.projection import Float64

Image = NDArray[np.float32]

_PATCH = np.stack(np.meshgrid(np.arange(-4, 5, 2), np.arange(-4, 5, 2))).reshape(2, -1).astype(np.float32)
_MAX_CORRECTION = 2.0  # pixels; a patch that wants to go farther was on something else
_MIN_CORRELATION = 0.8
_FAINT = np.float32(1e-3)  # contrast, intensities 0 to 1, that is as good as none


def align_patches(
    reference: Image, views: Sequence[Image], pixels: Float64, seen: Float64, warps: Float64, iterations: int = 3
) -> Float64:
    """Positions [M, 2, N] in the views that show the same as the reference at pixels [2, N]; NaN where none does.

    Lucas and Kanade with the reference's gradients (Baker and Matthews, "Lucas-Kanade 20 years on", 2004) on patches of
    9 x 9 pixels, warped by warps [M, 2, 2, N] and compared but for gain and offset. Always with the reference: from
    image to image, small errors in the direction of the flow would add up.

    reference, views: float32 [h, w], 0 to 1. seen: [M, 2, N], where to begin; NaN where lost.
    """
    patch = _Patches(reference, pixels)
    aligned = [
        patch.aligned(view, begin, warp.astype(np.float32), iterations)
        for view, begin, warp in zip(views, seen, warps, strict=True)
    ]
    return np.stack(aligned)


class _Patches:
    """Patches of the reference, P pixels each. gradient: [2, N, P]; pattern (mean zero): [N, P]; contrast: [N, 1]."""

    def __init__(self, reference: Image, pixels: Float64) -> None:
        points = pixels.astype(np.float32)[:, :, None] + _PATCH[:, None]
        half = np.float32(0.5)
        right, down = np.array([half, 0], np.float32)[:, None, None], np.array([0, half], np.float32)[:, None, None]
        across = sample(reference, points + right) - sample(reference, points - right)
        along = sample(reference, points + down) - sample(reference, points - down)
        self.gradient = np.stack([across, along])
        pattern = sample(reference, points)
        self.pattern = pattern - pattern.mean(axis=-1, keepdims=True)
        self.contrast = _contrast(self.pattern)

    def aligned(self, view: Image, begin: Float64, warp: Image, iterations: int) -> Float64:
        (xx, xy), (yx, yy) = warp
        determinant = xx * yy - xy * yx
        usable = np.isfinite(begin[0]) & (determinant > 0.2) & (determinant < 5)
        determinant = np.where(usable, determinant, np.float32(1))[:, None]
        # The gradient in the view is warp^-T times that in the reference.
        gx, gy = self.gradient
        slope_x = (yy[:, None] * gx - yx[:, None] * gy) / determinant
        slope_y = (xx[:, None] * gy - xy[:, None] * gx) / determinant
        slope_x -= slope_x.mean(axis=-1, keepdims=True)
        slope_y -= slope_y.mean(axis=-1, keepdims=True)
        hxx, hxy, hyy = (np.sum(s * t, axis=-1) for s, t in ((slope_x,) * 2, (slope_x, slope_y), (slope_y,) * 2))
        curvature = hxx * hyy - hxy * hxy
        usable &= curvature > 1e-9
        curvature = np.where(usable, curvature, np.float32(1))

        offsets = np.einsum("ijn,jp->inp", warp, _PATCH)
        start = np.where(usable, begin, 0.0).astype(np.float32)
        position = start.copy()
        for _ in range(iterations):
            difference = self._difference(view, position[:, :, None] + offsets)
            by_x, by_y = np.sum(slope_x * difference, axis=-1), np.sum(slope_y * difference, axis=-1)
            position[0] -= (hyy * by_x - hxy * by_y) / curvature
            position[1] -= (hxx * by_y - hxy * by_x) / curvature
        correlation = 1 - np.mean(difference**2, axis=-1) / (2 * self.contrast[:, 0] ** 2)
        usable &= (np.abs(position - start).max(axis=0) < _MAX_CORRECTION) & (correlation > _MIN_CORRELATION)
        return np.where(usable, position, np.nan).astype(np.float64)

    def _difference(self, view: Image, points: Image) -> Image:
        """From the patterns, with the same mean and contrast: [N, P]."""
        found = sample(view, points)
        found -= found.mean(axis=-1, keepdims=True)
        difference: Image = found * (self.contrast / _contrast(found)) - self.pattern
        return difference


def _contrast(pattern: Image) -> Image:
    contrast: Image = np.sqrt(np.mean(pattern**2, axis=-1, keepdims=True)) + _FAINT
    return contrast


def sample(image: Image, points: NDArray[np.float32]) -> Image:
    """Bilinear at points [2, ...]; those outside take the border's. cv2.remap would round to 1/32 pixel."""
    height, width = image.shape
    x, y = np.clip(points[0], 0, width - 1.001), np.clip(points[1], 0, height - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    a, b = x - left, y - top
    corner = top * width + left
    flat = image.ravel()
    upper = flat[corner] + a * (flat[corner + 1] - flat[corner])
    lower = flat[corner + width] + a * (flat[corner + width + 1] - flat[corner + width])
    value: Image = (upper + b * (lower - upper)).astype(np.float32)
    return value
