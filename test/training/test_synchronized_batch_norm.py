"""Synchronised normalisation replaces every layer and computes what the layer before did."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.networks.depth import DepthNetwork
from training.synchronized_batch_norm import SynchronizedBatchNorm


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_050"])
def test_it_is_the_same_network(encoder: str) -> None:
    """In evaluation the layers need no other processes: their output tells whether an activation got lost."""
    torch.manual_seed(0)
    network = DepthNetwork(encoder, pretrained=False, scales=1).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, names = network(image)[0], list(network.state_dict())
        layers = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
        converted = SynchronizedBatchNorm().apply(network)
        assert sum(isinstance(m, nn.SyncBatchNorm) for m in converted.modules()) == layers > 10
        assert list(converted.state_dict()) == names
        torch.testing.assert_close(converted(image)[0], before)
