"""Coherent disparity of instances, one by one in plain Python, as 3D Ken Burns describes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from training.losses.coherence import coherent_disparity


def adjusted(disparity: NDArray[np.float64], instances: NDArray[np.uint8]) -> NDArray[np.float64]:
    """One image [H, W]: erode, find the rows, take the largest value at the lower end, instance by instance."""
    result = disparity.copy()
    for number in np.unique(instances[instances > 0]):
        mask = instances == number
        padded = np.pad(mask, 2, constant_values=True)  # nothing is known beyond the image
        values = np.pad(disparity, 2, constant_values=np.inf)
        inside = np.zeros_like(mask)
        least = np.zeros_like(disparity)
        for y, x in np.argwhere(mask):
            inside[y, x] = padded[y : y + 5, x : x + 5].all()
            least[y, x] = values[y : y + 5, x : x + 5].min()
        if not inside.any():
            continue
        rows = np.flatnonzero(inside.any(axis=1))
        first = round(rows[0] + 0.97 * (rows[-1] - rows[0]))
        lower = inside & (np.arange(len(mask))[:, None] >= first)
        result[mask] = least[lower].max()
    return result


def random_scene(seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    disparity = torch.from_numpy(rng.uniform(0.01, 0.9, (2, 1, 24, 32)))
    instances = np.zeros((2, 1, 24, 32), np.uint8)
    for image in instances[:, 0]:
        for number in rng.permutation(255)[: rng.integers(0, 5)] + 1:
            y, x = rng.integers(0, 20), rng.integers(0, 28)
            image[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = number
    return disparity, torch.from_numpy(instances)


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_is_the_adjustment_of_each_instance(seed: int) -> None:
    disparity, instances = random_scene(seed)
    got = coherent_disparity(disparity, instances)
    for b in range(2):
        expected = adjusted(disparity[b, 0].numpy(), instances[b, 0].numpy())
        np.testing.assert_array_equal(got[b, 0].numpy(), expected)


def test_a_leaning_person_stands_where_the_feet_are() -> None:
    """Disparity grows from 0.2 at the head to 0.4 at the feet, before a background of 0.1."""
    disparity = torch.full((1, 1, 60, 40), 0.1)
    instances = torch.zeros(1, 1, 60, 40, dtype=torch.uint8)
    instances[..., 5:55, 10:25] = 3
    rows = torch.linspace(0.2, 0.4, 50).view(1, 1, 50, 1)
    disparity[..., 5:55, 10:25] = rows.expand(1, 1, 50, 15)
    result = coherent_disparity(disparity, instances)
    inside = result[instances > 0]
    assert inside.unique().numel() == 1
    # The lowest row whose neighbourhood is all inside is the third from the feet, and its least the fifth.
    assert float(inside[0]) == pytest.approx(float(rows[0, 0, -5]))
    assert (result[instances == 0] == 0.1).all()


def test_gradients_of_an_instance_reach_the_place_it_was_taken_from() -> None:
    disparity, instances = random_scene(3)
    disparity.requires_grad_()
    result = coherent_disparity(disparity, instances)
    numbers = [int(n) for n in instances[0].unique() if n]
    assert numbers
    for number in numbers:
        mask = instances[:1] == number
        (gradient,) = torch.autograd.grad(result[:1][mask].sum(), disparity, retain_graph=True)
        assert float(gradient.sum()) == pytest.approx(int(mask.sum()))
        assert (gradient[:1][~mask] == 0).all()


def test_nothing_marked_changes_nothing() -> None:
    disparity, instances = random_scene(0)
    assert torch.equal(coherent_disparity(disparity, torch.zeros_like(instances)), disparity)
