"""Metric scale from how high the camera is above the ground that it sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.scale.estimate import ScaleEstimate, unknown_scale
from depth_node.scale.filter import ScaleFilter
from depth_node.scale.ground import ground_plane


class CameraHeightScale:
    """Scale from the known height of the camera over the ground that it sees, filtered over frames."""

    def __init__(self, camera_height: float) -> None:
        self.camera_height = camera_height
        self._filter = ScaleFilter()

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        plane = ground_plane(depth, camera)
        if plane is not None:
            self._filter.add(self.camera_height / plane.height)
        if not self._filter.known:
            return unknown_scale("no ground in enough frames")
        return ScaleEstimate(self._filter.factor, "camera_height", self._filter.relative_sigma)
