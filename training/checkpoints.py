"""What a checkpoint tells about its depth network, so that evaluation and export need no recipe.

A task writes `DepthNetworkCard` as plain values beside the weights; files are read with `weights_only=True`, which
runs no code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from training.errors import CheckpointError, RecipeError
from training.networks.depth import Decoder, DepthNetwork
from training.networks.unet import DECODER_CHANNELS, DecoderChannels

CARD, POSE_CARD = "depth_network_card", "pose_network_card"  # a checkpoint has one of them, or both
PREFIX = "depth_network."


@dataclass(frozen=True)
class DepthNetworkCard:
    """How to rebuild a depth network and read its output.

    encoder, scales, decoder, decoder_channels: arguments of DepthNetwork.
    min_depth, max_depth: metres at sigmoid 1 and 0.
    metric: depth is in metres for a camera with the prior's focal length; otherwise up to scale.
    prior: intrinsics (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H) that it was trained for.
    width, height: input size of the training.
    """

    encoder: str
    scales: int
    min_depth: float
    max_depth: float
    metric: bool
    prior: tuple[float, float, float, float]
    width: int
    height: int
    decoder: Decoder = "unet"  # what networks had before there was a choice
    decoder_channels: DecoderChannels = DECODER_CHANNELS


@dataclass(frozen=True)
class TrainedDepth:
    """A depth network in evaluation mode, its card, and the optimiser steps it has seen."""

    network: DepthNetwork
    card: DepthNetworkCard
    steps: int


def write_card(checkpoint: dict[str, Any], card: DepthNetworkCard) -> None:
    """Put the card into a checkpoint that Lightning is about to save."""
    checkpoint[CARD] = asdict(card)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a task's checkpoint holds, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint of this package.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except Exception as error:  # torch raises many types for damaged or foreign files
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(checkpoint, dict) or not {CARD, POSE_CARD} & checkpoint.keys():
        raise CheckpointError(f"{path} has no {CARD}: it was not written by `python -m training train`")
    return checkpoint


def load_depth_network(path: Path) -> TrainedDepth:
    """The depth network of a checkpoint of a task that trains one.

    Raises:
        CheckpointError: as `read_checkpoint`, or it has none, or the card and the weights do not describe one network.
    """
    checkpoint = read_checkpoint(path)
    if CARD not in checkpoint:
        raise CheckpointError(
            f"{path} has no depth network: expected a checkpoint of another task than SupervisedMotion"
        )
    weights = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
    try:
        card = DepthNetworkCard(**{**checkpoint[CARD], "prior": tuple(checkpoint[CARD]["prior"])})
        network = DepthNetwork(card.encoder, False, card.scales, card.decoder, decoder_channels=card.decoder_channels)
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, RecipeError) as error:
        raise CheckpointError(
            f"{path} does not fit this version of the package ({error}): use the version that trained it"
        ) from error
    return TrainedDepth(network.eval(), card, int(checkpoint["global_step"]))


def initialize_depth_network(network: DepthNetwork, path: Path) -> None:
    """Give a network the weights of a checkpoint of the same encoder.

    The two may differ in the number of disparity heads: those that the checkpoint lacks stay as they are.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is of another architecture.
    """
    trained = load_depth_network(path)
    try:
        missing, unexpected = network.load_state_dict(trained.network.state_dict(), strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds a {trained.card.encoder} network of other shapes: {error}") from error
    others = [key for key in (*missing, *unexpected) if not key.startswith("decoder.heads.")]
    if others:
        raise CheckpointError(
            f"{path} holds a {trained.card.encoder} network, which differs in {', '.join(others[:3])}"
        )
