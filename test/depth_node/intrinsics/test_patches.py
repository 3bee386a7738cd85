"""Patches: found to a few hundredths of a pixel, at their own sharpness, and with an honest covariance."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from depth_node.intrinsics.patches import PatchAligner

Grey = NDArray[np.uint8]


def blobs(rng: np.random.Generator, height: int, width: int, size: float) -> NDArray[np.float64]:
    """Smooth random texture around 128, with a standard deviation of 25."""
    texture = gaussian_filter(rng.normal(size=(height, width)), size)
    return np.asarray(128 + 25 * texture / texture.std())


def grey(image: NDArray[np.float64]) -> Grey:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def constant(warp: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Of one view: [1, 2, 2, N]."""
    return np.tile(warp[None, :, :, None], (1, 1, 1, count))


def test_patches_are_found_to_a_few_hundredths_of_a_pixel() -> None:
    rng = np.random.default_rng(6)
    texture = blobs(rng, 120, 160, 1.5)
    warp, shift = np.array([[1.1, 0.05], [-0.04, 0.95]]), np.array([3.3, -2.6])
    y, x = np.mgrid[0:120, 0:160].astype(float)
    # The view shows at q what the reference shows at warp^-1 (q - shift), brighter and with less contrast.
    back = np.tensordot(np.linalg.inv(warp), np.stack([x - shift[0], y - shift[1]]), axes=1)
    view = 25 + 0.7 * map_coordinates(texture, [back[1], back[0]], order=3, mode="nearest")
    pixels = np.stack([rng.integers(40, 110, 40), rng.integers(40, 80, 40)]).astype(float)
    true = warp @ pixels + shift[:, None]
    begin = true + rng.uniform(-0.7, 0.7, true.shape)
    begin[:, 0] = np.nan
    found = PatchAligner(grey(texture), [grey(view)], pixels).align(begin[None], constant(warp, 40), iterations=6)
    assert np.isnan(found.seen[0, :, 0]).all()
    held = np.isfinite(found.seen[0, 0])
    assert held.sum() >= 35
    assert np.median(np.abs(found.seen[0] - true)[:, held]) < 0.03


def test_a_patch_of_something_else_is_refused() -> None:
    rng = np.random.default_rng(7)
    images = [grey(blobs(rng, 80, 80, 1.5)) for _ in range(2)]
    pixels = np.array([[30.0, 40.0, 50.0], [30.0, 40.0, 50.0]])
    aligner = PatchAligner(images[0], images[1:], pixels)
    assert np.isnan(aligner.align(pixels[None], constant(np.eye(2), 3)).seen).all()


@pytest.mark.parametrize(("scale", "held"), [(0.45, False), (0.7, True), (1.4, True), (2.2, False)])
def test_what_is_shown_much_smaller_or_larger_is_refused(scale: float, held: bool) -> None:
    rng = np.random.default_rng(8)
    texture = blobs(rng, 160, 160, 4.0)
    pixels = np.stack([rng.integers(60, 100, 20), rng.integers(60, 100, 20)]).astype(float)
    center = np.array([79.5, 79.5])
    y, x = np.mgrid[0:160, 0:160]
    view = map_coordinates(texture, [(y - 79.5) / scale + 79.5, (x - 79.5) / scale + 79.5], order=3, mode="nearest")
    seen = (scale * (pixels.T - center) + center).T
    found = PatchAligner(grey(texture), [grey(view)], pixels).align(seen[None], constant(scale * np.eye(2), 20)).seen
    assert np.isfinite(found).all() == held


def test_no_view_of_any_point_is_no_error() -> None:
    image = grey(blobs(np.random.default_rng(0), 60, 60, 2.0))
    pixels = np.array([[30.0, 40.0], [30.0, 40.0]])
    found = PatchAligner(image, [image] * 3, pixels).align(np.full((3, 2, 2), np.nan), np.zeros((3, 2, 2, 2)))
    assert np.isnan(found.seen).all()
    assert np.isfinite(found.information).all()


def at_scale(fine: NDArray[np.float64], shrink: float, size: int) -> Grey:
    """The middle of a fine texture, `shrink` of its pixels in one, each of which averages over what it covers."""
    half = size * shrink / 2
    middle = fine.shape[0] / 2
    part = fine[round(middle - half) : round(middle + half), round(middle - half) : round(middle + half)]
    return grey(np.asarray(cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA), np.float64))


def test_nearer_and_sharper_images_are_compared_without_bias() -> None:
    """What comes nearer shows more detail; compared with that detail, corners would be found nearer to the middle.

    Independent truth: both images are averages over the same fine texture.
    """
    errors = []
    for seed in range(4):
        fine = np.kron(np.random.default_rng(seed).uniform(30, 225, (150, 150)), np.ones((10, 10)))
        near, far = at_scale(fine, 5.0, 200), at_scale(fine, 7.5, 200)
        pixels = np.stack(np.meshgrid(np.arange(40, 161, 8), np.arange(40, 161, 8))).reshape(2, -1).astype(float)
        true = (pixels - 99.5) / 1.5 + 99.5
        found = PatchAligner(near, [far], pixels).align(true[None], constant(np.eye(2) / 1.5, pixels.shape[1])).seen[0]
        error = found - true
        errors.append(error[:, np.isfinite(error[0])])
    error = np.concatenate(errors, axis=1)
    assert error.shape[1] > 300
    assert np.median(np.abs(error)) < 0.05
    assert np.abs(error.mean(axis=1)).max() < 0.01


def test_information_is_that_of_the_errors() -> None:
    """Squared errors over the stated variance, of patches in images with noise: about as many as there are numbers.

    What is stated is larger, on purpose: positions are off for other reasons, too, which this texture has not.
    """
    squares = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        texture = blobs(rng, 200, 200, 2.0)
        pixels = np.stack(np.meshgrid(np.arange(20, 180, 12), np.arange(20, 180, 12))).reshape(2, -1).astype(float)
        noisy = [grey(texture + rng.normal(0, 4, texture.shape)) for _ in range(2)]
        found = PatchAligner(noisy[0], noisy[1:], pixels).align(pixels[None], constant(np.eye(2), pixels.shape[1]))
        error = found.seen[0] - pixels
        squares.append(np.einsum("in,ijn,jn->n", error, found.information[0], error) / 2)
    together = np.concatenate(squares)
    assert 0.2 < np.mean(together[np.isfinite(together)]) < 1.2


def test_an_edge_is_known_across_it_alone() -> None:
    y, x = np.mgrid[0:80, 0:80]
    slanted = 128 + 80 * np.tanh((x + 0.2 * np.sin(y / 3.0) - 40) / 2)
    pixels = np.array([[40.0], [40.0]])
    found = PatchAligner(grey(slanted), [grey(slanted)], pixels).align(pixels[None], constant(np.eye(2), 1))
    information = found.information[0, :, :, 0]
    assert information[0, 0] > 20 * information[1, 1]
