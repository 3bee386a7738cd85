"""What a checkpoint tells about its pose network, with or without a depth network beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from training.checkpoints import POSE_CARD, load_depth_network, read_checkpoint
from training.errors import CheckpointError, RecipeError
from training.networks.intrinsics import (
    CameraIntrinsics,
    IntrinsicsHead,
    LearnedIntrinsics,
    create_learned_intrinsics,
)
from training.networks.pose import PoseNetwork

POSE_PREFIX = "pose_network."
INTRINSICS_PREFIX = "learned_intrinsics."
SHARED_ENCODER = "shared"  # the pose network sees frames through the depth network's encoder


@dataclass(frozen=True)
class PoseTraining:
    """How a pose network was trained.

    width, height: input size. metric: translations are in metres. prior: intrinsics, normalised.
    """

    width: int
    height: int
    metric: bool
    prior: tuple[float, float, float, float]


@dataclass(frozen=True)
class PoseNetworkCard:
    """How to rebuild a pose network, and what learned intrinsics with it.

    encoder: name of its own encoder, or SHARED_ENCODER. intrinsics: options of `create_learned_intrinsics`, None where
    cameras were known. training: None where the card of a depth network, trained with it, says the same.
    """

    encoder: str
    intrinsics: LearnedIntrinsics | None = None
    training: PoseTraining | None = None


@dataclass(frozen=True)
class TrainedPose:
    """A pose network in evaluation mode, and the intrinsics that were learned with it.

    width, height: input size of the training. steps: optimiser steps it has seen. metric: translations are in metres.
    prior: intrinsics of the training, normalised. supervised: the intrinsics were learned from known cameras, so that
    they may be told by what the images show, also of a camera that does not turn.
    """

    network: PoseNetwork
    intrinsics: IntrinsicsHead | CameraIntrinsics | None
    width: int
    height: int
    steps: int
    metric: bool
    prior: tuple[float, float, float, float]
    supervised: bool = False


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
        raise CheckpointError(
            f"{path} has no pose network: expected a checkpoint of the task SelfSupervisedDepth or SupervisedMotion"
        )
    weights = checkpoint["state_dict"]
    try:
        card = _read_card(checkpoint[POSE_CARD])
        encoder: str | nn.Module = card.encoder
        training = card.training
        if training is None:
            depth = load_depth_network(path)
            training = PoseTraining(depth.card.width, depth.card.height, depth.card.metric, depth.card.prior)
            encoder = depth.network.encoder if card.encoder == SHARED_ENCODER else card.encoder
        network = PoseNetwork(encoder, pretrained=False)
        network.load_state_dict(_below(POSE_PREFIX, weights))
        learned = None
        if card.intrinsics is not None:
            learned = create_learned_intrinsics(card.intrinsics, network.bottleneck_channels).eval()
            learned.load_state_dict(_below(INTRINSICS_PREFIX, weights))
    except (TypeError, ValueError, RuntimeError, RecipeError) as error:
        raise CheckpointError(
            f"{path} does not fit this version of the package ({error}): use the version that trained it"
        ) from error
    size, steps = (training.width, training.height), int(checkpoint["global_step"])
    supervised = card.training is not None
    return TrainedPose(network.eval(), learned, *size, steps, training.metric, training.prior, supervised)


def initialize_pose_network(network: PoseNetwork, head: IntrinsicsHead, path: Path) -> None:
    """Give a pose network and its head the weights of a checkpoint; a head that it lacks stays as it is.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is of another architecture.
    """
    trained = load_pose_network(path)
    try:
        network.load_state_dict(trained.network.state_dict())
        if trained.intrinsics is not None:
            head.load_state_dict(trained.intrinsics.state_dict())
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds a pose network or a head of another shape: {error}") from error


def _read_card(content: dict[str, Any]) -> PoseNetworkCard:
    options = content.get("intrinsics")  # cards had none before cameras could be learned
    training = content.get("training")
    return PoseNetworkCard(
        content["encoder"],
        None if options is None else LearnedIntrinsics(**options),
        None if training is None else PoseTraining(**{**training, "prior": tuple(training["prior"])}),
    )


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
