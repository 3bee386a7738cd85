"""What a checkpoint tells about its pose network, beside the card of its depth network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.checkpoints import load_depth_network, read_checkpoint
from training.errors import CheckpointError, RecipeError
from training.networks.pose import PoseNetwork

POSE_CARD = "pose_network_card"
POSE_PREFIX = "pose_network."
SHARED_ENCODER = "shared"  # the pose network sees frames through the depth network's encoder


@dataclass(frozen=True)
class PoseNetworkCard:
    """How to rebuild a pose network: `encoder` is the name of its own encoder, or SHARED_ENCODER."""

    encoder: str


@dataclass(frozen=True)
class TrainedPose:
    """A pose network in evaluation mode, the input size of its training, and the optimiser steps it has seen."""

    network: PoseNetwork
    width: int
    height: int
    steps: int


def write_pose_card(checkpoint: dict[str, Any], card: PoseNetworkCard) -> None:
    """Put the card into a checkpoint that Lightning is about to save."""
    checkpoint[POSE_CARD] = asdict(card)


def load_pose_network(path: Path) -> TrainedPose:
    """The pose network of a checkpoint that has one.

    Raises:
        CheckpointError: the file cannot be read, has no pose network, or its card and weights do not belong together.
    """
    checkpoint = read_checkpoint(path)
    if POSE_CARD not in checkpoint:
        raise CheckpointError(f"{path} has no pose network: expected a checkpoint of the task SelfSupervisedDepth")
    weights = {k.removeprefix(POSE_PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(POSE_PREFIX)}
    depth = load_depth_network(path)
    try:
        name = PoseNetworkCard(**checkpoint[POSE_CARD]).encoder
        network = PoseNetwork(depth.network.encoder if name == SHARED_ENCODER else name, pretrained=False)
        network.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError, RecipeError) as error:
        raise CheckpointError(
            f"{path} does not fit this version of the package ({error}): use the version that trained it"
        ) from error
    return TrainedPose(network.eval(), depth.card.width, depth.card.height, depth.steps)
