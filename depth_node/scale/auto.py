"""The scale of whichever source is known best, and why that one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.scale.camera_height import CameraHeightScale
from depth_node.scale.estimate import ConstantScale, ScaleEstimate
from depth_node.scale.visual_odometry import VisualOdometryScale

# A source that is less sure than this is not trusted. The one in use is left for another that is clearly surer only,
# since depth jumps then.
MAX_SIGMA = 0.2
_CLEARLY = 0.8

# Standard deviations between two sources beyond which one of them is wrong.
_DISAGREEMENT = 3.0


class AutoScale:
    """Odometry or the camera's height, whichever is surer, as soon as one is to be trusted; until then the model.

    camera_height: None where that height is not known.
    """

    def __init__(
        self, model: ConstantScale, odometry: VisualOdometryScale, camera_height: CameraHeightScale | None
    ) -> None:
        self._model = model
        self._odometry = odometry
        self._camera_height = camera_height
        self._source = ""

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        measured = [self._odometry.estimate]
        if self._camera_height is not None:
            measured.append(self._camera_height.update(depth, camera))
        trusted = {estimate.source: estimate for estimate in measured if is_trusted(estimate)}
        if not trusted:
            self._source = ""
            model = self._model.estimate
            return replace(model, reason="; ".join([model.reason, *map(_summary, measured)]))
        best = min(trusted.values(), key=lambda estimate: estimate.relative_sigma)
        current = trusted.get(self._source)
        if current is not None and best.relative_sigma > _CLEARLY * current.relative_sigma:
            best = current
        self._source = best.source
        others = [estimate for estimate in measured if estimate.source != best.source]
        reason = "; ".join([best.reason, *map(_summary, others)])
        warning = "; ".join(f"{_summary(other)}, but {_summary(best)}" for other in others if _contradicts(other, best))
        return replace(best, reason=reason, warning=warning)


def is_trusted(estimate: ScaleEstimate) -> bool:
    """Whether a measured scale is known, and well enough."""
    return estimate.is_known and estimate.relative_sigma <= MAX_SIGMA  # NaN compares false


def _contradicts(a: ScaleEstimate, b: ScaleEstimate) -> bool:
    """Whether two sources, if both are to be trusted, differ by more than they can."""
    sigma = math.hypot(a.relative_sigma, b.relative_sigma)
    return is_trusted(a) and is_trusted(b) and abs(math.log(a.factor / b.factor)) > _DISAGREEMENT * sigma


def _summary(estimate: ScaleEstimate) -> str:
    if not estimate.is_known:
        return estimate.reason
    if math.isnan(estimate.relative_sigma):
        return f"{estimate.source} is not trusted: {estimate.reason}"
    return f"{estimate.source} says {estimate.factor:.3f} with a sigma of {estimate.relative_sigma:.0%}"
