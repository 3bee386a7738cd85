"""What the estimator says of a camera, and what a user may want otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from depth_node.camera import PinholeCamera

IntrinsicsState = Literal["waiting for rotation", "estimating", "converged"]
Intrinsics = tuple[float, float, float, float]

_CERTAIN = 3.0  # standard deviations, by which a lens has to differ from one without distortion, a shutter from global


@dataclass(frozen=True)
class IntrinsicsEstimate:
    """Intrinsics of a camera as far as they are known.

    intrinsics: normalised, (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H).
    relative_sigma: standard deviation of log fx or log fy, the larger one; 0.02 is 2 % of the focal length.
    distortion, distortion_sigma: k of a lens that distorts rays radially, by 1 + k (x^2 + y^2), and its standard
        deviation; the same as k1 of ROS's `plumb_bob`, whose other coefficients are zero.
    readout, readout_sigma: seconds from the exposure of the first row to that of the last, of a rolling shutter, and
        its standard deviation; negative where rows are read upwards, about zero for a global shutter.
    rotation: radians that the camera turned by between the two images of accepted pairs, in all.
    pairs: how many were accepted. rejected: why others were not, and how many for each reason.
    """

    intrinsics: Intrinsics
    relative_sigma: float
    state: IntrinsicsState = "waiting for rotation"
    rotation: float = 0.0
    pairs: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    distortion: float = 0.0
    distortion_sigma: float = 0.0
    readout: float = 0.0
    readout_sigma: float = 0.0

    @property
    def is_rolling(self) -> bool:
        """Whether rows are surely exposed one after the other."""
        return abs(self.readout) > _CERTAIN * self.readout_sigma

    @property
    def is_distorted(self) -> bool:
        """Whether the lens surely distorts."""
        return abs(self.distortion) > _CERTAIN * self.distortion_sigma

    def camera(self, width: int, height: int) -> PinholeCamera:
        """Of images of this size; with distortion, if that is sure."""
        camera = PinholeCamera.from_normalized(self.intrinsics, width, height)
        return replace(camera, distortion=(self.distortion, 0.0, 0.0, 0.0, 0.0)) if self.is_distorted else camera
