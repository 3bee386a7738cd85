"""Which part of which camera's image a sample shows, and the intrinsics that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

UNKNOWN_CAMERA = -1


@dataclass(frozen=True)
class Framing:
    """How samples were cut out of whole images, with leading dimensions [...]: none for one sample, B for a batch.

    A point at (u, v) of the whole image, in units of its width and height, is at `scale * (u, v) + shift` of the
    sample, in units of the sample's: a crop scales by more than 1, a mirrored sample has a negative scale of u.

    camera: int64 [...], number of the training source that it is of, UNKNOWN_CAMERA for none.
    aspect: float32 [...], width / height in pixels of the whole image.
    scale, shift: float32 [..., 2].
    """

    camera: Tensor
    aspect: Tensor
    scale: Tensor
    shift: Tensor

    @staticmethod
    def whole(image: Tensor, camera: int = UNKNOWN_CAMERA) -> Framing:
        """That of images [..., C, H, W] of square pixels, of which nothing was cut off."""
        height, width = image.shape[-2:]
        return Framing.window((0, 0, width, height), width, height, camera).expand(*image.shape[:-3])

    @staticmethod
    def window(window: tuple[int, int, int, int], width: int, height: int, camera: int = UNKNOWN_CAMERA) -> Framing:
        """That of one sample that shows the window x, y, w, h in pixels of an image of width x height."""
        x, y, w, h = window
        return Framing(
            camera=torch.tensor(camera),
            aspect=torch.tensor(width / height),
            scale=torch.tensor([width / w, height / h]),
            shift=torch.tensor([-x / w, -y / h]),
        )

    @staticmethod
    def stack(framings: Sequence[Framing]) -> Framing:
        """Those of samples, stacked along a first dimension."""
        columns = zip(*((f.camera, f.aspect, f.scale, f.shift) for f in framings), strict=True)
        return Framing(*(torch.stack(column) for column in columns))

    def expand(self, *batch: int) -> Framing:
        """One sample's framing for a batch of them."""
        return self.with_tensors(lambda tensor: tensor.expand(*batch, *tensor.shape))

    def with_tensors(self, change: Callable[[Tensor], Tensor]) -> Framing:
        """The same with every tensor changed, as to another device."""
        return Framing(change(self.camera), change(self.aspect), change(self.scale), change(self.shift))

    def mirrored(self, flipped: Tensor) -> Framing:
        """That of the samples with those mirrored left to right where `flipped`, bool [...]: u becomes 1 - u."""
        sign = torch.where(flipped, -1.0, 1.0)
        horizontal = self.scale.new_tensor([1.0, 0.0])
        signs = 1.0 - horizontal + horizontal * sign.unsqueeze(-1)
        offset = horizontal * flipped.unsqueeze(-1).to(self.shift)
        return Framing(self.camera, self.aspect, self.scale * signs, self.shift * signs + offset)

    @property
    def square_focal_ratio(self) -> Tensor:
        """(fy/H) / (fx/W) of the samples, float32 [...], where the pixels of the whole image are square."""
        return self.aspect * self.scale[..., 1] / self.scale[..., 0].abs()

    def of_sample(self, intrinsics: Tensor) -> Tensor:
        """Normalised intrinsics [..., 4] of the samples, of those of the whole images."""
        focal, center = intrinsics.split(2, dim=-1)
        return torch.cat([focal * self.scale.abs(), center * self.scale + self.shift], dim=-1)

    def of_whole_image(self, intrinsics: Tensor) -> Tensor:
        """Normalised intrinsics [..., 4] of the whole images, of those of the samples."""
        focal, center = intrinsics.split(2, dim=-1)
        return torch.cat([focal / self.scale.abs(), (center - self.shift) / self.scale], dim=-1)
