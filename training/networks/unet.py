"""U-Net decoder of Monodepth2 (Godard et al., ICCV 2019), with a choice of how maps grow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from training.errors import RecipeError

Upsampling = Literal["nearest", "bilinear", "espcn"]
DecoderChannels = tuple[int, int, int, int, int]
DECODER_CHANNELS: DecoderChannels = (16, 32, 64, 128, 256)  # finest first


class DepthDecoder(nn.Module):
    """U-Net with ELU, reflection padding, and a sigmoid disparity at each of the finest scales.

    Args:
        encoder_channels: of the features at strides 2, 4, 8, 16, 32.
        scales: number of disparities.
        upsampling: what doubles a map at every stage.
        channels: of the maps at strides 1, 2, 4, 8, 16.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        scales: int = 4,
        upsampling: Upsampling = "nearest",
        channels: DecoderChannels = DECODER_CHANNELS,
    ) -> None:
        super().__init__()
        if not 1 <= scales <= len(channels):
            raise RecipeError(f"scales is {scales}; expected 1 to {len(channels)}")
        below = [encoder_channels[-1], *reversed(channels)]  # coarsest first
        skips = [*reversed(encoder_channels[:-1]), 0]
        self.reduce = nn.ModuleList(ConvBlock(a, b) for a, b in pairwise(below))
        self.grow = nn.ModuleList(upsample_twice(upsampling, b) for b in below[1:])
        self.merge = nn.ModuleList(ConvBlock(b + s, b) for b, s in zip(below[1:], skips, strict=True))
        self.heads = nn.ModuleList(DisparityHead(count) for count in channels[:scales])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Disparities, finest first, of encoder features given finest first."""
        x = features[-1]
        skips: list[Tensor | None] = [*reversed(features[:-1]), None]
        disparities: list[Tensor] = []
        for stage, (reduce, grow, merge, skip) in enumerate(
            zip(self.reduce, self.grow, self.merge, skips, strict=True)
        ):
            x = grow(reduce(x))
            x = merge(x if skip is None else torch.cat([x, skip], dim=1))
            scale = len(skips) - 1 - stage
            if scale < len(self.heads):
                disparities.insert(0, self.heads[scale](x))
        return disparities


def upsample_twice(upsampling: Upsampling, channels: int) -> nn.Module:
    """A layer from [B, channels, H, W] to [B, channels, 2 H, 2 W]."""
    if upsampling == "espcn":
        return SubPixelConvolution(channels)
    if upsampling == "bilinear":
        return nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)
    return nn.Upsample(scale_factor=2.0, mode="nearest")


class SubPixelConvolution(nn.Sequential):
    """ESPCN's upsampling: a convolution to C r^2 channels, r = 2, which become the pixels of C larger maps.

    Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network, CVPR 2016. The kernels of a pixel's four parts start equal (ICNR; Aitken et al., Checkerboard
    artifact free sub-pixel convolution, 2017), so that it begins as nearest upsampling.
    """

    def __init__(self, channels: int) -> None:
        convolution = nn.Conv2d(channels, 4 * channels, 3, padding=1, padding_mode="reflect")
        for parameter in convolution.parameters():
            parameter.data = parameter.data[::4].repeat_interleave(4, dim=0)
        super().__init__(convolution, nn.PixelShuffle(2))


class ConvBlock(nn.Sequential):
    """3x3 convolution with reflection padding, then ELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect"),
            nn.ELU(inplace=True),
        )


class DisparityHead(nn.Sequential):
    """Convolution to one sigmoid disparity."""

    def __init__(self, in_channels: int, kernel: int = 3) -> None:
        convolution = nn.Conv2d(in_channels, 1, kernel, padding=kernel // 2, padding_mode="reflect")
        # Between 0.1 m and 100 m, sigmoid(-4) is 5 m: start among street depths, not at sigmoid(0), 0.2 m.
        nn.init.constant_(convolution.get_parameter("bias"), -4.0)
        super().__init__(convolution, nn.Sigmoid())

    def forward(self, input: Tensor) -> Tensor:
        """Disparity float32 [B, 1, H, W], under autocast, too: bfloat16 logits near -4 give depth in steps of 1.5 %."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())
