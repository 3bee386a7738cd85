"""How far the camera went between two images, in the unit of their predicted depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_node.camera import PinholeCamera
from depth_node.scale.alignment import Alignment, Float64, align, rotation_matrix
from depth_node.scale.pyramid import Points, Pyramid, select_points

# What a good alignment leaves of the points' contrast (standard deviations); in a false minimum it is half of it.
MAX_RESIDUAL = 0.35
# Shares of points that it explains, and that the second image shows.
MIN_INLIERS, MIN_OVERLAP = 0.75, 0.4

_ROUNDS, _SETTLED = 3, 0.01
_AHEAD = 0.1  # median depths


@dataclass(frozen=True)
class VisualMotion:
    """Of the camera between two images.

    translation: of T_b_a, float64 [3], in the unit of depth.
    baseline: its length in median depths of the points that it was seen by.
    fault: why it is not to be trusted; empty if it is.
    """

    translation: Float64
    baseline: float
    fault: str = ""

    @property
    def distance(self) -> float:
        """How far the camera went, in the unit of depth."""
        return float(np.linalg.norm(self.translation))


def visual_motion(
    image_a: Pyramid, image_b: Pyramid, camera: PinholeCamera, expected: Float64 | None = None
) -> VisualMotion:
    """Motion between two images of a pinhole camera, by the first one's depth.

    camera: at any resolution. expected: translation of T_b_a [3], which is tried first; then none, and some way ahead.
    """
    points = tuple(select_points(image_a, level) for level in range(len(image_a.levels)))
    seen = VisualMotion(np.zeros(3), 0.0, "too little to see")
    if not points[0].inverse_depth.size:
        return seen
    typical = 1 / float(np.median(points[0].inverse_depth))
    rotation = turn_between(image_a, image_b, camera)
    starts = [np.zeros(3), np.array([0.0, 0.0, -_AHEAD * typical])]
    for translation in starts if expected is None else [expected, *starts]:
        found = _settled(points, image_b, camera, rotation, translation)
        if found is not None:
            baseline = float(np.linalg.norm(found.translation)) / typical
            seen = VisualMotion(found.translation, baseline, _fault(found, points[0]))
            if not seen.fault:
                break
    return seen


def turn_between(image_a: Pyramid, image_b: Pyramid, camera: PinholeCamera) -> Float64:
    """Rotation [3, 3] of T_b_a that explains how one image is shifted against the other (phase correlation).

    A turn of a few degrees moves images by more than alignment finds back from; it hardly changes what they show.
    """
    level = min(1, len(image_a.levels) - 1)
    a, b = (np.ascontiguousarray(image.levels[level][..., 0]) for image in (image_a, image_b))
    height, width = a.shape
    (across, down), _ = cv2.phaseCorrelate(a, b, cv2.createHanningWindow((width, height), cv2.CV_32F))
    at_level = camera.resized(width, height)
    return rotation_matrix(np.array([-down / at_level.fy, across / at_level.fx, 0.0]))


def _settled(
    points: tuple[Points, ...], image_b: Pyramid, camera: PinholeCamera, rotation: Float64, translation: Float64
) -> Alignment | None:
    """Aligned again from where alignment ended, until that stays: coarse levels come back with what fine ones found."""
    found = None
    for _ in range(_ROUNDS):
        found = align(points, image_b, camera, rotation, translation)
        if found is None or np.linalg.norm(found.translation - translation) <= _SETTLED * np.linalg.norm(translation):
            break
        rotation, translation = found.rotation, found.translation
    return found


def _fault(found: Alignment, points: Points) -> str:
    contrast = float(np.std(points.intensity))
    if found.residual > MAX_RESIDUAL * contrast or found.inliers < MIN_INLIERS:
        return "images that do not match"
    return "too little overlap" if found.overlap < MIN_OVERLAP else ""
