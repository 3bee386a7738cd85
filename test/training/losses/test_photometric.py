"""Photometric error against the definition, window by window, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.losses.photometric import photometric_error, ssim


def ssim_by_windows(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wang et al. 2004, equation 13, of single-channel images, one 3x3 window at a time, the border reflected."""
    a, b = (np.pad(image, 1, mode="reflect") for image in (a, b))
    result = np.empty((a.shape[0] - 2, a.shape[1] - 2))
    for y, x in np.ndindex(result.shape):
        p, q = a[y : y + 3, x : x + 3].ravel(), b[y : y + 3, x : x + 3].ravel()
        covariance = np.mean((p - p.mean()) * (q - q.mean()))
        numerator = (2 * p.mean() * q.mean() + 0.01**2) * (2 * covariance + 0.03**2)
        result[y, x] = numerator / ((p.mean() ** 2 + q.mean() ** 2 + 0.01**2) * (p.var() + q.var() + 0.03**2))
    return result


@pytest.fixture
def images() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(0)
    a = generator.random((3, 6, 9))
    return a, np.clip(a + 0.2 * generator.standard_normal(a.shape), 0, 1)


def test_ssim_is_the_windowed_definition(images: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    a, b = images
    expected = np.stack([ssim_by_windows(p, q) for p, q in zip(a, b, strict=True)])
    np.testing.assert_allclose(ssim(torch.from_numpy(a), torch.from_numpy(b)).numpy(), expected, atol=1e-12)
    in_float32 = ssim(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    np.testing.assert_allclose(in_float32.numpy(), expected, atol=1e-4)


def test_error_mixes_dissimilarity_and_difference(images: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    a, b = images
    dissimilarity = np.mean([(1 - ssim_by_windows(p, q)) / 2 for p, q in zip(a, b, strict=True)], axis=0)
    expected = 0.85 * dissimilarity.clip(0, 1) + 0.15 * np.abs(a - b).mean(axis=0)
    error = photometric_error(torch.from_numpy(a), torch.from_numpy(b))
    assert error.shape == (1, 6, 9)
    np.testing.assert_allclose(error[0].numpy(), expected, atol=1e-12)


def test_equal_images_have_no_error_and_opposite_ones_the_most() -> None:
    black, white = torch.zeros(3, 4, 4), torch.ones(3, 4, 4)
    assert photometric_error(white, white).abs().max() < 1e-6
    # Without variance, SSIM is C1 / (1 + C1).
    expected = 0.85 * (1 - 1e-4 / 1.0001) / 2 + 0.15
    torch.testing.assert_close(photometric_error(black, white), torch.full((1, 4, 4), expected))


def test_sources_broadcast_against_their_target() -> None:
    generator = torch.Generator().manual_seed(0)
    sources = torch.rand(2, 3, 3, 5, 6, generator=generator)
    targets = torch.rand(2, 1, 3, 5, 6, generator=generator)
    errors = photometric_error(sources, targets)
    assert errors.shape == (2, 3, 1, 5, 6)
    torch.testing.assert_close(errors[1, 2], photometric_error(sources[1, 2], targets[1, 0]))


def test_mirrored_images_have_the_mirrored_error() -> None:
    a, b = torch.rand(2, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(photometric_error(a.flip(-1), b.flip(-1)), photometric_error(a, b).flip(-1))


def test_gradients_are_finite_and_right_where_images_are_equal_and_flat() -> None:
    flat = torch.full((3, 4, 4), 0.5, dtype=torch.float64)
    image = flat.clone().requires_grad_()
    photometric_error(image, flat).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    a, b = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(photometric_error, (a.requires_grad_(), b))
