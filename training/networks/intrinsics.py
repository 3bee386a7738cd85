"""The camera's intrinsics, learned with depth and motion from video of unknown cameras.

Source: Gordon et al., Depth from Videos in the Wild, ICCV 2019. The focal length is a softplus, which is positive; the
principal point is linear, since it may lie anywhere: a softplus there keeps it right of and below the middle.
Both start exactly at the prior. Focal lengths are learned in units of the image's width, fy in those of square pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.errors import RecipeError
from training.geometry.focal_evidence import (
    edge_shift_per_focal_error,
    focal_tolerance,
    is_observable,
    unobservable,
)
from training.geometry.framing import Framing
from training.geometry.se3 import so3_log
from training.networks.execution import full_precision

MEMORY = 100  # batches that running means look back on


@dataclass(frozen=True)
class LearnedIntrinsics:
    """Which intrinsics are learned, and from where.

    Args:
        per: `pair`: a head on the pose network says it of every sample; `camera`: one vector for each entry of
            data.train, all of whose frames must be of one camera.
        focal: fx/W to start from, in whole images; 0.8 is a view 64 degrees wide.
        square_pixels: fx W = fy H: one focal length for both axes.
        fixed_center: the principal point is the middle of the whole image, and not learned.
        any_aspect: fy/H is told from the images alone, as fx/W is (per pair only): for cameras of all aspects, whose
            images are resized to one. Otherwise it starts from the aspect of the image as it was stored.
        cameras: number of cameras (per camera only): entries of data.train.
        learning_rate_factor: learning rate of the vectors relative to the networks' (per camera only): they are a few
            numbers that may have to go far.

    Raises:
        RecipeError: a number that is not above 0, several cameras with one K per pair, or any_aspect with what needs
            the aspect.
    """

    per: Literal["pair", "camera"] = "pair"
    focal: float = 0.8
    square_pixels: bool = False
    fixed_center: bool = False
    any_aspect: bool = False
    cameras: int = 1
    learning_rate_factor: float = 50.0

    def __post_init__(self) -> None:
        for name in ("focal", "cameras", "learning_rate_factor"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"intrinsics.{name} is {getattr(self, name)}: expected a number above 0")
        if self.per == "pair" and self.cameras != 1:
            raise RecipeError("intrinsics.cameras is for intrinsics.per: camera; a head tells cameras apart by itself")
        if self.any_aspect and (self.square_pixels or self.per == "camera"):
            raise RecipeError(
                "intrinsics.any_aspect is for a head (per: pair) without square_pixels, which need the aspect"
            )


class _Learned(nn.Module):
    """What both ways to learn intrinsics remember of the last batches; buffers, so that checkpoints have it.

    typical: mean intrinsics [cameras, 4] of whole images, whose mean aspect is `aspect` [cameras].
    edge_shift_square: mean square of `edge_shift_per_focal_error`, pixels: whether rotations told a focal length.
    """

    typical: Tensor
    aspect: Tensor
    edge_shift_square: Tensor
    batches: Tensor

    def __init__(self, cameras: int, options: LearnedIntrinsics) -> None:
        super().__init__()
        self.options = options
        start = torch.tensor([options.focal, options.focal, 0.5, 0.5])
        self.register_buffer("typical", start.repeat(cameras, 1))
        self.register_buffer("aspect", torch.ones(cameras))
        self.register_buffer("edge_shift_square", torch.tensor(0.0))
        self.register_buffer("batches", torch.tensor(0))

    @property
    def edge_shift(self) -> float:
        """Root mean square of the pixels that the image's edges move by per relative error of the focal length."""
        return math.sqrt(float(self.edge_shift_square))

    @property
    def prior(self) -> tuple[float, float, float, float]:
        """Normalised intrinsics of whole images; the median of several cameras."""
        fx, fy, cx, cy = self.typical.median(dim=0).values.tolist()
        return fx, fy, cx, cy

    @torch.no_grad()
    def note_motion(self, T_source_target: Tensor, intrinsics: Tensor, width: int, height: int) -> None:
        """Look at how the camera of a batch turned: transforms [B, N, 4, 4], intrinsics [B, 4], size in pixels."""
        axis_angle = so3_log(T_source_target[..., :3, :3])
        shift = edge_shift_per_focal_error(axis_angle, intrinsics.unsqueeze(1), width, height)
        self.batches += 1
        self.edge_shift_square.lerp_(shift.square().mean(), self._share())

    def _share(self) -> Tensor:
        """Weight of a batch in running means."""
        return 1.0 / self.batches.clamp(min=1, max=MEMORY)


class IntrinsicsHead(_Learned):
    """Intrinsics of each sample, from what the pose network sees in its frames.

    Args:
        channels: of the pose network's bottleneck.
        options: what is learned, from which prior.
    """

    def __init__(self, channels: int, options: LearnedIntrinsics) -> None:
        super().__init__(1, options)
        self.focal = nn.Linear(channels, 1 if options.square_pixels else 2)
        self.center = None if options.fixed_center else nn.Linear(channels, 2, bias=False)
        nn.init.zeros_(self.focal.weight)
        nn.init.constant_(self.focal.bias, inverse_softplus(options.focal))
        if self.center is not None:
            nn.init.zeros_(self.center.weight)

    def forward(self, bottleneck: Tensor, framing: Framing) -> Tensor:
        """Normalised intrinsics float32 [B, 4] of B samples, one for a target and all its sources.

        bottleneck: float [B, N, C, h, w], of the N pairs of each sample.
        """
        with full_precision(bottleneck.device):
            features = bottleneck.float().mean((1, -2, -1))
            focal = nn.functional.softplus(self.focal(features)).expand(-1, 2)
            if not self.options.any_aspect:
                focal = torch.stack([focal[:, 0], focal[:, 1] * framing.square_focal_ratio], dim=-1)
            center = 0.5 * framing.scale + framing.shift if self.center is None else self.center(features) + 0.5
            intrinsics = torch.cat([focal, center], dim=-1)
        if self.training:
            self.typical.lerp_(framing.of_whole_image(intrinsics.detach()).mean(0, keepdim=True), self._share())
            self.aspect.lerp_(framing.aspect.mean(0, keepdim=True), self._share())
        return intrinsics


class CameraIntrinsics(_Learned):
    """Intrinsics of each of several cameras, learned as numbers."""

    def __init__(self, options: LearnedIntrinsics) -> None:
        super().__init__(options.cameras, options)
        focals = 1 if options.square_pixels else 2
        self.focal = nn.Parameter(torch.full((options.cameras, focals), inverse_softplus(options.focal)))
        self.center = None if options.fixed_center else nn.Parameter(torch.zeros(options.cameras, 2))

    def forward(self, framing: Framing) -> Tensor:
        """Normalised intrinsics float32 [B, 4] of samples of these cameras."""
        focal = nn.functional.softplus(self.focal).expand(-1, 2)[framing.camera]
        focal = torch.stack([focal[:, 0], focal[:, 1] * framing.aspect], dim=-1)
        center = torch.zeros_like(focal) if self.center is None else self.center[framing.camera]
        whole = torch.cat([focal, center + 0.5], dim=-1)
        if self.training:
            self.typical[framing.camera] = whole.detach()
            self.aspect[framing.camera] = framing.aspect
        return framing.of_sample(whole)


def inverse_softplus(value: float) -> float:
    """The number whose softplus is `value`, above 0."""
    return value + math.log(-math.expm1(-value))


def create_learned_intrinsics(options: LearnedIntrinsics, channels: int) -> IntrinsicsHead | CameraIntrinsics:
    """The module that learns intrinsics as `options` say, on a pose network whose bottleneck has so many channels."""
    return IntrinsicsHead(channels, options) if options.per == "pair" else CameraIntrinsics(options)


def describe(learned: IntrinsicsHead | CameraIntrinsics) -> str:
    """A sentence for the user: the cameras that were learned, or that none could be."""
    if not is_observable(learned.edge_shift):
        return unobservable(learned.edge_shift)
    cameras = "; ".join(
        "fx/W {:.4f}, fy/H {:.4f}, cx/W {:.4f}, cy/H {:.4f}".format(*k) for k in learned.typical.tolist()
    )
    known = 100 * focal_tolerance(learned.edge_shift)
    return f"learned camera: {cameras} (a pair of frames tells the focal length to {known:.1f} %)"
