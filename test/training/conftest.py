"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.checkpoints import DepthNetworkCard, TrainedDepth, write_card
from training.data.synthetic import DriveOptions, write_street_drive
from training.networks.depth import DepthNetwork


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Tiny networks gain nothing from threads, and on a busy machine these wait for each other twenty times as long."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_depth() -> TrainedDepth:
    """A 96x64 depth network with random weights, as if it had seen 7 steps."""
    card = DepthNetworkCard(
        encoder="mobilenetv3_small_050",
        scales=1,
        min_depth=0.5,
        max_depth=100.0,
        metric=True,
        prior=(0.58, 1.92, 0.49, 0.46),
        width=96,
        height=64,
    )
    torch.manual_seed(12)
    return TrainedDepth(DepthNetwork(card.encoder, pretrained=False, scales=1).eval(), card, steps=7)


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """Writes a checkpoint of a depth network as a task does, with `entries` in place of its own."""

    def write(path: Path, trained: TrainedDepth, **entries: Any) -> Path:
        weights = {f"depth_network.{name}": value for name, value in trained.network.state_dict().items()}
        checkpoint: dict[str, Any] = {"state_dict": weights, "global_step": trained.steps}
        write_card(checkpoint, trained.card)
        torch.save({**checkpoint, **entries}, path)
        return path

    return write


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic drives of four 96x64 frames each."""
    root = tmp_path_factory.mktemp("streets")
    for seed in (0, 1):
        write_street_drive(root / f"street_{seed}", seed, DriveOptions(width=96, height=64, frames=4, step=1.0))
    return root
