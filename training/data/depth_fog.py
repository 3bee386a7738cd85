"""Fog that is thicker the farther away things are.

Source: Koschmieder, Theorie der horizontalen Sichtweite, 1924: I = J exp(-b z) + A (1 - exp(-b z)).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import RecipeError


@dataclass(frozen=True)
class DepthFog:
    """How often, and how thick.

    Args:
        probability: of fog in a sample.
        thickness: least and largest optical depth b z at the image's median depth, so that depth needs no scale: at 1,
            37 % of the light from there arrives.
        airlight: least and largest brightness of the fog itself.

    Raises:
        RecipeError: numbers out of range or out of order.
    """

    probability: float = 0.3
    thickness: tuple[float, float] = (0.3, 1.5)
    airlight: tuple[float, float] = (0.7, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise RecipeError(f"depth_fog.probability is {self.probability}: expected 0 to 1")
        if not 0 <= self.thickness[0] <= self.thickness[1]:
            raise RecipeError(f"depth_fog.thickness is {self.thickness}: expected two numbers from 0 on, ascending")
        if not 0 <= self.airlight[0] <= self.airlight[1] <= 1:
            raise RecipeError(f"depth_fog.airlight is {self.airlight}: expected two numbers of 0 to 1, ascending")

    def draw(self, count: int) -> FogDraw:
        """What `count` samples get, from torch's generator of the CPU."""
        foggy = torch.rand(count) < self.probability
        thickness = torch.empty(count).uniform_(*self.thickness)
        return FogDraw(foggy, thickness, torch.empty(count).uniform_(*self.airlight))


@dataclass(frozen=True)
class FogDraw:
    """foggy: bool [B]. thickness, airlight: float32 [B]. On the CPU, so that the device has nothing to answer."""

    foggy: Tensor
    thickness: Tensor
    airlight: Tensor


def add_fog(images: Tensor, depth: Tensor, extinction: Tensor, airlight: Tensor) -> Tensor:
    """Images [..., 3, H, W], RGB in 0..1, in fog.

    depth: [..., 1, H, W]. extinction: 1 / unit of depth; airlight: 0..1; both broadcast to images.
    """
    return torch.lerp(airlight.expand_as(images), images, torch.exp(-extinction * depth))
