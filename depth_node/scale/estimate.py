"""What a source of metric scale is, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera

SCALE_MODES = ("model", "fixed", "camera_height", "odometry", "auto")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ScaleEstimate:
    """What depth is to be multiplied by to be in metres.

    source: one of `SCALE_MODES` other than `auto`, or `unknown` with a factor of 1.
    relative_sigma: standard deviation of what the factor is off by for a single frame, in parts of it; NaN where
        nothing is known about it.
    reason: why it is this source, or why the scale is unknown; a clause without a full stop.
    warning: why it may be wrong all the same; empty where nothing says so.
    """

    factor: float
    source: str
    relative_sigma: float = math.nan
    reason: str = ""
    warning: str = ""

    @property
    def is_known(self) -> bool:
        """Whether depth times the factor is in metres; otherwise it is up to scale."""
        return self.source != UNKNOWN


def unknown_scale(reason: str) -> ScaleEstimate:
    """Depth is metres times an unknown factor, and why."""
    return ScaleEstimate(1.0, UNKNOWN, reason=reason)


class ScaleSource(Protocol):
    """Whatever knows the scale, from frames or otherwise."""

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        """The scale of this frame, of whose depth (float32 [H, W], as the model has it; NaN invalid) it may learn."""
        ...


@dataclass(frozen=True)
class ConstantScale:
    """A scale that no frame changes."""

    estimate: ScaleEstimate

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        return self.estimate


def model_scale(is_metric: bool) -> ConstantScale:
    """The scale of the model itself, which it has or has not; how right it is for this camera nobody knows."""
    if is_metric:
        return ConstantScale(ScaleEstimate(1.0, "model", reason="the model is metric"))
    return ConstantScale(unknown_scale("the model knows no scale"))
