"""Images as direct alignment needs them: a small grey pyramid with gradients, and well-textured pixels with inverse depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.warp import Float

MAX_PIXELS = 36_000  # of the finest level
LEVELS = 3
CELL = 8  # pixels; the strongest gradients of each cell are taken, so that points lie all over the image
BORDER = 2  # pixels without points
MIN_GRADIENT = 0.008  # per pixel, intensities 0 to 1
MAX_RELATIVE_STEP = 0.25  # of inverse depth to a neighbour; beyond it lies an outline, where soft depth is wrong


@dataclass(frozen=True)
class Points:
    """Pixels of one level. pixels: [2, N]; inverse_depth, intensity (0 to 1): [N], float32.

    basis: [K, N], see `depth_basis`. region: which part of the image each one lies in, int [N].
    """

    pixels: Float
    inverse_depth: Float
    intensity: Float
    basis: Float
    region: NDArray[np.intp]


@dataclass(frozen=True)
class View:
    """An image, finest level first. levels: float32 [h, w, 3] each: intensity 0 to 1 and its x and y gradient per pixel.

    inverse_depth: float32 [h, w] of the finest level, NaN where unknown.
    """

    stamp_ns: int
    levels: tuple[NDArray[np.float32], ...]
    inverse_depth: NDArray[np.float32]


def working_size(width: int, height: int) -> tuple[int, int]:
    """Size of the finest level: the image shrunk by the least whole number that leaves at most `MAX_PIXELS`."""
    divisor = max(1, int(np.ceil(np.sqrt(width * height / MAX_PIXELS))))
    return max(1, width // divisor), max(1, height // divisor)


def make_view(image: NDArray[np.uint8], inverse_depth: NDArray[np.float32], stamp_ns: int) -> View:
    """image: uint8 [h, w, 3] RGB; inverse_depth: float32 [h, w] in any unit, NaN where unknown."""
    size = working_size(image.shape[1], image.shape[0])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    intensity = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    levels = []
    for _ in range(LEVELS):
        levels.append(_with_gradients(intensity))
        height, width = intensity.shape
        if min(width, height) < 32:
            break
        intensity = cv2.resize(intensity, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    nearest = inverse_depth.shape[1] == size[0]
    depth = inverse_depth if nearest else cv2.resize(inverse_depth, size, interpolation=cv2.INTER_AREA)
    return View(stamp_ns, tuple(levels), np.asarray(depth, np.float32))


def _with_gradients(intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Central differences: exact for the parabola through three pixels."""
    across = cv2.Sobel(intensity, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(intensity, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    return np.ascontiguousarray(cv2.merge([intensity, across, down]))


def select_points(view: View, level: int, per_cell: int = 4) -> Points:
    """The pixels of a level with the strongest gradients, at most `per_cell` in every `CELL` x `CELL`."""
    image = view.levels[level]
    height, width = image.shape[:2]
    depth = view.inverse_depth
    if level:
        depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    strength = np.hypot(image[:, :, 1], image[:, :, 2])
    usable = (strength > MIN_GRADIENT) & _continuous(depth)
    usable[:BORDER] = usable[-BORDER:] = False
    usable[:, :BORDER] = usable[:, -BORDER:] = False
    strength[~usable] = 0
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded = np.zeros((rows * CELL, columns * CELL), np.float32)
    padded[:height, :width] = strength
    cells = padded.reshape(rows, CELL, columns, CELL).transpose(0, 2, 1, 3).reshape(rows * columns, CELL * CELL)
    best = np.argpartition(cells, -per_cell, axis=1)[:, -per_cell:]
    cell = np.repeat(np.arange(rows * columns), per_cell)
    within = best.ravel()
    keep = cells[cell, within] > 0
    cell, within = cell[keep], within[keep]
    y = (cell // columns) * CELL + within // CELL
    x = (cell % columns) * CELL + within % CELL
    inverse = depth[y, x]
    pixels = np.stack([x, y]).astype(np.float32)
    region = (8 * y // height) * 16 + 16 * x // width
    return Points(pixels, inverse, image[y, x, 0], depth_basis(pixels, inverse, width, height), region)


def _continuous(inverse_depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where inverse depth is known, and nearly that of all neighbours."""
    known = np.isfinite(inverse_depth) & (inverse_depth >= 0)
    filled = np.where(known, inverse_depth, np.float32(0))
    kernel = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(filled, kernel) - cv2.erode(filled, kernel)
    return known & (spread <= MAX_RELATIVE_STEP * filled + 1e-6 * float(filled.max(initial=0)))


BASIS_ORDERS = tuple((i, j) for i in range(5) for j in range(3) if (i, j) != (0, 0))


def depth_basis(pixels: Float, inverse_depth: Float, width: int, height: int) -> Float:
    """Smooth errors that a predicted depth may have, as changes of log inverse depth: float32 [K, N].

    Cosines over the image (without the constant, which the translation's length takes up), and last an offset
    of inverse depth by its median: what is far too near or too far as a whole.
    """
    across = np.cos(np.pi * np.arange(5)[:, None] * ((pixels[0] + 0.5) / width))
    down = np.cos(np.pi * np.arange(3)[:, None] * ((pixels[1] + 0.5) / height))
    median = np.median(inverse_depth) if inverse_depth.size else np.float32(1)
    offset = median / np.maximum(inverse_depth, 0.02 * median)
    rows = [across[i] * down[j] for i, j in BASIS_ORDERS]
    return np.stack([*rows, offset]).astype(np.float32)


@lru_cache(maxsize=1)
def depth_basis_sigma() -> NDArray[np.float64]:
    """Standard deviations [K] of those errors' coefficients in a network's depth."""
    smooth = [0.15 / np.hypot(1, max(i, j)) for i, j in BASIS_ORDERS]
    return np.array([*smooth, 0.1])


def sample(level: NDArray[np.float32], pixels: Float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bilinear [3, N] at pixels [2, N], and which of these lie inside; the others' values mean nothing.

    cv2.remap would round coordinates to 1/32 pixel.
    """
    height, width = level.shape[:2]
    x, y = pixels
    inside = (x >= 1) & (x < width - 2) & (y >= 1) & (y < height - 2)
    x, y = np.where(inside, x, np.float32(1)), np.where(inside, y, np.float32(1))
    left, top = x.astype(np.int32), y.astype(np.int32)
    a, b = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
    flat = level.reshape(-1, 3)
    corner = top * width + left
    upper = flat[corner] * (1 - a) + flat[corner + 1] * a
    lower = flat[corner + width] * (1 - a) + flat[corner + width + 1] * a
    return np.ascontiguousarray((upper + b * (lower - upper)).T), inside
