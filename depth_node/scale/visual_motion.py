"""How far the camera went between two images, in the unit of their predicted depth: direct alignment with known K."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_node.camera import PinholeCamera
from depth_node.intrinsics.alignment import Alignment, GaussianPrior, Motion, align
from depth_node.intrinsics.views import Points, View, depth_basis_sigma, select_points
from depth_node.intrinsics.warp import Float64, rotation_matrix

# What a good alignment leaves of the points' contrast (standard deviations); in a false minimum it is half of it.
MAX_RESIDUAL = 0.4
# Shares of points that it explains, and that the second image shows.
MIN_INLIERS, MIN_OVERLAP = 0.75, 0.4

_ROUNDS, _SETTLED = 3, 0.01

_KNOWN_INTRINSICS = GaussianPrior(np.zeros(3), 1e12 * np.eye(3))
# Errors of depth that have a shape would take up a part of the translation's length, which is all that is asked for.
_NO_DEPTH_MODES = 1e-4 * depth_basis_sigma()


@dataclass(frozen=True)
class VisualMotion:
    """Of the camera between two images.

    distance: in the unit of depth; baseline: the same in median depths of the points that it was seen by.
    fault: why it is not to be trusted; empty if it is.
    """

    distance: float
    baseline: float
    fault: str = ""


def visual_motion(view_a: View, view_b: View, camera: PinholeCamera) -> VisualMotion:
    """Motion between two images of a pinhole camera, by the first one's depth. camera: at any resolution."""
    points = tuple(select_points(view_a, level) for level in range(len(view_a.levels)))
    intrinsics = camera.normalized()
    found = None
    motion = Motion(turn_between(view_a, view_b, intrinsics), np.zeros(3))
    for _ in range(_ROUNDS):
        before = motion.translation
        found = align(view_a, view_b, points, intrinsics, _KNOWN_INTRINSICS, motion, mode_sigma=_NO_DEPTH_MODES)
        if found is None:
            return VisualMotion(0.0, 0.0, "too little to see")
        motion = found.motion
        if np.linalg.norm(motion.translation - before) <= _SETTLED * np.linalg.norm(motion.translation):
            break
    assert found is not None
    distance = float(np.linalg.norm(motion.translation))
    return VisualMotion(distance, distance * float(np.median(points[0].inverse_depth)), _fault(found, points[0]))


def turn_between(view_a: View, view_b: View, intrinsics: tuple[float, float, float, float]) -> Float64:
    """Rotation [3, 3] that explains how one image is shifted against the other (phase correlation); to start from.

    A turn of a few degrees moves images by more than alignment finds back from; it hardly changes what they show.
    """
    level = min(1, len(view_a.levels) - 1)
    a, b = (np.ascontiguousarray(view.levels[level][..., 0]) for view in (view_a, view_b))
    height, width = a.shape
    (across, down), _ = cv2.phaseCorrelate(a, b, cv2.createHanningWindow((width, height), cv2.CV_32F))
    fx, fy = intrinsics[0] * width, intrinsics[1] * height
    return rotation_matrix(np.array([-down / fy, across / fx, 0.0]))


def _fault(found: Alignment, points: Points) -> str:
    contrast = float(np.std(points.intensity))
    if found.sigma > MAX_RESIDUAL * contrast or found.inliers < MIN_INLIERS:
        return "images that do not match"
    return "too little overlap" if found.overlap < MIN_OVERLAP else ""
