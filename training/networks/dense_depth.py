"""DenseDepth (Alhashim and Wonka, High Quality Monocular Depth Estimation via Transfer Learning, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from timm.models import DenseNet, FeatureInfo
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import RecipeError
from training.networks.encoders import create_timm_model
from training.networks.unet import DisparityHead

LEAK = 0.2
# What the decoder is joined to: the first activation and the pools, as in the authors' code; timm's own features are
# taken before the pools, and have up to five times as many channels.
SKIPS = {"norm0": 2, "pool0": 4, "transition1": 8, "transition2": 16, "norm5": 32}


class DenseNetEncoder(nn.Module):
    """DenseNet without its head: features at strides 2, 4, 8, 16, 32, finest first, after activation or pooling.

    Args:
        name: timm's `densenet169` (64, 64, 128, 256, 1664 channels), `densenet201`, ...
        pretrained: start from timm's ImageNet weights.
        weights: file to take them from.

    Raises:
        RecipeError: it is no DenseNet.
    """

    def __init__(self, name: str, pretrained: bool, weights: Path | None = None) -> None:
        super().__init__()
        model = create_timm_model(name, pretrained, weights, num_classes=0)
        if not isinstance(model, DenseNet):
            raise RecipeError(f"decoder dense_depth needs a DenseNet as its encoder, such as densenet169, not {name}")
        self.features = model.features
        channels = dict(zip(SKIPS, self._channels(), strict=True))
        self.feature_info = FeatureInfo(
            [{"num_chs": channels[layer], "reduction": s, "module": f"features.{layer}"} for layer, s in SKIPS.items()],
            out_indices=tuple(range(len(SKIPS))),
        )

    def _channels(self) -> list[int]:
        stem, last = self.features.get_submodule("norm0"), self.features.get_submodule("norm5")
        pools = [self.features.get_submodule(f"{pool}.conv") for pool in ("transition1", "transition2")]
        widths = [stem.num_features, stem.num_features, *(pool.out_channels for pool in pools), last.num_features]
        return [int(width) for width in widths]  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five maps, finest first."""
        features = []
        x = image
        for name, layer in self.features.named_children():
            x = layer(x)
            if name in SKIPS:
                features.append(x)
        return features


class DenseDepthDecoder(nn.Module):
    """1664-832-416-208-104-1 channels: bilinear upsampling, skips, two convolutions with LeakyReLU, no batch norm.

    The authors' network predicts max_depth / depth without an activation; here the last convolution is followed by the
    sigmoid of all our networks, which keeps depth between its limits.
    """

    def __init__(self, encoder_channels: Sequence[int]) -> None:
        super().__init__()
        widths = [encoder_channels[-1] >> stage for stage in range(len(encoder_channels))]  # coarsest first
        skips = reversed(encoder_channels[:-1])
        self.entry = nn.Conv2d(encoder_channels[-1], widths[0], 1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(below + skip, width, 3, padding=1),
                nn.LeakyReLU(LEAK, inplace=True),
                nn.Conv2d(width, width, 3, padding=1),
                nn.LeakyReLU(LEAK, inplace=True),
            )
            for (below, width), skip in zip(pairwise(widths), skips, strict=True)
        )
        self.heads = nn.ModuleList([DisparityHead(widths[-1])])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One disparity, at half the image's resolution, of encoder features given finest first."""
        x = self.entry(features[-1])
        for stage, skip in zip(self.stages, reversed(features[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, skip], dim=1))
        return [self.heads[0](x)]
