"""Median-scaled error of validation batches, by hand."""

from __future__ import annotations

import pytest
import torch

from training.tasks.validation import median_scaled_abs_rel


def test_each_image_is_scaled_by_its_own_median() -> None:
    truth = 5 + 40 * torch.rand(3, 1, 40, 60, generator=torch.Generator().manual_seed(0))
    factors = torch.tensor([0.1, 1.0, 7.0]).view(3, 1, 1, 1)
    assert median_scaled_abs_rel(1 / (factors * truth), truth) == pytest.approx([0] * 3, abs=1e-6)


def test_error_of_two_regions() -> None:
    """Three quarters of the counted pixels at 10 m set the median; a quarter is predicted at 12 m instead of 20 m."""
    truth = torch.full((1, 1, 100, 100), 10.0)
    prediction = truth.clone()
    truth[..., 4:27], prediction[..., 4:27] = 20.0, 12.0  # of the columns 3 to 95 that Garg's crop keeps
    share = 23 / 93
    assert median_scaled_abs_rel(1 / (2 * prediction), truth) == pytest.approx([share * 8 / 20], rel=1e-2)


def test_only_known_depth_nearer_than_80_m_inside_the_crop_counts() -> None:
    truth = torch.full((1, 1, 100, 100), 10.0)
    prediction = truth.clone()
    truth[..., 50:60, 10:20] = 0.0
    truth[..., 60:70, 10:20] = 90.0
    prediction[..., 50:70, 10:20] = 70.0
    prediction[..., :40, :] = 1.0  # above the crop
    assert median_scaled_abs_rel(1 / prediction, truth) == pytest.approx([0], abs=1e-6)


def test_images_without_truth_do_not_count() -> None:
    truth = torch.full((2, 1, 40, 60), 10.0)
    truth[1] = 0
    assert median_scaled_abs_rel(torch.full_like(truth, 0.3), truth) == pytest.approx([0], abs=1e-6)
    assert median_scaled_abs_rel(torch.full_like(truth, 0.3), torch.zeros_like(truth)) == []
