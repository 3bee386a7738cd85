"""Edge-aware smoothness against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch

from training.losses.smoothness import edge_aware_smoothness

RAMP = torch.tensor([1.0, 2.0, 3.0, 6.0]).expand(1, 1, 2, 4)  # mean 3, steps of 1, 1, 3 along x, none along y
GRAY = torch.full((1, 3, 2, 4), 0.5)


def test_gradient_of_the_mean_normalized_disparity() -> None:
    assert edge_aware_smoothness(RAMP, GRAY).item() == pytest.approx((1 + 1 + 3) / 3 / 3)


def test_image_edges_excuse_disparity_edges() -> None:
    image = GRAY.clone()
    image[..., 3] = 0.9
    image[:, 0, :, 3] = 0.6  # the mean step over the channels is (0.1 + 0.4 + 0.4) / 3 = 0.3
    assert edge_aware_smoothness(RAMP, image).item() == pytest.approx((1 + 1 + 3 * math.exp(-0.3)) / 3 / 3)


def test_rows_count_as_columns_do() -> None:
    torch.testing.assert_close(edge_aware_smoothness(RAMP.mT, GRAY.mT), edge_aware_smoothness(RAMP, GRAY))


def test_scale_of_each_map_does_not_matter() -> None:
    flat_and_ramp = torch.cat([torch.ones_like(RAMP), 100 * RAMP])
    assert edge_aware_smoothness(flat_and_ramp, GRAY.expand(2, -1, -1, -1)).item() == pytest.approx((0 + 5 / 9) / 2)
