"""Where the patches around points of a reference image are seen in other images, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.projection import Float64

Grey = NDArray[np.uint8]
Image = NDArray[np.float32]

# Of the variance of a patch's positions, the part that is alike in all views, since all are compared with one
# reference, noise and all. Measured on synthetic streets, against exact geometry, as _ALIKE is.
SHARED_VARIANCE = 0.45

_PATCH = np.stack(np.meshgrid(np.arange(-4, 5, 2), np.arange(-4, 5, 2))).reshape(2, -1).astype(np.float32)
_MAX_CORRECTION = 2.0  # pixels; a patch that wants to go farther was on something else
_MIN_CORRELATION = 0.8
_MIN_SCALE = 0.6  # of a patch in a view, along any direction; beyond that, or its inverse, it shows other detail
_MIN_CURVATURE = 1e-9  # of a patch without corners
_BLURS = np.array(
    [0.7, 0.85, 1.0, 1.2, 1.45], np.float32
)  # pixels; the least makes interpolation between pixels exact enough
_LEVELS = len(_BLURS)
_PIXEL = 0.35  # pixels; standard deviation of what a pixel averages over
_FAINT = np.float32(1e-3)  # contrast, intensities 0 to 1, that is as good as none
_QUANTISATION = 1.5e-3  # of intensities, of images of 8 bits
# The errors of a patch's pixels are alike where it is off its model, so that they do not average out. Measured on
# synthetic streets, against exact geometry: positions deviate by 1.9 times what independent errors would make of them.
_ALIKE = 1.9
_POSITION_FLOOR = 0.02  # pixels
_FRACTIONS = np.float32(32)  # of a pixel, that cv2.remap rounds to


@dataclass(frozen=True)
class Alignment:
    """Of N patches in M views.

    seen: [M, 2, N], pixels; NaN where a view does not show the patch. information: [M, 2, 2, N], pixels^-2, the inverse
    covariance of each position, so that patches on an edge count across it, and little along it.
    """

    seen: Float64
    information: Float64


class PatchAligner:
    """Finds where M views [h, w] of grey values show the same as a reference at its pixels [2, N].

    Lucas and Kanade with the reference's gradients (Baker and Matthews, "Lucas-Kanade 20 years on", 2004) on patches of
    9 x 9 pixels, warped and compared but for gain and offset. Always with the reference: from image to image, small
    errors in the direction of the flow would add up. What a view shows smaller or larger is compared at the sharpness
    of the coarser one of the two.
    """

    def __init__(self, reference: Grey, views: Sequence[Grey], pixels: Float64) -> None:
        self._reference, self._views = _BlurredImages([reference]), _BlurredImages(views)
        self._points = pixels.astype(np.float32)[:, :, None] + _PATCH[:, None]
        count, size = pixels.shape[1], _PATCH.shape[1]
        self._patches = _Patches.empty(_LEVELS, count, size)
        self._has_patches = np.zeros(_LEVELS, bool)

    def align(self, seen: Float64, warps: Float64, iterations: int = 3) -> Alignment:
        """Positions in the views, warped by warps [M, 2, 2, N].

        seen: [M, 2, N], where to begin; NaN where lost.
        """
        warp = warps.transpose(1, 2, 0, 3).astype(np.float32)
        determinant = warp[0, 0] * warp[1, 1] - warp[0, 1] * warp[1, 0]
        found, known = np.full(seen.shape, np.nan), np.tile(np.eye(2)[:, :, None], (len(seen), 1, 1, seen.shape[-1]))
        view, point = np.nonzero(np.isfinite(seen[:, 0]) & _keeps_its_size(warp, determinant))
        if not view.size:
            return Alignment(found, known)
        sharpness, view_sharpness = _levels(determinant[view, point])
        patches = self._patches_of(sharpness, point)
        first_row = self._views.first_rows(view, view_sharpness)
        begin = seen[view, :, point].T.astype(np.float32)
        position, information = patches.aligned(self._views.atlas, first_row, begin, warp[..., view, point], iterations)
        found[view, :, point] = position.T
        known[view, :, :, point] = information.transpose(2, 0, 1)
        return Alignment(found, known)

    def _patches_of(self, levels: NDArray[np.int64], points: NDArray[np.int64]) -> _Patches:
        """Patches of some points, each with its sharpness."""
        for level in np.setdiff1d(levels, np.flatnonzero(self._has_patches)):
            first_row = self._reference.first_rows(np.zeros(1, np.int64), np.array([level]))
            self._patches.fill(int(level), self._reference.atlas, self._points, first_row)
            self._has_patches[level] = True
        return self._patches.chosen(levels, points)


class _BlurredImages:
    """Grey values, 0 to 1, of images at several degrees of sharpness.

    atlas: float32 [M L h, w], all of them below each other, so that points of several images are sampled in one call;
    those that were asked for by `first_rows` are there.
    """

    def __init__(self, images: Sequence[Grey]) -> None:
        self._sharp = [image.astype(np.float32) / 255 for image in images]
        self._height, width = images[0].shape
        self._is_there = np.zeros((len(images), _LEVELS), bool)
        self.atlas: Image = np.zeros((len(images) * _LEVELS * self._height, width), np.float32)

    def first_rows(self, images: NDArray[np.int64], levels: NDArray[np.int64]) -> Image:
        """Of images [K] at levels [K], in the atlas: [K]."""
        numbers = images * _LEVELS + levels
        for number in np.setdiff1d(numbers, np.flatnonzero(self._is_there)):
            image, level = divmod(int(number), _LEVELS)
            part = self.atlas[number * self._height : (number + 1) * self._height]
            cv2.GaussianBlur(self._sharp[image], (0, 0), _BLURS[level], dst=part)
            self._is_there[image, level] = True
        return (numbers * self._height).astype(np.float32)


def _levels(determinant: Image) -> NDArray[np.int64]:
    """Degrees of blur [2, K] of the reference and of a view, for patches that the view shows so many times as large.

    The one that shows them larger is blurred until a pixel of the other one is as large.
    """
    smaller = 1 / np.sqrt(np.stack([determinant, 1 / determinant]))
    needed = np.sqrt(np.maximum((_BLURS[0] ** 2 + _PIXEL**2) * smaller**2 - _PIXEL**2, _BLURS[0] ** 2))
    levels: NDArray[np.int64] = np.argmin(np.abs(needed[..., None] - _BLURS), axis=-1)
    return levels


@dataclass(frozen=True)
class _Patches:
    """Patches of P pixels. gradient: [2, ..., P]; pattern (mean zero): [..., P]; contrast: [..., 1]."""

    gradient: Image
    pattern: Image
    contrast: Image

    @classmethod
    def empty(cls, *shape: int) -> _Patches:
        return cls(*(np.empty(dims, np.float32) for dims in ((2, *shape), shape, (*shape[:-1], 1))))

    def fill(self, level: int, atlas: Image, points: Image, first_row: Image) -> None:
        """Those of a level, from the reference at points [2, N, P]."""
        half, zero = np.float32(0.5), np.float32(0)
        for axis, (right, down) in enumerate(((half, zero), (zero, half))):
            step = np.array([right, down])[:, None, None]
            after, before = _sample(atlas, points + step, first_row), _sample(atlas, points - step, first_row)
            self.gradient[axis, level] = after - before
        pattern = _sample(atlas, points, first_row)
        self.pattern[level] = pattern - pattern.mean(axis=-1, keepdims=True)
        self.contrast[level] = _contrast(self.pattern[level])

    def chosen(self, levels: NDArray[np.int64], points: NDArray[np.int64]) -> _Patches:
        return _Patches(self.gradient[:, levels, points], self.pattern[levels, points], self.contrast[levels, points])

    def aligned(
        self, atlas: Image, first_row: Image, begin: Image, warp: Image, iterations: int
    ) -> tuple[Float64, Float64]:
        """Positions [2, K] in views, NaN where they do not show the patch, and their information [2, 2, K]."""
        (xx, xy), (yx, yy) = warp[..., None]
        # The gradient in the view is warp^-T times that in the reference.
        gx, gy = self.gradient / (xx * yy - xy * yx)
        slope = np.stack([yy * gx - yx * gy, xx * gy - xy * gx])
        slope -= slope.mean(axis=-1, keepdims=True)
        hxx, hxy, hyy = (np.einsum("kp,kp->k", slope[i], slope[j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        curvature = hxx * hyy - hxy * hxy
        usable = curvature > _MIN_CURVATURE
        curvature = np.where(usable, curvature, np.float32(1))

        offsets = np.einsum("ijk,jp->ikp", warp, _PATCH)
        position = begin.copy()
        for _ in range(iterations):
            position = np.rint(position * _FRACTIONS) / _FRACTIONS
            found = _sample(atlas, position[:, :, None] + offsets, first_row)
            found -= found.mean(axis=-1, keepdims=True)
            difference = found * (self.contrast / _contrast(found)) - self.pattern
            by_x, by_y = np.einsum("ikp,kp->ik", slope, difference)
            position[0] -= (hyy * by_x - hxy * by_y) / curvature
            position[1] -= (hxx * by_y - hxy * by_x) / curvature
        mismatch = np.einsum("kp,kp->k", difference, difference) / difference.shape[-1]
        correlation = 1 - mismatch / (2 * self.contrast[:, 0] ** 2)
        usable &= (np.abs(position - begin).max(axis=0) < _MAX_CORRECTION) & (correlation > _MIN_CORRELATION)
        tensor = np.where(usable, np.array([[hxx, hxy], [hxy, hyy]]), np.eye(2)[:, :, None]).astype(np.float64)
        return np.where(usable, position, np.nan), _information(tensor, mismatch.astype(np.float64))


def _keeps_its_size(warp: Image, determinant: Image) -> NDArray[np.bool_]:
    """Whether the singular values of warps [2, 2, N] are near enough to one."""
    squares = np.sum(warp**2, axis=(0, 1))
    product = 2 * np.abs(determinant)
    largest = 0.5 * (np.sqrt(squares + product) + np.sqrt(np.maximum(squares - product, 0)))
    is_near: NDArray[np.bool_] = (determinant > _MIN_SCALE * largest) & (largest < 1 / _MIN_SCALE)
    return is_near


def _information(tensor: Float64, mismatch: Float64) -> Float64:
    """Inverse covariance [2, 2, N] of positions, by structure tensors [2, 2, N] and mean squared differences [N]."""
    variance = _ALIKE**2 * (mismatch + _QUANTISATION**2)
    return _inverse(variance * _inverse(tensor) + _POSITION_FLOOR**2 * np.eye(2)[:, :, None])


def _inverse(matrices: Float64) -> Float64:
    """Of symmetric matrices [2, 2, N]."""
    (a, b), (_, c) = matrices
    inverse: Float64 = np.array([[c, -b], [-b, a]]) / (a * c - b * b)
    return inverse


def _contrast(pattern: Image) -> Image:
    squares = np.einsum("...p,...p->...", pattern, pattern)[..., None]
    contrast: Image = np.sqrt(squares / pattern.shape[-1]) + _FAINT
    return contrast


def _sample(atlas: Image, points: Image, first_row: Image) -> Image:
    """Bicubic, rounded to 1/32 pixel, at points [2, K, P] of the images that begin at these rows [K] of an atlas."""
    x, y = np.ascontiguousarray(points[0]), points[1] + first_row[:, None]
    return np.asarray(cv2.remap(atlas, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32)
