"""STDC encoders: short-term dense concatenation.

Source: Fan et al., Rethinking BiSeNet for Real-time Semantic Segmentation, CVPR 2021. Weights are named as the
authors' are, so that their ImageNet files can be read.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

STDC_BLOCKS = {"stdc1": (2, 2, 2), "stdc2": (4, 5, 3)}
"""Blocks at strides 8, 16, 32: STDC1 is the authors' STDCNet813, STDC2 their STDCNet1446."""
CHANNELS = (32, 64, 256, 512, 1024)


class STDCNet(nn.Module):
    """Features at strides 2, 4, 8, 16, 32 with 32, 64, 256, 512, 1024 channels.

    Args:
        name: `stdc1` or `stdc2`.
        in_channels: channels of the image.
    """

    def __init__(self, name: str, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvUnit(in_channels, CHANNELS[0], 3, 2), ConvUnit(CHANNELS[0], CHANNELS[1], 3, 2)]
        below = CHANNELS[1]
        for channels, blocks in zip(CHANNELS[2:], STDC_BLOCKS[name], strict=True):
            for block in range(blocks):
                layers.append(STDCBlock(below, channels, stride=2 if block == 0 else 1))
                below = channels
        self.features = nn.Sequential(*layers)
        self._last_of_stage = [end - 1 for end in accumulate((1, 1, *STDC_BLOCKS[name]))]
        self.feature_info = FeatureInfo(
            [
                {"num_chs": channels, "reduction": 2 << stage, "module": f"features.{last}"}
                for stage, (channels, last) in enumerate(zip(CHANNELS, self._last_of_stage, strict=True))
            ],
            out_indices=tuple(range(len(CHANNELS))),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five maps, finest first."""
        features = []
        x = image
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self._last_of_stage:
                features.append(x)
        return features


class STDCBlock(nn.Module):
    """Four convolutions in a row, each narrower than the one before, whose outputs together are the block's output.

    At stride 2, a depthwise convolution halves the first output on its way to the second, and an average halves it on
    its way to the block's output (figure 3c of the paper).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half, quarter, eighth = (out_channels // n for n in (2, 4, 8))
        self.conv_list = nn.ModuleList(
            [
                ConvUnit(in_channels, half, 1),
                ConvUnit(half, quarter, 3),
                ConvUnit(quarter, eighth, 3),
                ConvUnit(eighth, eighth, 3),
            ]
        )
        self.avd_layer: nn.Module = nn.Identity()
        self.skip: nn.Module = nn.Identity()
        if stride == 2:
            depthwise = nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False)
            self.avd_layer = nn.Sequential(depthwise, nn.BatchNorm2d(half))
            self.skip = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, out, H / stride, W / stride]."""
        first = self.conv_list[0](x)
        outputs = [self.skip(first)]
        x = self.avd_layer(first)
        for conv in self.conv_list[1:]:
            x = conv(x)
            outputs.append(x)
        return torch.cat(outputs, dim=1)


class ConvUnit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """As named."""
        result: Tensor = self.relu(self.bn(self.conv(x)))
        return result
