"""How far the camera went between two images, in the unit of their predicted depth: direct alignment with known K."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_node.camera import PinholeCamera
from depth_node.intrinsics.alignment import GaussianPrior, Motion, align
from depth_node.intrinsics.views import View, depth_basis_sigma, select_points

# Shares of points that a good alignment explains, and that the second image shows.
MIN_INLIERS, MIN_OVERLAP = 0.75, 0.4

_KNOWN_INTRINSICS = GaussianPrior(np.zeros(3), 1e12 * np.eye(3))
# Errors of depth that have a shape would take up a part of the translation's length, which is all that is asked for.
_NO_DEPTH_MODES = 1e-4 * depth_basis_sigma()


@dataclass(frozen=True)
class VisualMotion:
    """Of the camera from one image to the next.

    motion: T_b_a, translation in the unit of depth. baseline: length of the translation over the median depth of the
    points that it was seen by. fault: why it is not to be trusted; empty if it is.
    """

    motion: Motion
    baseline: float
    fault: str = ""

    @property
    def distance(self) -> float:
        """In the unit of depth."""
        return float(np.linalg.norm(self.motion.translation))


def visual_motion(view_a: View, view_b: View, camera: PinholeCamera, start: Motion) -> VisualMotion:
    """Motion between two images of a pinhole camera, searched for from `start` on."""
    points = tuple(select_points(view_a, level) for level in range(len(view_a.levels)))
    intrinsics = camera.normalized()
    found = align(view_a, view_b, points, intrinsics, _KNOWN_INTRINSICS, start, mode_sigma=_NO_DEPTH_MODES)
    if found is None:
        return VisualMotion(Motion.none(), 0.0, "too little to see")
    fault = ""
    if found.inliers < MIN_INLIERS:
        fault = "images that do not match"
    elif found.overlap < MIN_OVERLAP:
        fault = "too little overlap"
    baseline = float(np.linalg.norm(found.motion.translation) * np.median(points[0].inverse_depth))
    return VisualMotion(found.motion, baseline, fault)


def continued(motion: Motion, part: float) -> Motion:
    """The same motion for `part` times as long, at the same speed and turn rate."""
    turn, _ = cv2.Rodrigues(motion.rotation)
    rotation, _ = cv2.Rodrigues(turn * part)
    return Motion(np.asarray(rotation, np.float64), motion.translation * part)
