"""What travels through the pipeline: a decoded frame in, a depth frame out. No ROS types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from depth_node.camera import PinholeCamera
    from depth_node.scale import ScaleEstimate


def stamp_ns(stamped: Any) -> int:
    """Nanoseconds of a message's header; negative ones exist, which rclpy's Time refuses."""
    stamp = stamped.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


@dataclass(frozen=True)
class Frame:
    """A decoded camera image.

    rgb: uint8 [H, W, 3]; stamp_ns: nanoseconds of the source's clock; frame_id: optical frame (REP 103).
    """

    stamp_ns: int
    frame_id: str
    rgb: NDArray[np.uint8]


@dataclass(frozen=True)
class NetworkView:
    """What the depth network saw of a frame, and what it said.

    image: uint8 [h, w, 3] RGB, the whole frame (rectified, if its camera is) at the size of the network's input.
    inverse_depth: float32 [h, w], 1/m of the model's depth for `camera`, before the metric scale; NaN where invalid.
    camera: of the frame at its own resolution. is_rectified: whether the frame was made with this camera.
    """

    stamp_ns: int
    frame_id: str
    image: NDArray[np.uint8]
    inverse_depth: NDArray[np.float32]
    camera: PinholeCamera
    is_rectified: bool = False


@dataclass(frozen=True)
class DepthFrame:
    """Depth of one frame, registered with it.

    frame: the image at the resolution of the depth; rectified, if its camera is.
    depth: float32 [H, W] metres along z (REP 118), NaN where invalid (REP 117), same size as `frame.rgb`.
    camera: the camera of both, at that resolution.
    intrinsics_source: `camera_info`, `learned` or `prior`.
    scale: what the model's depth was multiplied by, and where that is from.
    confidence: float32 [H, W] in 0..1, of models that give one.
    seconds: time spent per stage, such as `resize`, `inference`, `depth`.
    """

    frame: Frame
    depth: NDArray[np.float32]
    camera: PinholeCamera
    intrinsics_source: str
    scale: ScaleEstimate
    confidence: NDArray[np.float32] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
