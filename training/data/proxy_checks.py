"""What triangulated depth cannot be: depth without texture, and things that sink into the road or hover over it.

A car that drives along the camera's way passes every epipolar check, but at a wrong depth: one that goes the same way
is triangulated too far away, so that it lies below the road; one that comes the other way too near, so that it hovers
before the road that is seen below it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, directions
from training.data.road_plane import RoadPlane

Gray = NDArray[np.uint8]
Depth = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TEXTURE_WINDOW = 9  # pixels
_MIN_CONTRAST = 1.2  # grey levels, standard deviation within the window; a saturated sky has less

# Metres below the road that are still believed, and how much more at a distance (hills), in parts of it.
_BELOW, _SLOPE = 0.3, 0.02
_GROUND = 0.1  # camera heights from the plane; what is within is ground
_UNDERSIDE, _TOP = 0.15, 1.2  # camera heights; between them, things stand on the ground
_CLEARANCE = 1.3  # farthest ground below a thing, in parts of the thing's depth
_OPENING, _MARGIN = 3, 9  # pixels; smaller finds are noise, and outlines are of the thing, too


def has_texture(image: Gray) -> Mask:
    """Where uint8 [H, W] has enough contrast for a match to mean something."""
    level = image.astype(np.float32)
    size = (_TEXTURE_WINDOW, _TEXTURE_WINDOW)
    variance = cv2.blur(level * level, size) - cv2.blur(level, size) ** 2
    return np.asarray(variance >= _MIN_CONTRAST**2)


def contradicts_road(depth: Depth, camera: PinholeCamera, road: RoadPlane) -> Mask:
    """Where float32 [H, W], metres, 0 unknown, is below the road or hovers over it."""
    down = np.tensordot(-road.normal.astype(np.float32), directions(camera), 1) * depth  # metres, square to the road
    known = depth > 0
    below = known & (down > road.height + _BELOW + _SLOPE * depth)
    height = 1 - down / road.height  # over the road, in camera heights
    ground = known & (np.abs(height) < _GROUND)
    # The farthest ground in the rows below, by column.
    farthest = np.maximum.accumulate(np.where(ground, depth, 0)[::-1], axis=0)[::-1]
    hovers = known & (height > _UNDERSIDE) & (height < _TOP) & (farthest > _CLEARANCE * depth)
    found = cv2.morphologyEx((below | hovers).astype(np.uint8), cv2.MORPH_OPEN, np.ones((_OPENING, _OPENING), np.uint8))
    return np.asarray(cv2.dilate(found, np.ones((_MARGIN, _MARGIN), np.uint8)) > 0) & known
