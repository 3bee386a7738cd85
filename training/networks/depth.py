"""Depth network: an encoder and a decoder by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import RecipeError
from training.networks.dense_depth import DenseDepthDecoder, DenseNetEncoder
from training.networks.dpt import DPTDecoder, VisionTransformerEncoder
from training.networks.encoders import create_encoder, feature_info, normalize
from training.networks.unet import DECODER_CHANNELS, DecoderChannels, DepthDecoder, Upsampling

Decoder = Literal["unet", "unet_bilinear", "unet_espcn", "dense_depth", "dpt"]
UPSAMPLING: dict[str, Upsampling] = {"unet": "nearest", "unet_bilinear": "bilinear", "unet_espcn": "espcn"}
COARSEST_STRIDE = 32


@dataclass(frozen=True)
class DepthNetworkOptions:
    """Which depth network a recipe trains.

    Args:
        encoder: timm model with features at strides 2 to 32 or 4 to 32 (resnet18, resnet50, convnext_tiny,
            efficientnet_b0, darknet53, densenet169, mobilenetv3_large_100, ...), stdc1, stdc2, or, for dpt, a vision
            transformer (vit_small_patch14_dinov2, ...).
        decoder: unet (Monodepth2's, nearest upsampling), unet_bilinear, unet_espcn (sub-pixel convolutions),
            dense_depth (with a DenseNet; half-resolution output), or dpt (with a vision transformer).
        encoder_weights: file to start the encoder from instead of what timm downloads: .safetensors or torch.save's, in
            timm's layout; for stdc1 and stdc2 in their authors'.
        decoder_channels: of the U-Net decoders at strides 1, 2, 4, 8, 16; fewer make a faster and smaller network.
    """

    encoder: str = "resnet18"
    decoder: Decoder = "unet"
    encoder_weights: Path | None = None
    decoder_channels: DecoderChannels = DECODER_CHANNELS


def disparity_to_depth(disparity: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Depth in metres from a sigmoid disparity in (0, 1), linear in inverse depth (Monodepth2, section 3.2)."""
    return 1.0 / sigmoid_to_inverse_depth(disparity, min_depth, max_depth)


def sigmoid_to_inverse_depth(disparity: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Inverse depth in 1/m from a sigmoid disparity: 0 is 1/max_depth, 1 is 1/min_depth."""
    return 1.0 / max_depth + (1.0 / min_depth - 1.0 / max_depth) * disparity


class DepthNetwork(nn.Module):
    """Disparity from one image, at one or several scales.

    Args:
        encoder: as in DepthNetworkOptions.
        pretrained: start the encoder from pretrained weights (downloaded by timm on first use).
        scales: number of disparity maps, each half as large as the one before; dense_depth and dpt have one.
        decoder: as in DepthNetworkOptions.
        encoder_weights: as in DepthNetworkOptions.
        decoder_channels: as in DepthNetworkOptions.

    Raises:
        RecipeError: encoder and decoder do not go together, or are not known.
    """

    def __init__(
        self,
        encoder: str = "resnet18",
        pretrained: bool = True,
        scales: int = 4,
        decoder: Decoder = "unet",
        encoder_weights: Path | None = None,
        decoder_channels: DecoderChannels = DECODER_CHANNELS,
    ) -> None:
        super().__init__()
        self.size_multiple = COARSEST_STRIDE
        if decoder in UPSAMPLING:
            self.encoder = create_encoder(encoder, pretrained, weights=encoder_weights)
            channels = feature_info(self.encoder).channels()
            self.decoder: nn.Module = DepthDecoder(channels, scales, UPSAMPLING[decoder], decoder_channels)
        elif decoder not in get_args(Decoder):
            raise RecipeError(f"there is no decoder {decoder!r}: expected one of {', '.join(get_args(Decoder))}")
        elif decoder_channels != DECODER_CHANNELS:
            raise RecipeError(
                f"decoder_channels are for {', '.join(UPSAMPLING)}; {decoder} has its own: leave them out"
            )
        elif scales != 1:
            raise RecipeError(f"decoder {decoder} gives one disparity map, not {scales}: set scales: 1")
        elif decoder == "dense_depth":
            self.encoder = DenseNetEncoder(encoder, pretrained, encoder_weights)
            self.decoder = DenseDepthDecoder(feature_info(self.encoder).channels())
        else:
            self.encoder = VisionTransformerEncoder(encoder, pretrained, encoder_weights)
            self.size_multiple = self.encoder.patch
            self.decoder = DPTDecoder(feature_info(self.encoder).channels()[-1], self.encoder.patch)
        self.name = f"{encoder} with {decoder}"

    @property
    def scales(self) -> int:
        """Number of disparity maps."""
        return len(self.decoder.get_submodule("heads"))  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Sigmoid disparities in (0, 1), float [B, 1, H/2^s, W/2^s], finest first; dense_depth begins at s = 1.

        image: float [B, 3, H, W], RGB in 0..1; H and W multiples of `size_multiple`, at least 64.
        """
        disparities: list[Tensor] = self.decoder(self.encoder(normalize(image)))
        return disparities

    def disparity(self, image: Tensor) -> Tensor:
        """The finest sigmoid disparity, float [B, 1, H, W], upsampled where the network's own is smaller."""
        finest = self(image)[0]
        if finest.shape[-2:] == image.shape[-2:]:
            return finest
        return F.interpolate(finest, image.shape[-2:], mode="bilinear", align_corners=False)

    def check_input_size(self, width: int, height: int) -> None:
        """Refuse images of other sizes than the network can take.

        Raises:
            RecipeError: a side is no multiple of `size_multiple`.
        """
        multiple = self.size_multiple
        if width % multiple or height % multiple:
            near = [max(1, round(side / multiple)) * multiple for side in (width, height)]
            raise RecipeError(
                f"input size is {width}x{height}; {self.name} needs multiples of {multiple}: set data.width and "
                f"data.height, to {near[0]} and {near[1]} for example"
            )


def create_depth_network(options: DepthNetworkOptions, pretrained: bool, scales: int) -> DepthNetwork:
    """The network of a recipe."""
    return DepthNetwork(
        options.encoder, pretrained, scales, options.decoder, options.encoder_weights, options.decoder_channels
    )
