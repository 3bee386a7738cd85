"""What the losses of a recipe need of its data, and what both make of depth."""

from __future__ import annotations

from training.data.module import DepthData
from training.errors import RecipeError
from training.losses.options import SelfSupervisedLosses


def check_losses(losses: SelfSupervisedLosses, data: DepthData) -> None:
    """Refuse losses whose samples lack something.

    Raises:
        RecipeError: instance masks or speeds are not asked for, or poses leave no motion to supervise.
    """
    if losses.instances is not None and not data.instances:
        raise RecipeError("losses.instances needs instance masks: set data.instances: true (`prepare --instances`)")
    if losses.velocity and not data.speed:
        raise RecipeError("losses.velocity needs speeds: set data.speed: true")
    if losses.velocity and (data.known_poses or not data.source_offsets):
        raise RecipeError(
            "losses.velocity supervises the motion between neighbours, and here none is learned: set it to 0"
        )


def is_metric(losses: SelfSupervisedLosses, data: DepthData) -> bool:
    """Whether depth comes out in metres: known motion, a known baseline or known speed say how long a metre is."""
    return data.known_poses or data.stereo or losses.velocity > 0
