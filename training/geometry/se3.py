"""Rigid transforms: exponential and logarithm of SO(3) and SE(3), inverse.

A transform T_b_a: float [..., 4, 4] maps points from frame a to frame b; T_c_b @ T_b_a composes. All functions are
batched over leading dimensions, keep the dtype, and are differentiable at every rotation below pi, zero included.
Written without matrix products, whose float32 may be TensorFloat-32 (10 bits of mantissa) on a GPU.
Source: Barfoot, State Estimation for Robotics, chapter 7.
"""

from __future__ import annotations

from math import factorial

import torch
from torch import Tensor

_SERIES_TERMS = 10  # below an angle of 1 rad the first term left out is 1/21!, less than float64 resolves


def so3_exp(axis_angle: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of axis_angle [..., 3] in radians (Rodrigues' formula)."""
    sine, cosine, _ = _trigonometric_ratios(axis_angle.square().sum(-1))
    return _identity_plus(axis_angle, sine, cosine)


def so3_log(rotation: Tensor) -> Tensor:
    """Axis-angle [..., 3] in radians, of length at most pi, of rotation [..., 3, 3].

    Through the unit quaternion, which is well conditioned up to pi (Shepperd, 1978). At pi the axis has either sign.
    """
    quaternion = _quaternion(rotation)
    real, vector = quaternion[..., :1], quaternion[..., 1:]
    square = vector.square().sum(-1, keepdim=True)
    small = square < 1e-6
    norm = torch.where(small, 1.0, square).sqrt()
    ratio_squared = torch.where(small, square / real.clamp(min=0.5).square(), 0.0)
    # 2 atan2(|v|, w) / |v|, and its Taylor series at |v| = 0
    near_zero = 2 / real.clamp(min=0.5) * (1 - ratio_squared / 3 + ratio_squared.square() / 5)
    return vector * torch.where(small, near_zero, 2 * torch.atan2(norm, real) / norm)


def se3_exp(twist: Tensor) -> Tensor:
    """Transforms [..., 4, 4] of twist [..., 6]: translational part in metres, then rotational part in radians."""
    velocity, axis_angle = twist[..., :3], twist[..., 3:]
    sine, cosine, cubic = _trigonometric_ratios(axis_angle.square().sum(-1))
    rotation = _identity_plus(axis_angle, sine, cosine)
    left_jacobian = _identity_plus(axis_angle, cosine, cubic)
    return rigid_transform(rotation, (left_jacobian * velocity.unsqueeze(-2)).sum(-1))


def se3_log(transform: Tensor) -> Tensor:
    """Twist [..., 6] of transform [..., 4, 4]: translational part in metres, then rotational part in radians."""
    axis_angle = so3_log(transform[..., :3, :3])
    _, cosine, cubic = _trigonometric_ratios(axis_angle.square().sum(-1))
    velocity = torch.linalg.solve(_identity_plus(axis_angle, cosine, cubic), transform[..., :3, 3])
    return torch.cat([velocity, axis_angle], dim=-1)


def rigid_transform(rotation: Tensor, translation: Tensor) -> Tensor:
    """Transform [..., 4, 4] of rotation [..., 3, 3] and translation [..., 3]."""
    upper = torch.cat([rotation, translation.unsqueeze(-1)], dim=-1)
    lower = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, lower], dim=-2)


def invert(transform: Tensor) -> Tensor:
    """T_a_b [..., 4, 4] of the rigid transform T_b_a [..., 4, 4]."""
    inverse = transform[..., :3, :3].mT
    return rigid_transform(inverse, -(inverse * transform[..., None, :3, 3]).sum(-1))


def _identity_plus(axis_angle: Tensor, linear: Tensor, quadratic: Tensor) -> Tensor:
    """I + linear K + quadratic K^2 for K = [axis_angle]x; K^2 = w w^T - |w|^2 I."""
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    outer = axis_angle.unsqueeze(-1) * axis_angle.unsqueeze(-2)
    skew_squared = outer - axis_angle.square().sum(-1)[..., None, None] * identity
    return identity + linear[..., None, None] * skew + quadratic[..., None, None] * skew_squared


def _trigonometric_ratios(angle_squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1 - cos(a))/a^2 and (a - sin(a))/a^3, each [...], of angle_squared [...]."""
    small = angle_squared < 1
    # Each branch of torch.where gets arguments at which its own derivative is finite.
    square = torch.where(small, 1.0, angle_squared)
    angle = square.sqrt()
    series_argument = torch.where(small, angle_squared, 0.0)
    closed_forms = (angle.sin() / angle, (1 - angle.cos()) / square, (angle - angle.sin()) / (square * angle))
    sine, cosine, cubic = (
        torch.where(small, _alternating_series(series_argument, order), closed)
        for order, closed in enumerate(closed_forms, start=1)
    )
    return sine, cosine, cubic


def _alternating_series(square: Tensor, order: int) -> Tensor:
    """Sum over k of (-square)^k / (2k + order)!, by Horner's rule."""
    total = torch.zeros_like(square)
    for k in reversed(range(_SERIES_TERMS)):
        total = 1 / factorial(2 * k + order) - square * total
    return total


def _quaternion(rotation: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) [..., 4] with w >= 0 of rotation [..., 3, 3]."""
    r = [[rotation[..., i, j] for j in range(3)] for i in range(3)]
    w_xyz = (r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1])
    x_y, x_z, y_z = r[0][1] + r[1][0], r[0][2] + r[2][0], r[1][2] + r[2][1]
    diagonal = (
        1 + r[0][0] + r[1][1] + r[2][2],
        1 + r[0][0] - r[1][1] - r[2][2],
        1 - r[0][0] + r[1][1] - r[2][2],
        1 - r[0][0] - r[1][1] + r[2][2],
    )
    # Row i is 4 q_i q: the row of the largest component is never near zero.
    rows = torch.stack(
        [
            torch.stack([diagonal[0], *w_xyz], dim=-1),
            torch.stack([w_xyz[0], diagonal[1], x_y, x_z], dim=-1),
            torch.stack([w_xyz[1], x_y, diagonal[2], y_z], dim=-1),
            torch.stack([w_xyz[2], x_z, y_z, diagonal[3]], dim=-1),
        ],
        dim=-2,
    )
    largest = torch.stack(diagonal, dim=-1).argmax(-1)
    row = rows.take_along_dim(largest[..., None, None], dim=-2).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)
    return row / row.norm(dim=-1, keepdim=True)
