"""Images for direct alignment: a grey pyramid with gradients, and well-textured pixels with inverse depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

MAX_PIXELS = 36_000  # of the finest level
LEVELS = 3
LEAST_SIDE = 32  # pixels that a level needs to have a coarser one

# The pixels with the strongest gradients of each cell are taken, so that they lie all over the image. None near an
# outline, where soft depth is wrong: there, inverse depth differs from a neighbour's by more than a quarter.
CELL, PER_CELL, BORDER = 8, 4, 2
MIN_GRADIENT = 0.008  # per pixel, intensities 0 to 1
MAX_RELATIVE_STEP = 0.25


@dataclass(frozen=True)
class Pyramid:
    """An image, finest level first, and when it was taken.

    levels: float32 [h, w, 3] each: intensity 0 to 1, and its x and y gradient per pixel.
    inverse_depth: float32 [h, w] of the finest level, NaN where unknown.
    """

    stamp_ns: int
    levels: tuple[Float32, ...]
    inverse_depth: Float32


@dataclass(frozen=True)
class Points:
    """Pixels of one level. pixels: [2, N]; inverse_depth, intensity (0 to 1): [N]; all float32."""

    pixels: Float32
    inverse_depth: Float32
    intensity: Float32


def make_pyramid(image: NDArray[np.uint8], inverse_depth: Float32, stamp_ns: int) -> Pyramid:
    """image: uint8 [h, w, 3] RGB; inverse_depth: float32 [h, w] in any unit, NaN where unknown."""
    height, width = image.shape[:2]
    divisor = max(1, math.ceil(math.sqrt(width * height / MAX_PIXELS)))
    size = max(1, width // divisor), max(1, height // divisor)
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    intensity: Float32 = grey.astype(np.float32) / np.float32(255)
    levels = [_with_gradients(intensity)]
    while len(levels) < LEVELS and min(intensity.shape) >= LEAST_SIDE:
        size = intensity.shape[1] // 2, intensity.shape[0] // 2
        intensity = cv2.resize(intensity, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        levels.append(_with_gradients(intensity))
    finest = levels[0].shape[1], levels[0].shape[0]
    depth: Float32 = cv2.resize(inverse_depth, finest, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return Pyramid(stamp_ns, tuple(levels), depth)


def select_points(pyramid: Pyramid, level: int) -> Points:
    """The pixels of a level with the strongest gradients, at most `PER_CELL` in every cell."""
    image = pyramid.levels[level]
    height, width = image.shape[:2]
    depth: Float32 = cv2.resize(pyramid.inverse_depth, (width, height), interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment]
    strength = np.hypot(image[..., 1], image[..., 2])
    inner = np.zeros((height, width), bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    strength[~(inner & (strength > MIN_GRADIENT) & _is_smooth(depth))] = 0
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded = np.pad(strength, ((0, rows * CELL - height), (0, columns * CELL - width)))
    cells = padded.reshape(rows, CELL, columns, CELL).swapaxes(1, 2).reshape(rows * columns, CELL * CELL)
    best = np.argpartition(cells, -PER_CELL, axis=1)[:, -PER_CELL:]
    cell, rank = np.nonzero(np.take_along_axis(cells, best, axis=1))
    within = best[cell, rank]
    y, x = cell // columns * CELL + within // CELL, cell % columns * CELL + within % CELL
    return Points(np.stack([x, y]).astype(np.float32), depth[y, x], image[y, x, 0])


def sample(level: Float32, pixels: Float32) -> tuple[Float32, NDArray[np.bool_]]:
    """Bilinear [3, N] at pixels [2, N], and which of these lie inside; the others' values mean nothing.

    cv2.remap would round coordinates to 1/32 pixel.
    """
    height, width = level.shape[:2]
    x, y = pixels
    inside = (x >= 1) & (x < width - 2) & (y >= 1) & (y < height - 2)
    x, y = np.where(inside, x, np.float32(1)), np.where(inside, y, np.float32(1))
    left, top = x.astype(np.int32), y.astype(np.int32)
    a, b = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
    flat, corner = level.reshape(-1, 3), top * width + left
    upper = flat[corner] * (1 - a) + flat[corner + 1] * a
    lower = flat[corner + width] * (1 - a) + flat[corner + width + 1] * a
    return np.ascontiguousarray((upper + b * (lower - upper)).T), inside


def _with_gradients(intensity: Float32) -> Float32:
    """Central differences: exact for the parabola through three pixels."""
    across = cv2.Sobel(intensity, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(intensity, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    level: Float32 = cv2.merge([intensity, across, down])  # type: ignore[assignment]
    return level


def _is_smooth(inverse_depth: Float32) -> NDArray[np.bool_]:
    """Where inverse depth is known, and nearly that of all neighbours."""
    is_known = inverse_depth > 0  # NaN compares false
    filled = np.where(is_known, inverse_depth, np.float32(0))
    kernel = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(filled, kernel) - cv2.erode(filled, kernel)
    smooth: NDArray[np.bool_] = is_known & (spread <= MAX_RELATIVE_STEP * filled)
    return smooth
