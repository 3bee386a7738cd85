"""What weather and darkness make of an image, at three strengths, the same each time."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.weather import in_weather

Image = NDArray[np.uint8]
Depth = NDArray[np.float32]

STRENGTHS = (1, 2, 3)
FOG_EXTINCTION = (0.01, 0.02, 0.06)  # 1/m: one sees 300, 150 and 50 m far (5 % contrast), Sakaridis et al., IJCV 2018
FOG_BRIGHTNESS = 0.85
SNOW_POINT, SNOW_BRIGHTNESS = 0.3, (1.5, 2.5, 4.0)  # albumentations: what is darker than this becomes so much brighter
RAIN = (("drizzle", 0.85), ("heavy", 0.65), ("torrential", 0.45))  # albumentations: how many streaks, and how bright
EXPOSURE = (1 / 4, 1 / 16, 1 / 64)  # of the light that the image was taken with
PHOTOELECTRONS, READ_NOISE = 4000.0, 4.0  # of a white pixel in full light; of the sensor


def fog(image: Image, depth: Depth, strength: int, seed: int) -> Image:
    """Light that fades with distance: I = J exp(-b z) + A (1 - exp(-b z)) (Koschmieder, 1924).

    depth: float32 [H, W] metres, 0 where unknown: as the nearest known pixel.
    """
    arrives = np.exp(-FOG_EXTINCTION[strength - 1] * filled(depth, image.shape[:2]))[..., None]
    return _as_bytes(image / 255 * arrives + FOG_BRIGHTNESS * (1 - arrives))


def snow(image: Image, depth: Depth, strength: int, seed: int) -> Image:
    """Ground and walls under snow."""
    options = {"snow_point_range": (SNOW_POINT, SNOW_POINT), "brightness_coeff": SNOW_BRIGHTNESS[strength - 1]}
    return in_weather("snow", image[None], seed, **options)[0]


def rain(image: Image, depth: Depth, strength: int, seed: int) -> Image:
    """Streaks, darkness and blur."""
    rain_type, brightness = RAIN[strength - 1]
    return in_weather("rain", image[None], seed, rain_type=rain_type, brightness_coefficient=brightness)[0]


def dark(image: Image, depth: Depth, strength: int, seed: int) -> Image:
    """Less light: fewer photoelectrons, whose number is Poisson distributed, and the sensor's own noise."""
    random = np.random.default_rng(seed)
    white = PHOTOELECTRONS * EXPOSURE[strength - 1]
    electrons = random.poisson(_linear(image / 255) * white) + random.normal(0, READ_NOISE, image.shape)
    return _as_bytes(_srgb(np.clip(electrons, 0, white) / white * EXPOSURE[strength - 1]))


CORRUPTIONS: dict[str, Callable[[Image, Depth, int, int], Image]] = {
    "fog": fog,
    "snow": snow,
    "rain": rain,
    "dark": dark,
}
"""By name: what makes of an image uint8 [H, W, 3], RGB, its depth, a strength of STRENGTHS and a seed another image."""


def seed_of(name: str, strength: int) -> int:
    """The seed of a frame: the same in every evaluation."""
    return zlib.crc32(f"{name} {strength}".encode())


def filled(depth: Depth, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Depth [H, W] of `shape`, everywhere, of one that is 0 where unknown: that of the nearest known pixel."""
    _, labels = cv2.distanceTransformWithLabels(
        np.where(depth > 0, 0, 255).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = np.zeros(labels.max() + 1, np.float32)
    known[labels[depth > 0]] = depth[depth > 0]
    nearest = known[labels]
    return np.asarray(cv2.resize(nearest, shape[::-1], interpolation=cv2.INTER_NEAREST), np.float64)


def _linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB values 0..1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _srgb(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB values of linear light 0..1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _as_bytes(values: NDArray[np.float64]) -> Image:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
