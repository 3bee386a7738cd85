"""Masks of photometric errors against hand computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.losses.masks import best_source, mean_source, outlier_mask


def errors(seed: int, scales: int = 2, sources: int = 2) -> Tensor:
    return torch.rand(3, scales, sources, 1, 5, 7, generator=torch.Generator().manual_seed(seed))


@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.integers(0, 99))
def test_outliers_are_those_of_their_own_depth_map(lower: float, upper: float, seed: int) -> None:
    e = errors(seed)
    visible = errors(seed + 100) < 0.7
    mask = outlier_mask(e, visible, lower, upper)
    for b, s in np.ndindex(3, 2):
        values = e[b, s][visible[b, s]].double().numpy()
        low, high = values.mean() - lower * values.std(), values.mean() + upper * values.std()
        near = np.minimum(abs(e[b, s].numpy() - low), abs(e[b, s].numpy() - high)) < 1e-5  # rounding decides
        expected = (e[b, s].numpy() > low) & (e[b, s].numpy() < high) & visible[b, s].numpy()
        assert ((mask[b, s].numpy() == expected) | near).all()


def test_defaults_of_dipe_drop_the_occluded_and_the_unmoving() -> None:
    e = torch.full((1, 1, 1, 10, 10), 0.2)
    e[..., 0, :] = 0.9  # occluded
    e[..., 1, :4] = 0.0  # nothing to see
    mask = outlier_mask(e, torch.ones_like(e, dtype=torch.bool), 1.0, 0.5)
    mean, sigma = float(e.mean()), float(e.std(correction=0))
    assert mean - sigma > 0.0
    assert mask[..., 2:, :].all()
    assert not mask[..., 0, :].any()
    assert not mask[..., 1, :4].any()


def test_masks_send_no_gradient_and_nothing_visible_is_no_error() -> None:
    e = errors(1).requires_grad_()
    assert not outlier_mask(e, torch.ones_like(e, dtype=torch.bool), 1.0, 0.5).requires_grad
    assert not outlier_mask(e, torch.zeros_like(e, dtype=torch.bool), 1.0, 0.5).any()


def test_the_best_source_brings_its_own_maps() -> None:
    e, weights = errors(2), errors(3)
    mask = errors(4) < 0.5
    least, weight, chosen = best_source(e, weights, mask)
    torch.testing.assert_close(least, e.amin(dim=2))
    second = e[:, :, 1] < e[:, :, 0]
    torch.testing.assert_close(weight, torch.where(second, weights[:, :, 1], weights[:, :, 0]))
    assert torch.equal(chosen, torch.where(second, mask[:, :, 1], mask[:, :, 0]))
    (broadcast,) = best_source(e, weights[:, :1])[1:]
    torch.testing.assert_close(broadcast, torch.where(second, weights[:, :1, 1], weights[:, :1, 0]))


def test_the_mean_is_over_sources_that_count() -> None:
    e, weights = errors(5), errors(6)
    counted = errors(7) < 0.6
    mean, weight = mean_source(e, counted, weights)
    for index in np.ndindex(3, 2, 1, 5, 7):
        b, s, *pixel = index
        of = [n for n in range(2) if counted[(b, s, n, *pixel)]]
        if not of:
            assert float(mean[index]) == float("inf")
            assert float(weight[index]) == 0
        else:
            assert float(mean[index]) == pytest.approx(np.mean([float(e[(b, s, n, *pixel)]) for n in of]))
            assert float(weight[index]) == pytest.approx(np.mean([float(weights[(b, s, n, *pixel)]) for n in of]))
