"""Image encoders: features at strides 2, 4, 8, 16, 32 of STDC, of DenseDepth's DenseNet, and of any timm model."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.stdc import STDC_BLOCKS, STDCNet

IMAGE_MEAN, IMAGE_STD = 0.45, 0.225  # Monodepth2's one mean and spread for all channels
STRIDES = [2, 4, 8, 16, 32]
STEM_CHANNELS = 64

logger = logging.getLogger(__name__)


def normalize(image: Tensor) -> Tensor:
    """RGB in 0..1 as the encoders expect it."""
    return (image - IMAGE_MEAN) / IMAGE_STD


def create_encoder(
    name: str, pretrained: bool, in_channels: int = 3, weights: Path | None = None, with_stem: bool = True
) -> nn.Module:
    """A feature extractor: five maps at strides 2, 4, 8, 16, 32, finest first, described by `feature_info`.

    Args:
        name: `stdc1`, `stdc2`, or a timm model. Of a model with further strides (DarkNet's 1), those maps are left
            out. To one that begins at stride 4 (ConvNeXt), a convolution of the image adds stride 2.
        pretrained: start from timm's ImageNet weights (downloaded by timm on first use).
        in_channels: channels of the image; pretrained weights of the first convolution are repeated and scaled.
        weights: file to take pretrained weights from, as `read_weights` does.
        with_stem: add that convolution; who needs the coarsest map only does without.

    Raises:
        RecipeError: there is no such encoder, or none with these strides or weights.
    """
    if name in STDC_BLOCKS:
        return _create_stdc(name, pretrained, in_channels, weights)
    options: dict[str, Any] = {"features_only": True, "in_chans": in_channels}
    encoder = create_timm_model(name, pretrained, weights, **options)
    if getattr(encoder, "output_fmt", "NCHW") != "NCHW":
        raise RecipeError(f"encoder {name} gives maps with channels last, for images of one size; choose another")
    strides = feature_info(encoder).reduction()
    if strides == STRIDES:
        return encoder
    if strides == STRIDES[1:]:
        return StemmedEncoder(encoder, in_channels) if with_stem else encoder
    if not set(STRIDES) <= set(strides):
        raise RecipeError(f"encoder {name} has features at strides {strides}; strides 2, 4, 8, 16, 32 are needed")
    places = [strides.index(stride) for stride in STRIDES]
    return create_timm_model(name, pretrained, weights, out_indices=places, **options)


def feature_info(encoder: nn.Module) -> FeatureInfo:
    """Channels and strides of an encoder."""
    return cast(FeatureInfo, encoder.feature_info)


def create_timm_model(name: str, pretrained: bool, weights: Path | None = None, **options: Any) -> nn.Module:
    """timm's `create_model`, whose errors name what can be done.

    Raises:
        RecipeError: timm has no such model, or its weights cannot be had.
    """
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, [*STDC_BLOCKS, *timm.list_models()], n=1)
        raise RecipeError(f"there is no encoder {name!r}: {f'did you mean {near[0]!r}?' if near else 'see timm'}")
    if weights is not None:
        pretrained, options["pretrained_cfg_overlay"] = True, {"state_dict": read_weights(weights)}
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        source = weights or "timm's download"
        raise RecipeError(
            f"no pretrained weights for {name} from {source} ({error}): name a file of them in network.encoder_weights "
            "(depth), or set pretrained: false"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """State dictionary of a .safetensors file, or of one that torch.save wrote, with or without training state.

    Raises:
        RecipeError: the file is missing or damaged, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged or foreign files
        raise RecipeError(f"{path} cannot be read as weights: {error}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict):
        raise RecipeError(f"{path} holds a {type(state).__name__}: expected a dictionary of weights")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _create_stdc(name: str, pretrained: bool, in_channels: int, weights: Path | None) -> STDCNet:
    encoder = STDCNet(name, in_channels)
    if weights is not None:
        state = {k: v for k, v in read_weights(weights).items() if k.startswith("features.")}  # no classifier
        try:
            encoder.load_state_dict(state)
        except RuntimeError as error:
            raise RecipeError(f"{weights} does not hold the authors' weights of {name}: {error}") from error
    elif pretrained:
        logger.warning(
            "%s starts from random weights: its authors' cannot be downloaded automatically; name their file in "
            "network.encoder_weights",
            name,
        )
    return encoder


class StemmedEncoder(nn.Module):
    """An encoder that begins at stride 4, and a convolution of the image for stride 2.

    The U-Net's finest skip then carries edges of the image itself, which upsampled features of stride 4 could not.
    """

    def __init__(self, body: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, STEM_CHANNELS, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.body = body
        first = {"num_chs": STEM_CHANNELS, "reduction": 2, "module": "stem"}
        info = [first, *feature_info(body).get_dicts(["num_chs", "reduction", "module"])]
        self.feature_info = FeatureInfo(info, out_indices=tuple(range(len(info))))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five maps, finest first."""
        return [self.stem(image), *self.body(image)]
