"""Depth network: a timm encoder and the U-Net decoder of Monodepth2 (Godard et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_MEAN, IMAGE_STD = 0.45, 0.225  # Monodepth2's one mean and spread for all channels
DECODER_CHANNELS = (16, 32, 64, 128, 256)  # finest first


def disparity_to_depth(disparity: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Depth in metres from a sigmoid disparity in (0, 1), linear in inverse depth (Monodepth2, section 3.2)."""
    return 1.0 / sigmoid_to_inverse_depth(disparity, min_depth, max_depth)


def sigmoid_to_inverse_depth(disparity: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Inverse depth in 1/m from a sigmoid disparity: 0 is 1/max_depth, 1 is 1/min_depth."""
    return 1.0 / max_depth + (1.0 / min_depth - 1.0 / max_depth) * disparity


def normalize(image: Tensor) -> Tensor:
    """RGB in 0..1 as the encoders expect it."""
    return (image - IMAGE_MEAN) / IMAGE_STD


class DepthNetwork(nn.Module):
    """Disparity at several scales from one image.

    Args:
        encoder: any timm model with features at strides 2, 4, 8, 16, 32.
        pretrained: start from timm's ImageNet weights (downloaded by timm on first use).
        scales: number of disparity maps: strides 1, 2, 4, ... of the input.
    """

    def __init__(self, encoder: str = "resnet18", pretrained: bool = True, scales: int = 4) -> None:
        super().__init__()
        self.encoder = create_encoder(encoder, pretrained)
        self.decoder = DepthDecoder(feature_info(self.encoder).channels(), scales)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Sigmoid disparities [B, 1, H/2^s, W/2^s] in (0, 1), finest first.

        image: float [B, 3, H, W], RGB in 0..1; H and W multiples of 32, at least 64.
        """
        return self.decoder(self.encoder(normalize(image)))


def create_encoder(name: str, pretrained: bool, in_channels: int = 3) -> nn.Module:
    """A timm feature extractor with five features at strides 2, 4, 8, 16, 32.

    Raises:
        ValueError: the model has other strides.
    """
    encoder = timm.create_model(name, features_only=True, pretrained=pretrained, in_chans=in_channels)
    strides = feature_info(encoder).reduction()
    if strides != [2, 4, 8, 16, 32]:
        raise ValueError(f"encoder {name} has features at strides {strides}; strides 2, 4, 8, 16, 32 are needed")
    return encoder


def feature_info(encoder: nn.Module) -> FeatureInfo:
    """Channels and strides of a timm feature extractor."""
    return cast(FeatureInfo, encoder.feature_info)


class DepthDecoder(nn.Module):
    """U-Net with nearest upsampling, ELU, reflection padding, and a sigmoid disparity at each of the finest scales."""

    def __init__(self, encoder_channels: Sequence[int], scales: int = 4) -> None:
        super().__init__()
        if not 1 <= scales <= len(DECODER_CHANNELS):
            raise ValueError(f"scales is {scales}; expected 1 to {len(DECODER_CHANNELS)}")
        below = [encoder_channels[-1], *reversed(DECODER_CHANNELS)]  # coarsest first
        skips = [*reversed(encoder_channels[:-1]), 0]
        self.reduce = nn.ModuleList(ConvBlock(a, b) for a, b in pairwise(below))
        self.merge = nn.ModuleList(ConvBlock(b + s, b) for b, s in zip(below[1:], skips, strict=True))
        self.heads = nn.ModuleList(DisparityHead(channels) for channels in DECODER_CHANNELS[:scales])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Disparities, finest first, of encoder features given finest first."""
        x = features[-1]
        skips: list[Tensor | None] = [*reversed(features[:-1]), None]
        disparities: list[Tensor] = []
        for stage, (reduce, merge, skip) in enumerate(zip(self.reduce, self.merge, skips, strict=True)):
            x = F.interpolate(reduce(x), scale_factor=2.0, mode="nearest")
            x = merge(x if skip is None else torch.cat([x, skip], dim=1))
            scale = len(skips) - 1 - stage
            if scale < len(self.heads):
                disparities.insert(0, self.heads[scale](x))
        return disparities


class ConvBlock(nn.Sequential):
    """3x3 convolution with reflection padding, then ELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect"),
            nn.ELU(inplace=True),
        )


class DisparityHead(nn.Sequential):
    """3x3 convolution to one sigmoid disparity."""

    def __init__(self, in_channels: int) -> None:
        convolution = nn.Conv2d(in_channels, 1, 3, padding=1, padding_mode="reflect")
        # Between 0.1 m and 100 m, sigmoid(-4) is 5 m: start among street depths, not at sigmoid(0), 0.2 m.
        nn.init.constant_(convolution.get_parameter("bias"), -4.0)
        super().__init__(convolution, nn.Sigmoid())

    def forward(self, input: Tensor) -> Tensor:
        """Disparity float32 [B, 1, H, W], under autocast, too: bfloat16 logits near -4 give depth in steps of 1.5 %."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())
