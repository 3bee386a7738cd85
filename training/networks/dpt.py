"""DPT (Ranftl et al., Vision Transformers for Dense Prediction, ICCV 2021)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from timm.models import FeatureInfo, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import RecipeError
from training.networks.encoders import create_timm_model
from training.networks.unet import DisparityHead

TAPS = 4  # transformer blocks whose tokens are read, evenly spread, the last one included
HEAD_CHANNELS = 32

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class VisionTransformerEncoder(nn.Module):
    """Tokens of four transformer blocks as maps [B, D, H / patch, W / patch], first block first.

    The class token, where the model has one, is joined to every token and projected (the paper's `project` readout).
    Images may be of any size in patches: position embeddings are interpolated to it.

    Args:
        name: a vision transformer of timm, such as `vit_small_patch14_dinov2` or `vit_base_patch16_224`.
        pretrained: start from timm's weights.
        weights: file to take them from.

    Raises:
        RecipeError: it is no vision transformer.
    """

    def __init__(self, name: str, pretrained: bool, weights: Path | None = None) -> None:
        super().__init__()
        try:
            model = create_timm_model(name, pretrained, weights, num_classes=0, dynamic_img_size=True)
        except TypeError:  # other models do not know dynamic_img_size
            model = nn.Identity()
        if not isinstance(model, VisionTransformer):
            raise RecipeError(f"decoder dpt needs a vision transformer such as vit_small_patch14_dinov2, not {name}")
        self.vit = model
        width, depth = self.vit.embed_dim, len(self.vit.blocks)
        self.patch = int(self.vit.patch_embed.patch_size[0])
        self.taps = [depth * (tap + 1) // TAPS - 1 for tap in range(TAPS)]
        joined = TAPS if self.vit.cls_token is not None else 0
        self.readouts = nn.ModuleList(nn.Sequential(nn.Linear(2 * width, width), nn.GELU()) for _ in range(joined))
        self.feature_info = FeatureInfo(
            [{"num_chs": width, "reduction": self.patch, "module": f"vit.blocks.{tap}"} for tap in self.taps],
            out_indices=tuple(range(TAPS)),
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four maps of the same size."""
        joined = bool(self.readouts)
        features: list[Any] = cast(
            list[Any],
            self.vit.forward_intermediates(
                image, self.taps, return_prefix_tokens=joined, norm=True, intermediates_only=True
            ),
        )
        if not joined:
            return features
        maps = []
        for readout, (tokens, prefix) in zip(self.readouts, features, strict=True):
            class_token = prefix[:, 0, :, None, None].expand_as(tokens)
            maps.append(readout(torch.cat([tokens, class_token], dim=1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return maps


def with_fixed_input_size(network: NetworkT, width: int, height: int) -> NetworkT:
    """A copy whose transformers, if it has any, have position embeddings of one image size.

    For ONNX: its opset 17 has no operator for the interpolation (bicubic with antialiasing).
    """
    fixed = copy.deepcopy(network)
    for module in fixed.modules():
        if isinstance(module, VisionTransformerEncoder):
            module.vit.set_input_size((height, width))
    return fixed


class DPTDecoder(nn.Module):
    """Reassembles four maps of tokens at strides of a quarter, a half, one and two patches, and fuses them upwards.

    Channels follow the transformer's width D: D/8, D/4, D/2, D when reassembled (as in the paper's DPT-Base), and
    about D/6 in the fusion, as later small DPTs have it; the paper's is 256 wide for D = 768.

    Args:
        width: D, channels of the tokens.
        patch: pixels of a token's side.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        fused = max(HEAD_CHANNELS, width // 6 // 16 * 16)
        reassembled = [width // 8, width // 4, width // 2, width]
        self.project = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in reassembled)
        self.resample = nn.ModuleList(
            [
                nn.ConvTranspose2d(reassembled[0], reassembled[0], 4, stride=4),
                nn.ConvTranspose2d(reassembled[1], reassembled[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(reassembled[3], reassembled[3], 3, stride=2, padding=1),
            ]
        )
        self.adapt = nn.ModuleList(nn.Conv2d(channels, fused, 3, padding=1, bias=False) for channels in reassembled)
        self.fuse = nn.ModuleList(Fusion(fused, with_coarser=place < TAPS - 1) for place in range(TAPS))
        self.head = nn.Conv2d(fused, fused // 2, 3, padding=1)
        self.refine = nn.Sequential(nn.Conv2d(fused // 2, HEAD_CHANNELS, 3, padding=1), nn.ReLU(inplace=True))
        self.heads = nn.ModuleList([DisparityHead(HEAD_CHANNELS, kernel=1)])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One disparity, at the image's resolution, of four maps of tokens, first block first."""
        layers = zip(self.project, self.resample, self.adapt, features, strict=True)
        maps = [adapt(resample(project(tokens))) for project, resample, adapt, tokens in layers]
        fused = self.fuse[-1](maps[-1])
        for fuse, finer in zip(reversed(self.fuse[:-1]), reversed(maps[:-1]), strict=True):
            fused = fuse(finer, fused)
        x = self.head(F.interpolate(fused, scale_factor=2.0, mode="bilinear"))
        image_size = [self.patch * int(side) for side in features[-1].shape[-2:]]
        return [self.heads[0](self.refine(F.interpolate(x, image_size, mode="bilinear")))]


class Fusion(nn.Module):
    """Adds a map to the coarser ones fused before it, between residual units (figure 1 of the paper, right).

    The coarser map is brought to the finer one's size, which is not always twice its own: 5 tokens make 3 at twice the
    stride.
    """

    def __init__(self, channels: int, with_coarser: bool) -> None:
        super().__init__()
        self.before = ResidualUnit(channels) if with_coarser else nn.Identity()
        self.after = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, finer: Tensor, coarser: Tensor | None = None) -> Tensor:
        """[B, C, H, W], the finer map's size."""
        x: Tensor = self.before(finer)
        if coarser is not None:
            x = x + F.interpolate(coarser, finer.shape[-2:], mode="bilinear")
        result: Tensor = self.project(self.after(x))
        return result


class ResidualUnit(nn.Sequential):
    """Two convolutions, each after a ReLU, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, input: Tensor) -> Tensor:
        """As named."""
        return input + super().forward(input)
