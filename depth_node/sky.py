"""Sky in an image, so that its depth is invalid (NaN, REP 117) instead of an invented distance.

A wrongly removed obstacle is worse than sky that stays, so every doubt is decided against the sky: what is called sky
reaches the upper edge of the image, looks like daylight, and is far by the depth network's own account. A white wall
passes the first two; image and depth are looked at together, since neither is enough.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Size that images are examined at: [rows, columns].
SKY_MASK_SHAPE = (48, 160)

# Metres; what a metric model sees nearer than this is never sky. It takes sky for 20 to 97 m where it knows the scene.
SKY_MIN_DEPTH = 20.0

# The same for depth in an unknown unit: times the median depth of what is not sky.
_MIN_DEPTH_RATIO = 1.5

# Grey levels per cell, in any colour: a skyline is steeper, clouds are not.
_MAX_GRADIENT = 40.0

# Daylight is white or bluish: blue is at least this part of the stronger one of red and green.
_MIN_BLUENESS = 0.87

# Narrower or lower patches (cells) are gaps between windows rather than sky; smaller in all (share), nothing at all.
_MIN_PATCH = np.ones((3, 5), np.uint8)
_MIN_SHARE = 0.01

# Squared Mahalanobis distances to the sky's colours, its noise at least this variance (grey levels squared).
_MAX_DISTANCE, _MAX_DISTANCE_AT_BORDER = 9.0, 2.0
_MIN_VARIANCE = 50.0

# With more of the sky's colours (share) in the lower third of the image, nothing tells sky from snow, fog or a desk.
_MAX_SHARE_BELOW = 0.15


def sky_mask(
    image: NDArray[np.uint8], depth: NDArray[np.float32], min_depth: float | None = SKY_MIN_DEPTH
) -> NDArray[np.bool_]:
    """Where an image shows sky: bool `SKY_MASK_SHAPE`, whose cells divide the image evenly.

    image: uint8 [H, W, 3] RGB of any size; the network's input will do and is cheaper than a larger one.
    depth: float32 [h, w] of the same view, of any size; NaN counts as far.
    min_depth: nothing nearer is sky, in the unit of `depth`; None, for an unknown unit, takes 1.5 times the median
        depth of what does not look like sky.

    As in Shen and Wang (2013), "Sky region detection in a single image for autonomous ground robot navigation", sky
    is what a column shows from its top down to the first strong gradient. Here it must also be far, white or bluish,
    and brighter in blue than Otsu's threshold; that makes their search for the best gradient threshold unnecessary.
    The farthest such region gives the colours of the sky, which the others have to share.

    Night, sunset, sky below branches, below the black rim of a rectified image, and images of nothing but sky are not
    recognized. Wires, and what else is much thinner than a cell, are lost in the sky.
    """
    rows, columns = SKY_MASK_SHAPE
    small = _shrunk(image, columns, rows)
    daylight = _looks_like_daylight(small)
    at_cells = depth[np.ix_(_centers(depth.shape[0], rows), _centers(depth.shape[1], columns))]
    if min_depth is None:
        rest = at_cells[~daylight]
        rest = rest[np.isfinite(rest)]
        min_depth = _MIN_DEPTH_RATIO * float(np.median(rest)) if rest.size else np.inf
    farthest = np.fmax.reduce(at_cells, axis=None, initial=min_depth)  # invalid is mostly what was too far
    at_cells = np.nan_to_num(at_cells, nan=farthest)
    far = at_cells > min_depth
    smooth = _gradient(small) <= _MAX_GRADIENT
    from_top = np.logical_and.accumulate(daylight & far & smooth, axis=0).view(np.uint8)
    patches = cv2.morphologyEx(from_top, cv2.MORPH_OPEN, _MIN_PATCH, borderType=cv2.BORDER_REPLICATE)

    count, labels, statistics, _ = cv2.connectedComponentsWithStats(patches, connectivity=4)
    areas = statistics[:, cv2.CC_STAT_AREA]
    mean_depth = np.bincount(labels.ravel(), at_cells.ravel(), count) / np.maximum(areas, 1)
    mean_depth[areas < _MIN_SHARE * labels.size] = 0
    mean_depth[0] = 0  # everything else
    if not mean_depth.any() or from_top.all():
        return np.zeros(SKY_MASK_SHAPE, np.bool_)
    distance = _color_distance(small, labels == mean_depth.argmax())
    if np.mean(distance[2 * rows // 3 :] < _MAX_DISTANCE) > _MAX_SHARE_BELOW:
        return np.zeros(SKY_MASK_SHAPE, np.bool_)
    border = cv2.dilate(patches, np.ones((3, 3), np.uint8)).view(np.bool_)  # gradients end a cell above the skyline
    sky: NDArray[np.bool_] = patches.view(np.bool_) & (distance < _MAX_DISTANCE)
    sky |= border & far & (distance < _MAX_DISTANCE_AT_BORDER)
    return sky


def invalidate_sky(depth: NDArray[np.float32], sky: NDArray[np.bool_]) -> None:
    """Make depth, float32 [H, W] of any size, NaN in place where `sky`, bool [h, w] of the same view, is set."""
    covered = np.flatnonzero(sky.any(axis=1))
    if covered.size == 0:
        return
    (height, width), rows = depth.shape, len(sky)
    # NaN is added, which is several times cheaper than indexing with a mask, down to the lowest row with sky.
    offset = np.where(sky, np.float32(np.nan), np.float32(0))
    offset = cv2.resize(offset, (width, height), interpolation=cv2.INTER_NEAREST)
    end = -(-(int(covered[-1]) + 1) * height // rows)
    depth[:end] += offset[:end]


def _shrunk(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Means of areas, by halves as far as they go: OpenCV is several times faster at those."""
    while (
        image.shape[0] % 2 == image.shape[1] % 2 == 0 and image.shape[0] >= 2 * height and image.shape[1] >= 2 * width
    ):
        half = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return image


def _looks_like_daylight(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    red, green, blue = cv2.split(image)
    threshold, _ = cv2.threshold(blue, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bright: NDArray[np.bool_] = blue > threshold
    return bright & (blue >= np.float32(_MIN_BLUENESS) * cv2.max(red, green))


def _gradient(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Steepest of the colours' gradients, grey levels per pixel: float32 [h, w]."""
    scale = 1 / 4  # of Sobel's kernel; the rest of its sum smooths
    x, y = (cv2.Sobel(image, cv2.CV_32F, dx, dy, scale=scale) for dx, dy in ((1, 0), (0, 1)))
    red, green, blue = cv2.split(cv2.magnitude(x, y))
    steepest: NDArray[np.float32] = cv2.max(cv2.max(red, green), blue)  # type: ignore[assignment]
    return steepest


def _color_distance(image: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Squared Mahalanobis distance of each pixel to the colours of a region: float32 [h, w]."""
    mean = cv2.mean(image, mask=region.view(np.uint8))
    offset = cv2.subtract(image.astype(np.float32), mean)  # type: ignore[call-overload]
    inside = offset[region]
    covariance = inside.T @ inside / len(inside) + np.eye(3, dtype=np.float32) * np.float32(_MIN_VARIANCE)
    whitened = offset.reshape(-1, 3) @ np.linalg.cholesky(np.linalg.inv(covariance))
    distance: NDArray[np.float32] = np.square(whitened) @ np.ones(3, np.float32)
    return distance.reshape(region.shape)


def _centers(size: int, cells: int) -> NDArray[np.int64]:
    """Index of the pixel at the centre of each of the cells that divide `size` pixels evenly."""
    return ((np.arange(cells) + 0.5) * size / cells).astype(np.int64)
