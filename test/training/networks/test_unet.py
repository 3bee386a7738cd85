"""Ways to double a map, and where sub-pixel convolutions start."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from training.networks.unet import DepthDecoder, SubPixelConvolution, Upsampling, upsample_twice

CHANNELS = (4, 6, 8, 10, 12)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "espcn"])
def test_a_map_is_doubled(upsampling: Upsampling) -> None:
    assert upsample_twice(upsampling, 5)(torch.rand(2, 5, 4, 6)).shape == (2, 5, 8, 12)


def test_a_ramp_in_steps_or_not() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    nearest, bilinear = (upsample_twice(kind, 1)(ramp)[0, 0, 4] for kind in ("nearest", "bilinear"))
    assert nearest.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert bilinear.tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]  # pixel centres are integers, as everywhere


def test_sub_pixel_convolution_starts_as_nearest_upsampling_of_a_convolution() -> None:
    """So no pattern of 2x2 pixels is there before training puts one in."""
    torch.manual_seed(0)
    layer = SubPixelConvolution(3)
    convolution = layer[0]
    assert isinstance(convolution, nn.Conv2d)
    x = torch.randn(2, 3, 5, 7)
    kernels, offsets = convolution.weight[::4], convolution.get_parameter("bias")[::4]
    coarse = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernels, offsets)
    torch.testing.assert_close(layer(x), F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
    assert kernels.std() > 0.05
    assert not torch.equal(kernels[0], kernels[1])


def test_sub_pixel_convolution_can_learn_what_nearest_cannot() -> None:
    """Each of the four pixels has kernels of its own: their gradients differ."""
    torch.manual_seed(0)
    layer = SubPixelConvolution(1)
    checkerboard = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    (layer(torch.ones(1, 1, 4, 4))[0, 0] * checkerboard).sum().backward()
    gradient = layer[0].get_parameter("bias").grad
    assert gradient is not None
    assert gradient.tolist() == [16, -16, -16, 16]


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "espcn"])
def test_every_weight_learns(upsampling: Upsampling) -> None:
    torch.manual_seed(0)
    decoder = DepthDecoder(CHANNELS, scales=3, upsampling=upsampling)
    features = [torch.rand(1, c, 64 >> i, 64 >> i) for i, c in enumerate(CHANNELS)]
    disparities = decoder(features)
    assert [tuple(d.shape[-2:]) for d in disparities] == [(128, 128), (64, 64), (32, 32)]
    sum(d.mean() for d in disparities).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())
