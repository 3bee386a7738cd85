"""Rotation tells the focal length, translation does not."""

from __future__ import annotations

import math

import pytest
import torch

from training.geometry.focal_evidence import edge_shift_per_focal_error, focal_tolerance, is_observable, unobservable
from training.geometry.projection import back_project, project, transform_points
from training.geometry.se3 import rigid_transform, so3_exp

WIDTH, HEIGHT = 192, 64
INTRINSICS = torch.tensor([0.6, 1.8, 0.5, 0.5], dtype=torch.float64)


def warped(intrinsics: torch.Tensor, axis_angle: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Pixels [2, H, W] that the source camera sees the target's at; a world of slanted depth."""
    slant = torch.linspace(5, 20, WIDTH, dtype=torch.float64).expand(1, HEIGHT, WIDTH)
    points = transform_points(rigid_transform(so3_exp(axis_angle), translation), back_project(slant, intrinsics))
    return project(points, intrinsics)


def test_pure_translation_looks_the_same_with_any_camera() -> None:
    """The textbook ambiguity: K t is all that shows, so that t' = K'^-1 K t makes up for a wrong K'."""
    none = torch.zeros(3, dtype=torch.float64)
    translation = torch.tensor([0.3, -0.1, 0.8], dtype=torch.float64)
    other = torch.tensor([0.9, 1.2, 0.4, 0.55], dtype=torch.float64)
    fx, fy, cx, cy = INTRINSICS.tolist()
    gx, gy, ax, ay = other.tolist()
    x, y, z = translation.tolist()
    made_up = torch.tensor([(fx * x + (cx - ax) * z) / gx, (fy * y + (cy - ay) * z) / gy, z], dtype=torch.float64)
    torch.testing.assert_close(
        warped(other, none, made_up), warped(INTRINSICS, none, translation), rtol=1e-12, atol=1e-10
    )


def test_after_a_turn_no_other_turn_makes_up_for_a_wrong_focal_length() -> None:
    """What remains at the image's edge is what `edge_shift_per_focal_error` says of it."""
    turn = torch.tensor([0.0, 0.02, 0.0], dtype=torch.float64)
    none = torch.zeros(3, dtype=torch.float64)
    error = 0.01
    wrong = INTRINSICS * torch.tensor([1 + error, 1 + error, 1, 1], dtype=torch.float64)
    middle = slice(HEIGHT // 2, HEIGHT // 2 + 1), slice(WIDTH // 2 - 1, WIDTH // 2 + 1)
    true = warped(INTRINSICS, turn, none)
    # The turn that leaves the middle where it is.
    made_up = warped(wrong, turn / (1 + error), none)
    assert (made_up - true)[(slice(None), *middle)].abs().max() < 0.01
    edge = float((made_up - true)[0, HEIGHT // 2, 0].abs())
    predicted = error * float(edge_shift_per_focal_error(turn, INTRINSICS, WIDTH, HEIGHT))
    assert edge == pytest.approx(predicted, rel=0.1)


def test_gordons_tolerance() -> None:
    """2 f^2 / (r w^2) for a shift of one pixel, as the paper has it; ours is for a tenth of one."""
    focal, turn = 0.6 * WIDTH, 0.01
    shift = edge_shift_per_focal_error(torch.tensor([0.0, turn, 0.0]).double(), INTRINSICS, WIDTH, HEIGHT)
    assert focal_tolerance(float(shift)) * focal == pytest.approx(0.1 * 2 * focal**2 / (turn * WIDTH**2))


def test_who_does_not_turn_is_told() -> None:
    assert not is_observable(0.0)
    assert math.isinf(focal_tolerance(0.0))
    assert not is_observable(0.4)
    assert is_observable(0.6)
    assert "hardly turns. An error of 10 % moves no pixel by more than 0.04" in unobservable(0.4)
