"""DenseDepth against the paper: its size, its channels, its skips."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.errors import RecipeError
from training.networks.dense_depth import DenseDepthDecoder, DenseNetEncoder
from training.networks.depth import DepthNetwork
from training.networks.encoders import feature_info


def test_size_of_the_paper() -> None:
    """42.6 M parameters (Alhashim and Wonka, 2018, table 1), from the layers of the authors' code."""
    network = DepthNetwork("densenet169", pretrained=False, scales=1, decoder="dense_depth").eval()
    widths, skips = (1664, 832, 416, 208, 104), (256, 128, 64, 64)
    decoder = widths[0] * (widths[0] + 1) + 9 * widths[-1] + 1
    for below, width, skip in zip(widths[:-1], widths[1:], skips, strict=True):
        decoder += 9 * (below + skip) * width + width + 9 * width * width + width
    assert sum(p.numel() for p in network.decoder.parameters()) == decoder
    encoder = 14_149_480 - 1000 * 1665  # torchvision's count of DenseNet-169, without its classifier
    assert sum(p.numel() for p in network.encoder.parameters()) == encoder
    assert 42.6e6 <= encoder + decoder < 42.7e6
    with torch.no_grad():
        half, whole = network(torch.zeros(1, 3, 96, 64))[0], network.disparity(torch.zeros(1, 3, 96, 64))
    assert (half.shape, whole.shape) == ((1, 1, 48, 32), (1, 1, 96, 64))


def test_decoder_has_no_batch_norm_and_leaks() -> None:
    decoder = DenseDepthDecoder((64, 64, 128, 256, 1664))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in decoder.modules())
    assert {m.negative_slope for m in decoder.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}


def test_skips_are_the_pools() -> None:
    """Between the dense blocks, after the transitions' pools, as DenseNet's own layers give them in turn."""
    torch.manual_seed(0)
    encoder = DenseNetEncoder("densenet169", pretrained=False).eval()
    info = feature_info(encoder)
    assert (info.channels(), info.reduction()) == ([64, 64, 128, 256, 1664], [2, 4, 8, 16, 32])
    with torch.no_grad():
        image = torch.rand(1, 3, 64, 64)
        maps = encoder(image)
        block = encoder.features.get_submodule("denseblock3")(maps[3])
        last = encoder.features.get_submodule("denseblock4")(encoder.features.get_submodule("transition3")(block))
        expected = encoder.features.get_submodule("norm5")(last)
    torch.testing.assert_close(maps[4], expected)
    assert all((m >= 0).all() for m in (maps[0], maps[1], maps[4]))  # after their ReLU


def test_only_a_densenet_and_one_scale() -> None:
    with pytest.raises(RecipeError, match="dense_depth needs a DenseNet as its encoder, such as densenet169, not res"):
        DepthNetwork("resnet18", pretrained=False, scales=1, decoder="dense_depth")
    with pytest.raises(RecipeError, match="dense_depth gives one disparity map, not 4: set scales: 1"):
        DepthNetwork("densenet169", pretrained=False, decoder="dense_depth")
