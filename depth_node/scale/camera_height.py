"""Metric scale from how high the camera is above the ground that it sees."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.scale.estimate import ScaleEstimate, unknown_scale
from depth_node.scale.filter import ScaleFilter
from depth_node.scale.ground import GroundPlane, ground_plane

# A camera fixed on a robot sees the ground in most frames, and always at the same tilt. Planes that come and go or
# tumble are furniture, or the camera is held by hand: its height is not what was set.
WINDOW = 31
_ENOUGH_PLANES, _ENOUGH_SHARE = 10, 0.5
_STEADY, _UNSTEADY = math.radians(3), math.radians(5)


class CameraHeightScale:
    """Scale from the known height of the camera over the ground that it sees, filtered over frames.

    The sigma is NaN as long as the planes are not steady enough to be the ground below a fixed camera; once a whole
    window of frames has not shown a steady one, the estimate warns.
    """

    def __init__(self, camera_height: float) -> None:
        self.camera_height = camera_height
        self._filter = ScaleFilter(WINDOW)
        self._planes: deque[GroundPlane | None] = deque(maxlen=WINDOW)
        self._is_steady = False

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        plane = ground_plane(depth, camera)
        self._planes.append(plane)
        if plane is not None:
            self._filter.add(self.camera_height / plane.height)
        if not self._filter.known:
            return unknown_scale("no ground was seen in enough frames")
        reason = self._judge()
        if self._is_steady:
            return ScaleEstimate(self._filter.factor, "camera_height", self._filter.relative_sigma, reason)
        warning = f"scale from a plane that may be no ground: {reason}" if len(self._planes) == WINDOW else ""
        return ScaleEstimate(self._filter.factor, "camera_height", reason=reason, warning=warning)

    def _judge(self) -> str:
        """Note whether the ground is steady, and say what it looks like.

        Once it is, a wall before the camera does not change that; planes that tumble do.
        """
        normals = np.array([plane.normal for plane in self._planes if plane is not None])
        seen = f"ground in {len(normals)} of {len(self._planes)} frames"
        if len(normals) == 0:
            return seen
        cosines = normals @ _median_direction(normals)
        wobble = math.acos(min(1.0, float(np.median(cosines))))
        if wobble > _UNSTEADY:
            self._is_steady = False
        elif wobble < _STEADY and len(normals) >= max(_ENOUGH_PLANES, _ENOUGH_SHARE * len(self._planes)):
            self._is_steady = True
        return f"{seen}, its tilt steady to {math.degrees(wobble):.1f} degrees"


def _median_direction(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector of the medians [3] of unit vectors [N, 3]."""
    median: NDArray[np.float64] = np.median(normals, axis=0)
    return median / np.linalg.norm(median)
