"""Fog by its equation, darkness by its photons, and the same picture each time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Image, dark, filled, fog, seed_of

SHAPE = 60, 90


@pytest.fixture(scope="module")
def image() -> Image:
    """Light and dark patches, smooth as in a photograph."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, SHAPE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="module")
def depth() -> np.ndarray:
    """10 m on the left, 40 m on the right."""
    return np.where(np.arange(SHAPE[1]) < 45, 10.0, 40.0).astype(np.float32) * np.ones((SHAPE[0], 1), np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_frames_look_the_same_each_time_and_worse_with_strength(name: str, image: Image, depth: np.ndarray) -> None:
    changed = [CORRUPTIONS[name](image, depth, strength, seed_of("drive/1", strength)) for strength in STRENGTHS]
    again = [CORRUPTIONS[name](image, depth, strength, seed_of("drive/1", strength)) for strength in STRENGTHS]
    for first, second in zip(changed, again, strict=True):
        assert first.dtype == np.uint8
        assert first.shape == image.shape
        np.testing.assert_array_equal(first, second)
    differences = [np.abs(view.astype(float) - image).mean() for view in changed]
    assert 0 < differences[0] < differences[1] < differences[2]


def test_fog_fades_with_distance(depth: np.ndarray) -> None:
    """A white wall at 10 m and one at 40 m, at 0.02 / m: exp(-0.2) and exp(-0.8) of their light arrive."""
    white = np.full((*SHAPE, 3), 255, np.uint8)
    foggy = fog(white, depth, strength=2, seed=0) / 255
    for column, arrives in ((0, np.exp(-0.2)), (-1, np.exp(-0.8))):
        assert foggy[0, column, 0] == pytest.approx(arrives + 0.85 * (1 - arrives), abs=0.5 / 255)


def test_darkness_is_linear_in_light_and_noisy(depth: np.ndarray) -> None:
    """sRGB 188 is half of the light of white; a 16th of it is 0.0312, sRGB 0.194."""
    gray = np.full((200, 200, 3), 188, np.uint8)
    night = dark(gray, depth, strength=2, seed=1) / 255
    assert night.mean() == pytest.approx(0.194, abs=0.005)
    electrons = 4000 / 16 * 0.503
    relative_noise = np.sqrt(electrons + 4**2) / electrons  # of Poisson and read noise
    assert night.std() == pytest.approx(relative_noise * (0.194 + 0.055) / 2.4, rel=0.1)  # by the slope of sRGB's curve


def test_unknown_depth_is_that_of_the_nearest_pixel() -> None:
    sparse = np.zeros((10, 20), np.float32)
    sparse[2, 3], sparse[7, 15] = 5.0, 50.0
    dense = filled(sparse, (20, 40))
    assert dense.shape == (20, 40)
    assert set(np.unique(dense)) == {5.0, 50.0}
    assert (dense[0, 0], dense[-1, -1]) == (5.0, 50.0)
    assert dense[2 * 2, 2 * 3] == 5.0
