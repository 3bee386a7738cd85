"""Normal equations of a bundle adjustment, with points and what their observations share eliminated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from depth_node.intrinsics.projection import CAMERA, POSE, Float64
from depth_node.intrinsics.tracks import SharedNoise

_RIDGE = 1e-9


@dataclass(frozen=True)
class DepthDeviation:
    """How inverse depth [N] deviates from what was predicted, beyond modes [K, N] times their amplitudes [K].

    information: [N], of the deviation. mode_information: of each amplitude, which is expected to be zero.
    """

    deviation: Float64
    information: Float64
    modes: Float64
    amplitudes: Float64
    mode_information: float


@dataclass(frozen=True)
class NormalEquations:
    """Of camera, poses and modes (n), with points eliminated; and what it takes to find the points [N].

    hessian: [n, n], gradient: [n], coupling: [n, N], point_hessian: [N], point_gradient: [N].
    """

    hessian: Float64
    gradient: Float64
    coupling: Float64
    point_hessian: Float64
    point_gradient: Float64

    def point_step(self, change: Float64) -> Float64:
        """Change of inverse depths [N] that goes with a change [n] of all else."""
        step: Float64 = -(self.point_gradient + change @ self.coupling) / self.point_hessian
        return step

    def of_camera(self) -> tuple[Float64, Float64]:
        """Hessian [6, 6] and gradient [6] of the camera alone, all else eliminated."""
        return _reduced(self.hessian, self.gradient, CAMERA)

    def of_modes(self, count: int) -> tuple[Float64, Float64]:
        """Hessian [K, K] and gradient [K] of the K modes alone, with the camera held and all else eliminated."""
        backwards = slice(None, CAMERA - 1, -1)
        hessian, gradient = _reduced(self.hessian[backwards, backwards], self.gradient[backwards], count)
        return hessian[::-1, ::-1], gradient[::-1]


def _reduced(hessian: Float64, gradient: Float64, kept: int) -> tuple[Float64, Float64]:
    """Of the first unknowns alone: Schur's complement [kept, kept] and gradient [kept]."""
    rest = hessian[kept:, kept:] + _RIDGE * np.eye(len(hessian) - kept)
    inner = np.linalg.solve(rest, hessian[kept:, :kept])
    return hessian[:kept, :kept] - hessian[:kept, kept:] @ inner, gradient[:kept] - inner.T @ gradient[kept:]


def normal_equations(
    jacobian: Float64, residuals: Float64, noise: SharedNoise, depth: DepthDeviation
) -> NormalEquations:
    """Of M views.

    jacobian: [M, 12, 2, N], as `Observation`'s, and residuals [M, 2, N]; both whitened and weighted, as by `noise.own`.
    """
    views, _, _, count = jacobian.shape
    poses, size = slice(CAMERA, CAMERA + POSE * views), CAMERA + POSE * views + len(depth.modes)
    hessian, gradient, coupling = np.zeros((size, size)), np.zeros(size), np.zeros((size, count))
    both, by_depth = jacobian[:, : CAMERA + POSE], jacobian[:, -1]
    rows = both.reshape(views, CAMERA + POSE, -1)
    squares = rows @ rows.transpose(0, 2, 1)
    slopes = (rows @ residuals.reshape(views, -1, 1))[..., 0]
    hessian[:CAMERA, :CAMERA] = squares[:, :CAMERA, :CAMERA].sum(axis=0)
    gradient[:CAMERA] = slopes[:, :CAMERA].sum(axis=0)
    gradient[poses] = slopes[:, CAMERA:].ravel()
    for view in range(views):
        own = slice(CAMERA + POSE * view, CAMERA + POSE * (view + 1))
        hessian[own, own] = squares[view, CAMERA:, CAMERA:]
        hessian[:CAMERA, own] = squares[view, :CAMERA, CAMERA:]
        hessian[own, :CAMERA] = squares[view, CAMERA:, :CAMERA]
    with_depth = both[:, :, 0] * by_depth[:, None, 0] + both[:, :, 1] * by_depth[:, None, 1]
    coupling[:CAMERA] = with_depth[:, :CAMERA].sum(axis=0)
    coupling[poses] = with_depth[:, CAMERA:].reshape(-1, count)
    point_hessian, point_gradient = np.sum(by_depth**2, axis=(0, 1)), np.sum(by_depth * residuals, axis=(0, 1))

    for offset, by_offset_of_depth, slope in _shared_offsets(jacobian, residuals, noise):
        hessian[: poses.stop, : poses.stop] -= offset @ offset.T
        gradient[: poses.stop] -= offset @ slope
        coupling[: poses.stop] -= offset * by_offset_of_depth
        point_hessian -= by_offset_of_depth**2
        point_gradient -= by_offset_of_depth * slope

    modes, information = slice(poses.stop, size), depth.information
    hessian[modes, modes] = (depth.modes * information) @ depth.modes.T + depth.mode_information * np.eye(
        len(depth.modes)
    )
    gradient[modes] = depth.mode_information * depth.amplitudes - depth.modes @ (information * depth.deviation)
    coupling[modes] = -depth.modes * information
    point_hessian += information
    point_gradient += information * depth.deviation

    eliminated = coupling / point_hessian
    hessian -= eliminated @ coupling.T
    gradient -= eliminated @ point_gradient
    return NormalEquations(hessian, gradient, coupling, point_hessian, point_gradient)


def _shared_offsets(
    jacobian: Float64, residuals: Float64, noise: SharedNoise
) -> Iterator[tuple[Float64, Float64, Float64]]:
    """What eliminating the offsets that views share takes away, products of these, for x and y.

    By camera and poses [n, N], by inverse depth [N], and of the residuals [N].
    """
    by_offset = noise.own.by_offset(jacobian)
    of_all_but_poses = by_offset.sum(axis=1)
    of_poses = by_offset[:, :, CAMERA:-1].reshape(2, -1, jacobian.shape[-1])
    of_camera_and_poses = noise.eliminated(np.concatenate([of_all_but_poses[:, :CAMERA], of_poses], axis=1))
    of_depth = noise.eliminated(of_all_but_poses[:, -1])
    of_residuals = noise.eliminated(noise.own.by_offset(residuals).sum(axis=1))
    return zip(of_camera_and_poses, of_depth, of_residuals, strict=True)
