"""Metric scale of depth: as the model has it, as the user gives it, from the camera's height, or from odometry.

A source of scale is asked once per frame (`ScaleSource.update`) and says what the frame's depth is to be multiplied by.
"""

from __future__ import annotations

from depth_node.scale.auto import AutoScale
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
from depth_node.scale.odometry_buffer import OdometryBuffer
from depth_node.scale.visual_odometry import VisualOdometryScale

__all__ = [
    "SCALE_MODES",
    "AutoScale",
    "CameraHeightScale",
    "ConstantScale",
    "GroundPlane",
    "OdometryBuffer",
    "ScaleEstimate",
    "ScaleFilter",
    "ScaleSource",
    "VisualOdometryScale",
    "create_scale_source",
    "ground_plane",
    "model_scale",
    "unknown_scale",
]


def create_scale_source(
    mode: str, odometry: VisualOdometryScale, *, metric: bool, factor: float = 1.0, camera_height: float = 0.0
) -> ScaleSource:
    """The source of one of `SCALE_MODES`.

    odometry: of modes `odometry` and `auto`; it goes on learning, whoever asks it.
    metric: whether the model's depth is in metres; what modes `model` and, in the end, `auto` go by.
    factor: of mode `fixed`. camera_height: metres over the ground, of modes `camera_height` and, unless 0, `auto`.
    """
    if mode == "odometry":
        return odometry
    if mode == "auto":
        height = CameraHeightScale(camera_height) if camera_height > 0 else None
        return AutoScale(model_scale(metric), odometry, height)
    if mode == "camera_height":
        return CameraHeightScale(camera_height)
    if mode == "fixed":
        return ConstantScale(ScaleEstimate(factor, "fixed", 0.0, "set by scale.factor"))
    return model_scale(metric)
