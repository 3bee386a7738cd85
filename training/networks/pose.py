"""Pose network: camera motion between two frames (Monodepth2, Godard et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.geometry.se3 import invert, rigid_transform, so3_exp
from training.networks.encoders import create_encoder, feature_info, normalize
from training.networks.execution import full_precision

# Motions start small, so that from the first step the warped sources overlap the target. Translation goes with the
# depth that the depth network starts at: 0.01 is Monodepth2's, whose depth starts at 0.2 m; ours starts at 5 m. With
# 0.01 here, depth outruns translation down to its lower limit, where its sigmoid no longer learns.
ROTATION_SCALE, TRANSLATION_SCALE = 0.01, 0.25
DECODER_CHANNELS = 256
REDUCING_LAYERS = 2  # of the decoder: what comes before the bottleneck


class PoseNetwork(nn.Module):
    """Motion of the camera from an earlier frame to a later one.

    Args:
        encoder: name of an encoder of its own, as `create_encoder` knows it, that sees both frames as six channels; or
            the encoder of a depth network, which is shared and sees one frame at a time (Monodepth2's `shared`).
        pretrained: start an encoder of its own from timm's ImageNet weights (downloaded by timm on first use), those
            of the first convolution repeated and scaled for six channels.
    """

    def __init__(self, encoder: str | nn.Module = "resnet18", pretrained: bool = True) -> None:
        super().__init__()
        self.shares_encoder = isinstance(encoder, nn.Module)
        if isinstance(encoder, str):
            encoder = create_encoder(encoder, pretrained, in_channels=6, with_stem=False)
        self.encoder = encoder
        self.bottleneck_channels = DECODER_CHANNELS * (2 if self.shares_encoder else 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(feature_info(self.encoder).channels()[-1], DECODER_CHANNELS, 1),
            nn.ReLU(),
            nn.Conv2d(self.bottleneck_channels, DECODER_CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(DECODER_CHANNELS, DECODER_CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(DECODER_CHANNELS, 6, 1),
        )

    def forward(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """Axis-angle [B, 3] in radians and translation [B, 3] up to scale, of T_later_earlier; float32.

        earlier, later: float [B, 3, H, W], RGB in 0..1.
        """
        return self.motion(self.bottleneck(earlier, later))

    def freeze(self, bottleneck: bool = True) -> None:
        """Leave its weights as they are; a shared encoder goes on learning depth.

        bottleneck: also those that `bottleneck` uses; without, only what makes a motion of it.
        """
        layers = self.decoder if bottleneck else self.decoder[REDUCING_LAYERS:]
        layers.requires_grad_(False)
        if bottleneck and not self.shares_encoder:
            self.encoder.requires_grad_(False)

    def bottleneck(self, earlier: Tensor, later: Tensor) -> Tensor:
        """What is seen of a pair of frames, [B, bottleneck_channels, H/32, W/32]."""
        reduce = self.decoder[:REDUCING_LAYERS]
        frames = [normalize(earlier), normalize(later)]
        if self.shares_encoder:
            return torch.cat([reduce(self.encoder(frame)[-1]) for frame in frames], dim=1)
        reduced: Tensor = reduce(self.encoder(torch.cat(frames, dim=1))[-1])
        return reduced

    def motion(self, bottleneck: Tensor) -> tuple[Tensor, Tensor]:
        """Axis-angle and translation of a bottleneck, as `forward` gives them."""
        motion = self.decoder[REDUCING_LAYERS:](bottleneck).float().mean((-2, -1))
        return ROTATION_SCALE * motion[:, :3], TRANSLATION_SCALE * motion[:, 3:]


def source_bottlenecks(network: PoseNetwork, image: Tensor, sources: Tensor, offsets: Sequence[int]) -> Tensor:
    """What `network` sees of a target and each of its sources, [B, N, C, h, w].

    The network always gets the earlier frame first, so that it learns one direction of motion.

    image: target, float [B, 3, H, W], RGB in 0..1; sources: float [B, N, 3, H, W]; offsets: frame numbers of the N
    sources relative to the target's, negative for earlier ones.
    """
    target = image.unsqueeze(1).expand_as(sources)
    is_earlier = _is_earlier(offsets, image).view(-1, 1, 1, 1)
    earlier = torch.where(is_earlier, sources, target)
    later = torch.where(is_earlier, target, sources)
    return network.bottleneck(earlier.flatten(0, 1), later.flatten(0, 1)).unflatten(0, sources.shape[:2])


def source_poses(network: PoseNetwork, bottlenecks: Tensor, offsets: Sequence[int]) -> Tensor:
    """T_source_target [B, N, 4, 4], float32, up to scale, of what `source_bottlenecks` gives for the same offsets.

    The poses of earlier sources are inverses of what the network says.
    """
    axis_angle, translation = network.motion(bottlenecks.flatten(0, 1))
    with full_precision(bottlenecks.device):
        T_later_earlier = rigid_transform(so3_exp(axis_angle), translation).unflatten(0, bottlenecks.shape[:2])
        is_earlier = _is_earlier(offsets, bottlenecks).view(-1, 1, 1)
        return torch.where(is_earlier, invert(T_later_earlier), T_later_earlier)


def _is_earlier(offsets: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor([offset < 0 for offset in offsets], device=like.device)
