"""Losses against known depth, against float64 hand computation and the invariances that they are named after."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depth_node.camera import PinholeCamera
from training.losses.supervised import (
    gradient_matching,
    log_l1,
    log_residual,
    scale_invariant,
    to_canonical_focal,
    upsample,
)


@pytest.fixture
def prediction() -> Tensor:
    """Inverse depth of 3 to 50 m, [2, 1, 6, 8]."""
    return 1 / (3 + 47 * torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def truth() -> Tensor:
    """Depth of 3 to 50 m with a third unknown, [2, 1, 6, 8]."""
    generator = torch.Generator().manual_seed(1)
    depth = 3 + 47 * torch.rand(2, 1, 6, 8, generator=generator)
    return torch.where(torch.rand(2, 1, 6, 8, generator=generator) < 0.33, 0.0, depth)


def residuals_by_hand(prediction: Tensor, truth: Tensor) -> list[np.ndarray]:
    """ln(predicted / true) of the known pixels of each image, float64."""
    pairs = zip(prediction.double().numpy(), truth.double().numpy(), strict=True)
    return [np.log(1 / q[d > 0] / d[d > 0]) for q, d in pairs]


def test_residual_is_the_logarithm_of_the_ratio_where_depth_is_known(prediction: Tensor, truth: Tensor) -> None:
    residual, known = log_residual(prediction, truth)
    assert known.tolist() == (truth > 0).tolist()
    assert (residual[~known] == 0).all()
    for got, mask, expected in zip(residual, known, residuals_by_hand(prediction, truth), strict=True):
        np.testing.assert_allclose(got[mask].numpy(), expected, atol=1e-6)


def test_unknown_depth_sends_no_gradient(prediction: Tensor, truth: Tensor) -> None:
    q = prediction.clone().requires_grad_()
    residual, known = log_residual(q, truth)
    (log_l1(residual, known) + scale_invariant(residual, known) + gradient_matching(residual, known)).backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
    assert (q.grad[~known] == 0).all()
    assert (q.grad[known] != 0).float().mean() > 0.5


def test_log_l1_counts_a_wrong_label_no_more_than_its_limit(prediction: Tensor, truth: Tensor) -> None:
    by_hand = np.abs(np.concatenate(residuals_by_hand(prediction, truth)))
    residual, known = log_residual(prediction, truth)
    assert log_l1(residual, known, limit=math.inf).item() == pytest.approx(by_hand.mean(), rel=1e-5)
    assert log_l1(residual, known, limit=0.5).item() == pytest.approx(np.minimum(by_hand, 0.5).mean(), rel=1e-5)
    spoilt = truth.clone()
    spoilt[0, 0, 0, 0] = 1e5
    clean = truth.clone()
    clean[0, 0, 0, 0] = 1 / prediction[0, 0, 0, 0]
    difference = log_l1(*log_residual(prediction, spoilt)) - log_l1(*log_residual(prediction, clean))
    assert difference.item() == pytest.approx(0.5 / (spoilt > 0).sum().item(), rel=1e-4)


@pytest.mark.parametrize("focus", [0.0, 0.85, 1.0])
def test_scale_invariant_error_by_hand(prediction: Tensor, truth: Tensor, focus: float) -> None:
    expected = np.mean([math.sqrt((r**2).mean() - focus * r.mean() ** 2) for r in residuals_by_hand(prediction, truth)])
    assert scale_invariant(*log_residual(prediction, truth), focus).item() == pytest.approx(expected, rel=1e-5)


def test_scale_does_not_matter_at_full_focus(prediction: Tensor, truth: Tensor) -> None:
    def loss(q: Tensor, focus: float) -> float:
        return scale_invariant(*log_residual(q, truth), focus).item()

    assert loss(prediction / 3, 1.0) == pytest.approx(loss(prediction, 1.0), rel=1e-5)
    assert loss(prediction / 3, 0.85) > 1.05 * loss(prediction, 0.85)


def test_an_image_without_truth_does_not_count(prediction: Tensor, truth: Tensor) -> None:
    half = truth.clone()
    half[1] = 0
    alone = scale_invariant(*log_residual(prediction[:1], truth[:1]))
    torch.testing.assert_close(scale_invariant(*log_residual(prediction, half)), alone)
    nothing = log_residual(prediction, torch.zeros_like(truth))
    assert [loss(*nothing).item() for loss in (log_l1, scale_invariant, gradient_matching)] == [0, 0, 0]


def gradients_by_hand(residual: np.ndarray, known: np.ndarray, scales: int) -> float:
    total = 0.0
    for scale in range(scales):
        r, k = residual[:, :: 2**scale, :: 2**scale], known[:, :: 2**scale, :: 2**scale]
        for dy, dx in ((0, 1), (1, 0)):
            steps = [
                min(abs(r[b, y + dy, x + dx] - r[b, y, x]), 1.0)
                for b in range(r.shape[0])
                for y in range(r.shape[1] - dy)
                for x in range(r.shape[2] - dx)
                if k[b, y, x] and k[b, y + dy, x + dx]
            ]
            total += float(np.mean(steps)) if steps else 0.0
    return total / scales


@pytest.mark.parametrize("scales", [1, 4])
def test_gradient_matching_by_hand(prediction: Tensor, truth: Tensor, scales: int) -> None:
    residual, known = log_residual(prediction, truth)
    expected = gradients_by_hand(residual[:, 0].double().numpy(), known[:, 0].numpy(), scales)
    assert gradient_matching(residual, known, scales).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_matching_ignores_scale_and_sees_blurred_edges() -> None:
    truth = torch.full((1, 1, 16, 16), 40.0)
    truth[..., 8:] = 5.0
    assert gradient_matching(*log_residual(1 / (3 * truth), truth)).item() == pytest.approx(0.0, abs=1e-5)
    blurred = torch.nn.functional.avg_pool2d(1 / truth, (1, 5), stride=1, padding=(0, 2), count_include_pad=False)
    assert gradient_matching(*log_residual(blurred, truth)).item() > 0.05


def test_a_zoomed_image_shows_a_nearer_world_to_the_canonical_camera() -> None:
    """The middle half of an image is the image of a camera with twice fx/W: same metres, half the canonical depth."""
    camera = PinholeCamera(width=100, height=60, fx=80, fy=80, cx=49.5, cy=29.5)
    zoomed = camera.cropped(25, 15, 50, 30)
    intrinsics = torch.tensor([camera.normalized(), zoomed.normalized()])
    canonical = to_canonical_focal(torch.full((2, 1, 3, 4), 12.0), intrinsics, focal=0.4)
    # An object of 2 m at 12 m covers 2 fx / 12 / W of the image: 0.8 / 6 and 1.6 / 6.
    for depth, share in zip(canonical[:, 0, 0, 0].tolist(), (0.8 / 6, 1.6 / 6), strict=True):
        assert 0.4 * 2 / depth == pytest.approx(share)


def test_upsampling_keeps_pixel_centres() -> None:
    ramp = torch.arange(6.0).view(1, 1, 1, 6).expand(1, 1, 4, 6)
    large = upsample(ramp, (8, 12))
    inside = torch.arange(1, 11)
    torch.testing.assert_close(large[0, 0, 3, 1:11], (inside + 0.5) / 2 - 0.5)
    assert upsample(ramp, (4, 6)) is ramp
