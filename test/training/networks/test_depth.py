"""Depth network: shapes, Monodepth2's size, where it starts, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.errors import RecipeError
from training.networks.depth import (
    DepthNetwork,
    DepthNetworkOptions,
    create_depth_network,
    disparity_to_depth,
    sigmoid_to_inverse_depth,
)

TINY = "mobilenetv3_small_050"


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_disparities_at_each_scale_finest_first(scales: int) -> None:
    disparities = DepthNetwork(TINY, pretrained=False, scales=scales)(torch.rand(2, 3, 64, 96))
    assert [tuple(d.shape) for d in disparities] == [(2, 1, 64 >> s, 96 >> s) for s in range(scales)]
    assert all(((d > 0) & (d < 1)).all() for d in disparities)


def test_size_of_monodepth2s_network() -> None:
    """Encoder: ResNet-18 of torchvision, 11,689,512 weights, without its fc layer; decoder: as published, 3.15 M."""
    network = DepthNetwork("resnet18", pretrained=False)
    assert count(network.encoder) == 11_689_512 - 513_000
    assert count(network.decoder) == 3_152_724


def test_starts_among_street_depths() -> None:
    """Between 0.1 m and 100 m: near sigmoid(-4), 5.3 m, not at sigmoid(0), 0.2 m."""
    torch.manual_seed(0)
    network = DepthNetwork("resnet18", pretrained=False, scales=1).eval()
    with torch.no_grad():
        depth = disparity_to_depth(network(torch.rand(1, 3, 64, 96))[0], 0.1, 100.0)
    assert 2 < depth.median().item() < 15


def test_gradient_reaches_every_weight() -> None:
    torch.manual_seed(0)
    network = DepthNetwork(TINY, pretrained=False)
    sum(d.mean() for d in network(torch.rand(2, 3, 64, 96))).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_inverse_depth_is_linear_in_disparity() -> None:
    disparity = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    inverse = sigmoid_to_inverse_depth(disparity, 0.5, 80.0)
    assert inverse.tolist() == pytest.approx([1 / 80, 0.75 / 80 + 0.25 / 0.5, 1 / 0.5])
    torch.testing.assert_close(disparity_to_depth(disparity, 0.5, 80.0), 1 / inverse)


@pytest.mark.parametrize("scales", [0, 6])
def test_number_of_scales_is_checked(scales: int) -> None:
    with pytest.raises(RecipeError, match=f"scales is {scales}; expected 1 to 5"):
        DepthNetwork(TINY, pretrained=False, scales=scales)


def test_disparity_is_fine_under_mixed_precision() -> None:
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        disparity = DepthNetwork(TINY, pretrained=False, scales=1)(torch.rand(1, 3, 64, 96))[0]
    assert disparity.dtype == torch.float32
    assert disparity.unique().numel() > 1000  # bfloat16 has some ten steps in the spread of an untrained network


def test_a_network_of_a_recipe_and_what_is_not_known() -> None:
    network = create_depth_network(DepthNetworkOptions(TINY, "unet_espcn"), pretrained=False, scales=2)
    assert network.scales == 2
    assert any(isinstance(module, nn.PixelShuffle) for module in network.modules())
    with pytest.raises(RecipeError, match="no decoder 'unett': expected one of unet, unet_bilinear, unet_espcn"):
        DepthNetwork(TINY, pretrained=False, decoder="unett")  # type: ignore[arg-type]


def test_a_narrower_decoder_has_fewer_parameters_and_belongs_to_unets() -> None:
    options = DepthNetworkOptions(TINY, decoder_channels=(8, 16, 32, 64, 128))
    narrow = create_depth_network(options, pretrained=False, scales=4)
    assert [head[0].in_channels for head in narrow.decoder.get_submodule("heads")] == [8, 16, 32, 64]  # type: ignore[union-attr]
    full = create_depth_network(DepthNetworkOptions(TINY), pretrained=False, scales=4)
    count = [sum(p.numel() for p in network.decoder.parameters()) for network in (narrow, full)]
    assert count[0] < count[1] / 2
    with pytest.raises(RecipeError, match="decoder_channels are for unet, unet_bilinear, unet_espcn; dpt has its own"):
        DepthNetwork("test_vit", False, 1, "dpt", decoder_channels=(8, 16, 32, 64, 128))


def test_input_sizes_that_a_unet_can_take() -> None:
    network = DepthNetwork(TINY, pretrained=False, scales=1)
    network.check_input_size(640, 192)
    with pytest.raises(RecipeError, match=r"input size is 100x64; .* multiples of 32: set .*to 96 and 64"):
        network.check_input_size(100, 64)


@pytest.mark.parametrize("name", ["convnext_tiny", "test_convnext"])
def test_unet_on_an_encoder_that_begins_at_stride_4(name: str) -> None:
    network = DepthNetwork(name, pretrained=False)
    assert [d.shape[-1] for d in network(torch.rand(1, 3, 64, 64))] == [64, 32, 16, 8]
