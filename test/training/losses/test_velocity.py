"""Length of motion against distance travelled."""

from __future__ import annotations

import math

import pytest
import torch

from training.losses.velocity import velocity_loss


def motions(*translations: tuple[float, float, float]) -> torch.Tensor:
    T = torch.eye(4).repeat(1, len(translations), 1, 1)
    T[0, :, :3, 3] = torch.tensor(translations)
    return T


def test_is_the_difference_of_lengths_where_speed_is_known() -> None:
    T = motions((3.0, 0.0, 4.0), (0.0, 0.0, -1.0), (9.0, 9.0, 9.0))
    assert float(velocity_loss(T, torch.tensor([[4.5, 1.8, math.nan]]))) == pytest.approx((0.5 + 0.8) / 2)
    assert float(velocity_loss(T, torch.full((1, 3), math.nan))) == 0


def test_gradient_lengthens_what_is_too_short_and_is_finite_at_no_motion() -> None:
    T = motions((0.0, 0.0, 2.0), (0.0, 0.0, 0.0)).requires_grad_()
    velocity_loss(T, torch.tensor([[3.0, 1.0]])).backward()
    assert T.grad is not None
    assert T.grad.isfinite().all()
    torch.testing.assert_close(T.grad[0, 0, :3, 3], torch.tensor([0.0, 0.0, -0.5]))


def test_unknown_distances_teach_nothing() -> None:
    T = motions((0.0, 0.0, 2.0)).requires_grad_()
    velocity_loss(T, torch.tensor([[math.nan]])).backward()
    assert T.grad is not None
    assert (T.grad == 0).all()
