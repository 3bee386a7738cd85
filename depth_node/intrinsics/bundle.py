"""Bundle adjustment of a window: a reference view with predicted depth, and where its points are seen in others.

Unknown are the camera (log f, cx, cy, log fx/fy), the motion to every other view, the inverse depth of every point, and
smooth errors of the predicted inverse depth. Lens distortion k is held at zero, but what it would change is told.
docs/intrinsics.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.depth_errors import DepthErrorModel
from depth_node.intrinsics.projection import Float64, Observation, PixelCamera, observe, rotation_matrix

CAMERA = 4  # changes of log f, cx / W, cy / H, log fx/fy
LENS = 5  # and k
POSE = 6  # omega, tau
MIN_POINTS = 40
NOISE_FLOOR = 0.1  # pixels; residuals do not show what all tracks of a point have in common

# Standard deviations: Cauchy's and Tukey's weights with 95 % efficiency for normal residuals.
_CAUCHY, _TUKEY = 2.3849, 4.6851
_MOST = 0.8  # share of observations that the noise is read from


@dataclass(frozen=True)
class Tracks:
    """N points of a reference view, seen in M others of width x height pixels.

    pixels: [2, N] in the reference. seen: [M, 2, N], NaN where lost. inverse_depth: [N] as predicted for the reference,
    in medians of the points.
    """

    pixels: Float64
    seen: Float64
    inverse_depth: Float64
    width: int
    height: int


@dataclass(frozen=True)
class CameraPrior:
    """Normal distribution of changes [4] of (log f, cx / W, cy / H, log fx/fy) from the reference intrinsics."""

    mean: Float64
    information: Float64


@dataclass(frozen=True)
class Adjustment:
    """What a window says.

    camera: [4] changes as in `CameraPrior`. rotations: [M, 3, 3], translations: [M, 3] of T_view_reference, in the unit
    of depth. modes: [K], inverse_depth: [N], NaN where unused.
    information: [5, 5], vector: [5], of (log f, cx / W, cy / H, log fx/fy, k) with all else marginalised and without
        the camera's prior: the window's cost of x is x^T information x / 2 - vector^T x.
    noise: standard deviation of an observation, pixels per axis. inliers: share of observations within three of them.
    """

    camera: Float64
    rotations: Float64
    translations: Float64
    modes: Float64
    inverse_depth: Float64
    information: Float64
    vector: Float64
    noise: float
    inliers: float


def adjust(
    tracks: Tracks,
    intrinsics: tuple[float, float, float, float],
    prior: CameraPrior,
    errors: DepthErrorModel,
    start: Adjustment | None = None,
    iterations: int = 20,
) -> Adjustment | None:
    """Gauss-Newton over all unknowns; None where too few points are left, or it loses them.

    intrinsics: normalised, the reference of `prior` and of the result. start: of the same window; then outliers count
    nothing (Tukey's weights), while they still have a say without (Cauchy's).
    """
    problem = _Problem(tracks, intrinsics, prior, errors, redescending=start is not None)
    if problem.count < MIN_POINTS:
        return None
    try:
        state = problem.at(start) if start is not None else problem.motion_alone(problem.at_rest())
        for _ in range(iterations):
            state, change = problem.step(state)
            if change < 1e-4:
                break
        return problem.summary(state)
    except (_LostError, np.linalg.LinAlgError):
        return None


class _LostError(Exception):
    """Most points have come to lie behind the camera."""


@dataclass(frozen=True)
class _State:
    camera: Float64
    rotations: Float64
    translations: Float64
    modes: Float64
    inverse_depth: Float64


@dataclass(frozen=True)
class _Normal:
    """Normal equations of camera, poses and modes (n), with points eliminated; what it takes to find the points [N]."""

    hessian: Float64
    gradient: Float64
    coupling: Float64  # [n, N]
    point_hessian: Float64
    point_gradient: Float64
    noise: float
    inliers: float


class _Problem:
    def __init__(
        self,
        tracks: Tracks,
        intrinsics: tuple[float, float, float, float],
        prior: CameraPrior,
        errors: DepthErrorModel,
        redescending: bool,
    ) -> None:
        seen_twice = np.sum(np.isfinite(tracks.seen[:, 0]), axis=0) >= 2
        self.usable = np.isfinite(tracks.inverse_depth) & (tracks.inverse_depth >= 0) & seen_twice
        self.count = int(np.sum(self.usable))
        self.pixels = tracks.pixels[:, self.usable]
        seen = tracks.seen[:, :, self.usable]
        self.valid = np.isfinite(seen[:, 0])
        self.seen = np.where(self.valid[:, None], seen, 0.0)
        self.predicted = tracks.inverse_depth[self.usable]
        self.width, self.height = tracks.width, tracks.height
        self.intrinsics, self.prior, self.redescending = intrinsics, prior, redescending
        self.modes = errors.modes(self.pixels, self.predicted, self.width, self.height)
        self.point_information = errors.point_sigma(self.predicted) ** -2.0
        self.views = len(seen)
        self.poses = slice(LENS, LENS + POSE * self.views)
        self.rest = slice(LENS + POSE * self.views, LENS + POSE * self.views + len(self.modes))

    def at_rest(self) -> _State:
        rotations = np.broadcast_to(np.eye(3), (self.views, 3, 3)).copy()
        still = np.zeros((self.views, 3))
        return _State(self.prior.mean.copy(), rotations, still, np.zeros(len(self.modes)), self.predicted.copy())

    def at(self, start: Adjustment) -> _State:
        known = start.inverse_depth[self.usable]
        inverse_depth = np.where(np.isfinite(known), known, self.predicted)
        return _State(start.camera, start.rotations, start.translations, start.modes, inverse_depth)

    def motion_alone(self, state: _State, iterations: int = 4) -> _State:
        """Motions for the depth as predicted."""
        for _ in range(iterations):
            observed, residuals, exists = self._observe(state)
            weights, _, _ = self._weights(residuals, exists)
            weighted = observed.pose * weights[:, None, None]
            hessian = np.einsum("mdin,mdjn->mij", weighted, observed.pose) + 1e-6 * np.eye(POSE)
            gradient = np.einsum("mdin,mdn->mi", weighted, residuals)
            state = _moved(state, -np.linalg.solve(hessian, gradient[..., None])[..., 0])
        return state

    def step(self, state: _State) -> tuple[_State, float]:
        """One step, and how far it changed log f and the rotations."""
        normal = self._normal(state)
        hessian, gradient = normal.hessian.copy(), normal.gradient.copy()
        hessian[:CAMERA, :CAMERA] += self.prior.information
        gradient[:CAMERA] += self.prior.information @ (state.camera - self.prior.mean)
        hessian[np.diag_indices(len(hessian))] += 1e-9 * (1 + np.diag(hessian))
        free = np.delete(np.arange(len(hessian)), slice(CAMERA, LENS))
        change = np.zeros(len(hessian))
        change[free] = -np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        points = -(normal.point_gradient + change @ normal.coupling) / normal.point_hessian
        poses = change[self.poses].reshape(self.views, POSE)
        moved = replace(
            _moved(state, poses),
            camera=state.camera + change[:CAMERA],
            modes=state.modes + change[self.rest],
            inverse_depth=np.maximum(state.inverse_depth + points, -0.1),
        )
        return moved, max(abs(float(change[0])), 10 * float(np.abs(poses[:, :3]).max()))

    def summary(self, state: _State) -> Adjustment:
        normal = self._normal(state)
        rest = normal.hessian[LENS:, LENS:] + 1e-9 * np.eye(len(normal.hessian) - LENS)
        inner = np.linalg.solve(rest, normal.hessian[LENS:, :LENS])
        information = normal.hessian[:LENS, :LENS] - normal.hessian[:LENS, LENS:] @ inner
        slope = normal.gradient[:LENS] - inner.T @ normal.gradient[LENS:]
        inverse_depth = np.full(self.usable.shape, np.nan)
        inverse_depth[self.usable] = state.inverse_depth
        return Adjustment(
            state.camera,
            state.rotations,
            state.translations,
            state.modes,
            inverse_depth,
            information,
            information[:, :CAMERA] @ state.camera - slope,
            normal.noise,
            normal.inliers,
        )

    def _observe(self, state: _State) -> tuple[Observation, Float64, NDArray[np.bool_]]:
        """Observations, residuals [M, 2, N] in pixels, and which of them exist [M, N]."""
        camera = PixelCamera.of(self.intrinsics, state.camera, self.width, self.height)
        observed = observe(self.pixels, state.inverse_depth, camera, state.rotations, state.translations)
        exists = self.valid & observed.in_front
        return observed, np.where(exists[:, None], observed.pixels - self.seen, 0.0), exists

    def _weights(self, residuals: Float64, exists: NDArray[np.bool_]) -> tuple[Float64, float, float]:
        """Weights [M, N] of observations in pixels^-2, the noise in pixels, and the share of inliers."""
        if np.sum(exists) < MIN_POINTS:
            raise _LostError
        squared = np.sum(residuals**2, axis=1)
        # Most observations, not the better half: trackers' errors have heavy tails. The squared length of a normal
        # vector in the plane is below -2 log(1 - share) sigma^2 in that share of cases.
        most = float(np.quantile(squared[exists], _MOST)) / (-2 * np.log(1 - _MOST))
        noise = max(NOISE_FLOOR, float(np.sqrt(most)))
        ratio = squared / noise**2
        tukey = np.clip(1 - ratio / _TUKEY**2, 0, None) ** 2
        robust = tukey if self.redescending else 1 / (1 + ratio / _CAUCHY**2)
        return robust * exists / noise**2, noise, float(np.mean(ratio[exists] < 9))

    def _normal(self, state: _State) -> _Normal:
        observed, residuals, exists = self._observe(state)
        weights, noise, inliers = self._weights(residuals, exists)
        root = np.sqrt(weights)[:, None]
        units = np.array([1.0, self.width, self.height, 1.0, 1.0])
        lens = observed.camera * root[:, :, None] * units[:, None]
        pose = observed.pose * root[:, :, None]
        depth = observed.inverse_depth * root
        scaled = residuals * root

        size = self.rest.stop
        hessian, gradient, coupling = np.zeros((size, size)), np.zeros(size), np.zeros((size, self.count))
        both = np.concatenate([lens, pose], axis=2).transpose(0, 2, 1, 3).reshape(self.views, LENS + POSE, -1)
        squares = both @ both.transpose(0, 2, 1)
        slopes = np.sum(both * scaled.reshape(self.views, 1, -1), axis=-1)
        hessian[:LENS, :LENS] = squares[:, :LENS, :LENS].sum(axis=0)
        gradient[:LENS] = slopes[:, :LENS].sum(axis=0)
        gradient[self.poses] = slopes[:, LENS:].ravel()
        for view in range(self.views):
            own = slice(LENS + POSE * view, LENS + POSE * (view + 1))
            hessian[own, own] = squares[view, LENS:, LENS:]
            hessian[:LENS, own] = squares[view, :LENS, LENS:]
            hessian[own, :LENS] = squares[view, LENS:, :LENS]
        coupling[:LENS] = np.sum(lens * depth[:, :, None], axis=(0, 1))
        coupling[self.poses] = np.sum(pose * depth[:, :, None], axis=1).reshape(-1, self.count)

        # Known of the depth: inverse depth - predicted - modes^T b is normal, b is standard normal.
        information = self.point_information
        deviation = state.inverse_depth - self.predicted - state.modes @ self.modes
        hessian[self.rest, self.rest] = (self.modes * information) @ self.modes.T + np.eye(len(self.modes))
        gradient[self.rest] = state.modes - self.modes @ (information * deviation)
        coupling[self.rest] = -self.modes * information
        point_hessian = np.sum(depth**2, axis=(0, 1)) + information
        point_gradient = np.sum(depth * scaled, axis=(0, 1)) + information * deviation

        eliminated = coupling / point_hessian
        hessian -= eliminated @ coupling.T
        gradient -= eliminated @ point_gradient
        return _Normal(hessian, gradient, coupling, point_hessian, point_gradient, noise, inliers)


def _moved(state: _State, steps: Float64) -> _State:
    """Poses changed by [M, 6] from the left."""
    turn = rotation_matrix(steps[:, :3])
    translations = np.einsum("mij,mj->mi", turn, state.translations) + steps[:, 3:]
    return replace(state, rotations=turn @ state.rotations, translations=translations)
