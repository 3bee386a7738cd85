"""Weather in front of a camera: snow, sun flare, fog and rain, as albumentations paints them on 8-bit images.

The networks get to see it, the losses do not: what was warped is compared under a clear sky.
Needs albumentations, which takes seconds to import: whoever draws no weather does not wait for it.
"""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import DataError

if TYPE_CHECKING:
    from albumentations import Compose

FLARE_RADIUS = 0.3
"""Radius of a sun's halo in image widths."""


@dataclass(frozen=True)
class Weather:
    """Probability of each kind of weather in a sample, drawn independently; several may come together.

    Source: albumentations' RandomSnow, RandomSunFlare, RandomFog and RandomRain in their own ranges of strength.

    Args:
        snow: brightened ground and bleached colours.
        sun_flare: a sun in the upper half, and its reflections in the lens.
        fog: haze in patches, alike at all depths; `depth_fog` of the task is by depth.
        rain: streaks, darkness and blur.

    Raises:
        DataError: a number that is no probability.
    """

    snow: float = 0.3
    sun_flare: float = 0.3
    fog: float = 0.3
    rain: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            probability = getattr(self, field.name)
            if not 0 <= probability <= 1:
                raise DataError(f"weather.{field.name} is {probability}: expected a probability, 0 to 1")

    def draw(self, frames: Tensor) -> Tensor | None:
        """The frames of one sample in one weather, uint8 [N, 3, H, W]; None where the sky stays clear.

        Drawn from torch's generator of the CPU.

        frames: uint8 [N, 3, H, W], RGB.
        """
        happens = torch.rand(4) < torch.tensor(astuple(self))
        seed = int(torch.randint(2**31, ()))
        if not happens.any():
            return None
        images = np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy())
        for place, kind in enumerate(ALBUMENTATIONS):
            if happens[place]:
                images = in_weather(kind, images, seed + place)
        return torch.from_numpy(images).permute(0, 3, 1, 2)


ALBUMENTATIONS = {"snow": "RandomSnow", "sun_flare": "RandomSunFlare", "fog": "RandomFog", "rain": "RandomRain"}


def in_weather(kind: str, images: NDArray[np.uint8], seed: int, **options: Any) -> NDArray[np.uint8]:
    """Images uint8 [N, H, W, 3], RGB, all in the same weather.

    Args:
        kind: a field of `Weather`.
        images: of one sample.
        seed: of what albumentations draws.
        options: of its transform, where they are not to be its own.

    Raises:
        DataError: albumentations is not installed.
    """
    if kind == "sun_flare":
        options = {"src_radius": max(1, round(FLARE_RADIUS * images.shape[2])), **options}
    transform = _transform(ALBUMENTATIONS[kind], tuple(options.items()))
    transform.set_random_seed(seed)
    weathered: NDArray[np.uint8] = transform(images=images)["images"]
    return weathered


@cache
def _transform(name: str, options: tuple[tuple[str, Any], ...]) -> Compose:
    """A transform of albumentations that always happens."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or it would ask a server for newer versions on import
    try:
        import albumentations  # seconds, and only for those who want weather
    except ImportError as error:
        raise DataError("weather needs albumentations: pip install 'depth_node[training]'") from error
    return albumentations.Compose([getattr(albumentations, name)(**dict(options), p=1)])
