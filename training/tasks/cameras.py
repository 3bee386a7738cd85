"""Learned cameras in a task: which data they need, and what is logged of them."""

from __future__ import annotations

import logging

from torch import Tensor, nn

from training.data.module import DepthData
from training.data.sample import Views
from training.errors import RecipeError
from training.networks.intrinsics import CameraIntrinsics, IntrinsicsHead

logger = logging.getLogger(__name__)


def check_cameras(learned: nn.Module | None, data: DepthData) -> None:
    """Refuse data whose cameras are neither known nor learned, and warn of data that a head learns by heart.

    Raises:
        RecipeError: unknown cameras are not learned, or as many as there are not.
    """
    if learned is None and not data.known_intrinsics:
        raise RecipeError(
            "data.known_intrinsics is false, and nothing learns intrinsics: set model.init_args.intrinsics of "
            "SelfSupervisedDepth, or data.known_intrinsics: true"
        )
    if isinstance(learned, CameraIntrinsics) and learned.options.cameras != data.cameras:
        raise RecipeError(
            f"model.init_args.intrinsics.cameras is {learned.options.cameras}, and data.train has {data.cameras} "
            "entries, a camera each: set the number to theirs"
        )
    if isinstance(learned, IntrinsicsHead) and data.min_crop == 1:
        logger.warning(
            "data.min_crop is 1: every frame has the camera's one K, which a head on the pose network learns by heart; "
            "set data.min_crop: 0.7 to vary it, or model.init_args.intrinsics.per: camera"
        )


def focal_terms(intrinsics: Tensor, views: Views) -> dict[str, Tensor]:
    """What to log of learned intrinsics [B, 4]: fx/W of the samples, and its relative error over known cameras.

    The error is NaN where none is known; asking for that would wait for the device.
    """
    focal = intrinsics[:, 0].detach()
    error = (focal / views.intrinsics[:, 0] - 1).abs()
    return {"focal": focal.mean(), "focal_error": error.nanmean()}
