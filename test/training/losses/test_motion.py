"""Motion and intrinsics against known ones: closed forms, and SciPy's rotations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from training.errors import DataError
from training.geometry.se3 import rigid_transform
from training.losses.motion import center_error, focal_error, motion_terms, rotation_error, translation_error
from training.losses.options import MotionLosses


def transform(axis_angle: list[float], translation: list[float]) -> Tensor:
    rotation = torch.tensor(Rotation.from_rotvec(axis_angle).as_matrix(), dtype=torch.float32)
    return rigid_transform(rotation, torch.tensor(translation))


def test_rotation_error_is_the_angle_between_the_two() -> None:
    first, second = np.array([0.3, -0.2, 0.1]), np.array([-0.1, 0.25, 0.4])
    expected = (Rotation.from_rotvec(first).inv() * Rotation.from_rotvec(second)).magnitude()
    T, known = transform([*first], [1.0, 2.0, 3.0]), transform([*second], [0.0, 0.0, 0.0])
    assert float(rotation_error(T, known)) == pytest.approx(expected, rel=1e-5)
    assert float(rotation_error(known, T)) == pytest.approx(expected, rel=1e-5)


def test_translation_error_is_relative_but_for_the_last_ten_centimetres() -> None:
    still = [0.0, 0.0, 0.0]
    far, near = transform(still, [0.0, 3.0, 4.0]), transform(still, [0.0, 3.0, 3.0])
    assert float(translation_error(near, far)) == pytest.approx(1 / 5.1)
    standing = transform(still, still)
    assert float(translation_error(transform(still, [0.05, 0.0, 0.0]), standing)) == pytest.approx(0.5)


def test_a_focal_length_twice_as_long_is_as_wrong_as_one_half_as_long() -> None:
    known = torch.tensor([0.6, 1.8, 0.5, 0.5])
    for factor in (2.0, 0.5):
        wrong = known * torch.tensor([factor, factor, 1.0, 1.0])
        assert float(focal_error(wrong, known)) == pytest.approx(math.log(2))
    assert float(focal_error(torch.tensor([0.66, 1.8, 0.5, 0.5]), known)) == pytest.approx(math.log(1.1) / 2)
    assert float(center_error(torch.tensor([0.6, 1.8, 0.52, 0.49]), known)) == pytest.approx(0.015, rel=1e-4)


def test_terms_are_weighted_and_vanish_at_the_truth_with_finite_gradients() -> None:
    known = torch.stack([transform([0.0, 0.1, 0.0], [0.0, 0.0, -1.0])])[None]
    camera = torch.tensor([[0.6, 1.8, 0.5, 0.5]])
    T, intrinsics = known.clone().requires_grad_(), camera.clone().requires_grad_()
    terms = motion_terms(T, intrinsics, known, camera, MotionLosses())
    assert {*terms} == {"rotation", "translation", "intrinsics"}
    total = torch.stack([*terms.values()]).sum()
    assert float(total.detach()) == pytest.approx(0, abs=1e-3)
    total.backward()
    for leaf in (T, intrinsics):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()

    other = torch.stack([transform([0.0, 0.15, 0.0], [0.0, 0.0, -1.0])])[None]
    terms = motion_terms(other, 2 * camera, known, camera, MotionLosses(rotation=4.0, translation=0.0, intrinsics=3.0))
    assert {*terms} == {"rotation", "intrinsics"}
    assert float(terms["rotation"]) == pytest.approx(4 * 0.05, rel=1e-4)
    assert float(terms["intrinsics"]) == pytest.approx(3 * (math.log(2) + 0.5), rel=1e-5)


def test_weights_that_teach_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="one above 0"):
        MotionLosses(rotation=0, translation=0, intrinsics=0)
