"""Whether the camera moved between two images, and whether recording went on between two stamps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

STILL_MOTION = 0.0005
"""Image motion below which a camera stands still, in image widths.

Measured on KITTI raw and a dashcam: a standing car shows 0.00004 to 0.00015 (sensor noise, JPEG), a moving one 0.0042
and more from frame to frame at 10 Hz, and one that rolls to a stop at a traffic light everything between.
"""

_WIDTH = 192
_MIN_HEIGHT = 32  # of the flow's coarsest level


def motion_thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What `image_motion` compares, uint8 [h, 192] grey, of an image uint8 [H, W, 3]."""
    height = max(round(rgb.shape[0] * _WIDTH / rgb.shape[1]), _MIN_HEIGHT)
    small = cv2.resize(rgb, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def image_motion(previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> float:
    """Median length of the optical flow between two thumbnails, in image widths.

    The median, since other traffic moves in the image of a standing camera, too. The flow is DIS (Kroeger et al.,
    ECCV 2016), about 1 ms; infinite for images of different shape, which are not of one recording.
    """
    if previous.shape != current.shape:
        return float("inf")
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)  # type: ignore[attr-defined]
    flow = estimator.calc(previous, current, np.zeros((*previous.shape, 2), np.float32))
    return float(np.median(np.hypot(flow[..., 0], flow[..., 1]))) / previous.shape[1]


def is_gap(previous_ns: int, stamp_ns: int, longest_s: float) -> bool:
    """Whether two successive stamps are no neighbours: further apart than `longest_s`, or not in order."""
    return not 0 < stamp_ns - previous_ns <= longest_s * 1e9
