"""What the estimator says of a camera, and what a user may want otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

IntrinsicsState = Literal["waiting for rotation", "estimating", "converged"]
Intrinsics = tuple[float, float, float, float]


@dataclass(frozen=True)
class IntrinsicsEstimate:
    """Intrinsics of a camera as far as they are known.

    intrinsics: normalised, (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H).
    relative_sigma: standard deviation of log fx or log fy, the larger one; 0.02 is 2 % of the focal length.
    rotation: radians that the camera turned by between the two images of accepted pairs, in all.
    pairs: how many were accepted. rejected: why others were not, and how many for each reason.
    """

    intrinsics: Intrinsics
    relative_sigma: float
    state: IntrinsicsState = "waiting for rotation"
    rotation: float = 0.0
    pairs: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
