"""How much of the focal length motion betrays: only rotation does.

Between two images of a translating camera, p' = (z p + K t) / (z + t_z): another K with K t as it was explains the same
images, so that the focal length cannot be told. A rotation moves pixels by f r + r x^2 / f, of which another rotation
makes up for the first part; the second betrays f, most at the image's edge (Gordon et al., Depth from Videos in the
Wild, ICCV 2019, section 3.1: with less than one pixel there, the focal length is known to 2 f^2 / (r w^2) at best).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PIXELS = 0.1  # what photometric alignment over many pixels resolves
LARGEST_TOLERANCE = 0.2  # a focal length known no better than this is not known


def edge_shift_per_focal_error(axis_angle: Tensor, intrinsics: Tensor, width: int, height: int) -> Tensor:
    """Pixels [...] that the image's edges move by per relative error of the focal length.

    axis_angle: float [..., 3], radians. intrinsics: float [..., 4], normalised. width, height: pixels.
    """
    focal_x, focal_y, *_ = intrinsics.unbind(-1)
    turn_x, turn_y, _ = axis_angle.unbind(-1)
    return torch.hypot(width * turn_y / (2 * focal_x), height * turn_x / (2 * focal_y))


def focal_tolerance(edge_shift: float) -> float:
    """Relative error of the focal length that goes unseen, of the root mean square of `edge_shift_per_focal_error`."""
    return PIXELS / edge_shift if edge_shift > 0 else math.inf


def is_observable(edge_shift: float) -> bool:
    """Whether rotations told the focal length at all."""
    return focal_tolerance(edge_shift) <= LARGEST_TOLERANCE


def unobservable(edge_shift: float) -> str:
    """What to tell the user in place of a focal length."""
    return (
        f"the focal length cannot be told from this video: its camera hardly turns. An error of 10 % moves no pixel by "
        f"more than {0.1 * edge_shift:.2g}, and depth or translation makes up for the rest; learn it from a drive with "
        "bends, or set the camera by a calibration"
    )
