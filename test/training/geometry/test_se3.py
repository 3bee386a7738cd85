"""SE(3) against the matrix exponential's own algorithm (scaling and squaring) and closed forms, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.geometry.se3 import invert, rigid_transform, se3_exp, se3_log, so3_exp, so3_log


def float64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def hat(axis_angle: Tensor) -> Tensor:
    x, y, z = axis_angle.tolist()
    return float64([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def twist_matrix(twist: Tensor) -> Tensor:
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[:3, :3] = hat(twist[3:])
    matrix[:3, 3] = twist[:3]
    return matrix


coordinate = st.floats(-1.8, 1.8)  # three of them make at most 3.12 rad, below pi
tiny = st.floats(-1e-6, 1e-6)
axis_angles = st.one_of(st.tuples(*[coordinate] * 3), st.tuples(*[tiny] * 3)).map(float64)
translations = st.tuples(*[st.floats(-50, 50)] * 3).map(float64)

AXES = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.36, 0.48, -0.8]]


@given(axis_angles)
@settings(deadline=None)
def test_rotation_is_the_matrix_exponential(axis_angle: Tensor) -> None:
    expected = torch.linalg.matrix_exp(hat(axis_angle))
    torch.testing.assert_close(so3_exp(axis_angle), expected, atol=1e-14, rtol=0)


@given(translations, axis_angles)
@settings(deadline=None)
def test_transform_is_the_matrix_exponential(velocity: Tensor, axis_angle: Tensor) -> None:
    twist = torch.cat([velocity, axis_angle])
    expected = torch.linalg.matrix_exp(twist_matrix(twist))
    torch.testing.assert_close(se3_exp(twist), expected, atol=1e-12, rtol=0)


@given(translations, axis_angles)
@settings(deadline=None)
def test_matrix_exponential_of_the_logarithm_is_the_transform(translation: Tensor, axis_angle: Tensor) -> None:
    transform = rigid_transform(torch.linalg.matrix_exp(hat(axis_angle)), translation)
    recovered = torch.linalg.matrix_exp(twist_matrix(se3_log(transform)))
    torch.testing.assert_close(recovered, transform, atol=1e-11, rtol=0)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-4, 0.999999, 1.000001, 2.0, 3.1, math.pi - 1e-9])
def test_logarithm_inverts_rodrigues_formula(axis: list[float], angle: float) -> None:
    cosine, sine, n = math.cos(angle), math.sin(angle), float64(axis)
    rotation = cosine * torch.eye(3, dtype=torch.float64) + sine * hat(n) + (1 - cosine) * torch.outer(n, n)
    torch.testing.assert_close(so3_log(rotation), angle * n, atol=1e-12, rtol=0)


@pytest.mark.parametrize("axis", AXES)
def test_logarithm_of_a_half_turn_has_length_pi_along_the_axis(axis: list[float]) -> None:
    n = float64(axis)
    half_turn = 2 * torch.outer(n, n) - torch.eye(3, dtype=torch.float64)
    axis_angle = so3_log(half_turn)
    assert axis_angle.norm().item() == pytest.approx(math.pi, abs=1e-7)
    assert abs(torch.dot(axis_angle, n).item()) == pytest.approx(math.pi, abs=1e-7)


def test_exponential_at_zero_is_exactly_the_identity() -> None:
    assert torch.equal(se3_exp(torch.zeros(6)), torch.eye(4))
    assert torch.equal(se3_log(torch.eye(4)), torch.zeros(6))


def test_float32_rotation_resolves_small_angles() -> None:
    axis_angle = float64([1e-4, -2e-4, 3e-4])
    expected = torch.linalg.matrix_exp(hat(axis_angle)).float()
    torch.testing.assert_close(so3_exp(axis_angle.float()), expected, atol=1e-11, rtol=1e-6)
    torch.testing.assert_close(so3_log(expected), axis_angle.float(), atol=0, rtol=1e-5)


@pytest.mark.parametrize(
    "twist",
    [
        [0.0] * 6,
        [1.0, -2.0, 3.0, 0.0, 0.0, 0.0],
        [1.0, 2.0, 3.0, 1e-5, 0, 0],
        [1, 2, 3, 0.6, -0.8, 0.1],
        [0, 0, 1, 2, 1, 1],
    ],
)
def test_gradients(twist: list[float]) -> None:
    point = float64(twist).requires_grad_()
    assert torch.autograd.gradcheck(se3_exp, point)
    assert torch.autograd.gradcheck(lambda t: se3_log(se3_exp(t)), point)


def test_gradients_of_a_batch_that_mixes_zero_small_and_large() -> None:
    twists = float64([[0.0] * 6, [1e-9] * 6, [0.5] * 6, [1, 1, 1, 1.7, 1.7, 1.7]]).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda t: se3_log(se3_exp(t)), twists)
    expected = torch.eye(24, dtype=torch.float64).view(4, 6, 4, 6)
    torch.testing.assert_close(jacobian, expected, atol=1e-9, rtol=0)


@given(translations, axis_angles)
@settings(deadline=None)
def test_inverse_is_the_matrix_inverse(translation: Tensor, axis_angle: Tensor) -> None:
    transform = rigid_transform(so3_exp(axis_angle), translation)
    torch.testing.assert_close(invert(transform), torch.linalg.inv(transform), atol=1e-11, rtol=0)


def test_leading_dimensions_are_kept() -> None:
    twists = torch.randn(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2
    transforms = se3_exp(twists)
    assert transforms.shape == (2, 3, 4, 4)
    torch.testing.assert_close(transforms[1, 2], torch.linalg.matrix_exp(twist_matrix(twists[1, 2])))
    torch.testing.assert_close(se3_log(transforms), twists)
