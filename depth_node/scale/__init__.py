"""Metric scale of depth: as the model has it, as the user gives it, or from the camera's height over the ground.

A source of scale is asked once per frame (`ScaleSource.update`) and says what the frame's depth is to be multiplied by.
"""

from __future__ import annotations

import math

from depth_node.scale.camera_height import CameraHeightScale
from depth_node.scale.estimate import (
    SCALE_MODES,
    ConstantScale,
    ScaleEstimate,
    ScaleSource,
    model_scale,
    unknown_scale,
)
from depth_node.scale.filter import ScaleFilter
from depth_node.scale.ground import GroundPlane, ground_plane

__all__ = [
    "SCALE_MODES",
    "CameraHeightScale",
    "ConstantScale",
    "GroundPlane",
    "ScaleEstimate",
    "ScaleFilter",
    "ScaleSource",
    "create_scale_source",
    "ground_plane",
    "model_scale",
    "unknown_scale",
]


def create_scale_source(
    mode: str, *, metric: bool, factor: float = 1.0, camera_height: float = math.nan
) -> ScaleSource:
    """The source of one of `SCALE_MODES`.

    metric: whether the model's depth is in metres; decides between `model` and `unknown` in mode `model`.
    factor: of mode `fixed`. camera_height: metres over the ground, of mode `camera_height`.
    """
    if mode == "camera_height":
        return CameraHeightScale(camera_height)
    if mode == "fixed":
        return ConstantScale(ScaleEstimate(factor, "fixed", 0.0, "set by scale.factor"))
    return model_scale(metric)
