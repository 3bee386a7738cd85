"""What observations are worth: whitening, outliers, and errors that all views of a point share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_node.intrinsics.tracks import Fit, SharedNoise, TrackWeights, Whitening

Array = NDArray[np.float64]


def some_information(rng: np.random.Generator, views: int, points: int) -> Array:
    """Positive definite, [M, 2, 2, N]."""
    factors = rng.normal(size=(views, points, 2, 2)) + 2 * np.eye(2)
    return np.moveaxis(factors @ factors.transpose(0, 1, 3, 2), 1, -1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_whitened_residuals_have_the_length_that_information_gives_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    information, residuals = some_information(rng, 3, 5), rng.normal(size=(3, 2, 5))
    whitened = Whitening.of(information).applied(residuals)
    expected = np.einsum("min,mijn,mjn->mn", residuals, information, residuals)
    np.testing.assert_allclose(np.sum(whitened**2, axis=1), expected, rtol=1e-9)


def test_derivatives_are_whitened_as_residuals_are() -> None:
    rng = np.random.default_rng(0)
    whitening, derivatives = Whitening.of(some_information(rng, 3, 5)), rng.normal(size=(3, 4, 2, 5))
    for column in range(4):
        np.testing.assert_allclose(
            whitening.applied(derivatives)[:, column], whitening.applied(derivatives[:, column].copy())
        )


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_noise_is_read_in_pixels(noise: float) -> None:
    rng = np.random.default_rng(1)
    residuals = rng.normal(0, noise, (6, 2, 400))
    exists = np.ones((6, 400), bool)
    whitening = Whitening.of(np.broadcast_to(np.eye(2)[:, :, None], (6, 2, 2, 400)))
    weights, fit = (
        TrackWeights.of(residuals, whitening, exists, redescending=True),
        Fit.of(residuals, whitening, exists),
    )
    assert fit.noise == pytest.approx(noise, rel=0.05)
    assert weights.scale == pytest.approx(max(1.0, noise), rel=0.05)  # never surer than claimed
    assert fit.inliers > 0.98


def test_outliers_count_nothing_or_little() -> None:
    residuals = np.zeros((2, 2, 100))
    residuals[:, :, :5] = 50.0
    whitening, exists = Whitening.of(np.broadcast_to(np.eye(2)[:, :, None], (2, 2, 2, 100))), np.ones((2, 100), bool)
    exists[0, 50] = False
    hard, soft = (TrackWeights.of(residuals, whitening, exists, redescending) for redescending in (True, False))
    assert (hard.roots[:, :5] == 0).all()
    assert ((soft.roots[:, :5] > 0) & (soft.roots[:, :5] < 0.1)).all()
    assert hard.roots[0, 50] == soft.roots[0, 50] == 0
    assert Fit.of(residuals, whitening, exists).inliers == pytest.approx(1 - 10 / 199)


@pytest.mark.parametrize("shared", [0.0, 0.45])
def test_shared_errors_are_eliminated_as_by_their_covariance(shared: float) -> None:
    """Against the dense inverse of the covariance of all views of a point: own errors, plus one offset of them all."""
    rng = np.random.default_rng(2)
    views = 4
    information, by_unknown = some_information(rng, views, 1), rng.normal(size=(views, 3, 2, 1))
    residuals = rng.normal(size=(views, 2, 1))
    is_seen = np.ones((views, 1), bool)
    whitening = Whitening.of(information)
    weights = TrackWeights.of(0 * residuals, whitening, is_seen, redescending=False)
    noise = SharedNoise.of(whitening, weights, is_seen, shared)

    own = np.zeros((2 * views, 2 * views))
    for view in range(views):
        own[2 * view : 2 * view + 2, 2 * view : 2 * view + 2] = np.linalg.inv(information[view, :, :, 0])
    offset = np.linalg.inv(information[..., 0].mean(axis=0))
    every = np.tile(np.eye(2), (views, 1))
    covariance = (1 - shared) * own + shared * every @ offset @ every.T
    jacobian = by_unknown[..., 0].transpose(0, 2, 1).reshape(2 * views, 3)
    expected = jacobian.T @ np.linalg.solve(covariance, jacobian)

    whitened = noise.own.applied(by_unknown)[..., 0].transpose(0, 2, 1).reshape(2 * views, 3)
    by_offset = noise.eliminated(noise.own.by_offset(noise.own.applied(by_unknown)).sum(axis=1))[..., 0]
    np.testing.assert_allclose(whitened.T @ whitened - by_offset.T @ by_offset, expected, rtol=1e-9)
