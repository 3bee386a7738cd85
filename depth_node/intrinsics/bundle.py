"""Bundle adjustment of a window: a reference view with predicted depth, and where its points are seen in others.

Unknown are the camera (log f, cx, cy, log fx/fy and the lens distortion k), the motion to every other view, the inverse
depth of every point, and smooth errors of the predicted inverse depth. docs/intrinsics.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.depth_errors import DepthErrorModel
from depth_node.intrinsics.normal_equations import DepthDeviation, NormalEquations, normal_equations
from depth_node.intrinsics.projection import CAMERA, POSE, Float64, Observation, PixelCamera, observe, rotation_matrix
from depth_node.intrinsics.tracks import SharedNoise, Tracks, TrackWeights, Whitening, track_weights

MIN_POINTS = 40

_STUDENT = 4.0  # degrees of freedom of a point's error of depth: at outlines, networks are off by far more than usual
_SETTLED = 1e-4  # change by a step, of log f and of ten times the turns
_HELD_STEPS = 4


@dataclass(frozen=True)
class CameraPrior:
    """Normal distribution of changes [5] of (log f, cx / W, cy / H, log fx/fy, k) from the reference intrinsics."""

    mean: Float64
    information: Float64


@dataclass(frozen=True)
class Adjustment:
    """What a window says.

    camera: [5] changes as in `CameraPrior`. rotations: [M, 3, 3], translations: [M, 3] of T_view_reference, in the unit
    of depth. modes: [K], inverse_depth: [N], NaN where unused.
    information: [5, 5], vector: [5], of the camera with all else marginalised and without its prior: the window's cost
        of x is x^T information x / 2 - vector^T x, near the camera that the equations were linearised at.
    noise, inliers: see `TrackWeights`.
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
    at: Float64 | None = None,
    iterations: int = 20,
) -> Adjustment | None:
    """Gauss-Newton over all unknowns; None where too few points are left, or it loses them.

    intrinsics: normalised, the reference of `prior` and of the result. start: of the same window; then outliers count
    nothing (Tukey's weights), while they still have a say without (Cauchy's).
    at: the camera [5] to linearise at, with the weights that observations have in this window's own solution. Windows
    that are added up must be linearised alike: a window that takes f for shorter takes its turns for larger, claims to
    know f better, and would draw the sum to its side.
    """
    problem = _Problem(tracks, intrinsics, prior, errors, redescending=start is not None)
    if problem.count < MIN_POINTS:
        return None
    try:
        state = problem.at(start) if start is not None else problem.motion_alone(problem.at_rest())
        for _ in range(iterations):
            state, change = problem.step(state)
            if change < _SETTLED:
                break
        return problem.summary(state, at)
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
        self.whitening = Whitening.of(tracks.information[..., self.usable])
        seen = tracks.seen[:, :, self.usable]
        self.valid = np.isfinite(seen[:, 0])
        self.seen = np.where(self.valid[:, None], seen, 0.0)
        self.predicted = tracks.inverse_depth[self.usable]
        self.width, self.height, self.shared = tracks.width, tracks.height, tracks.shared
        self.intrinsics, self.prior, self.redescending = intrinsics, prior, redescending
        self.modes = errors.modes(self.pixels, self.predicted, self.width, self.height)
        self.point_information = errors.point_sigma(self.predicted) ** -2.0
        self.views = len(seen)
        self.poses = slice(CAMERA, CAMERA + POSE * self.views)

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
            whitening = self.whitening.times(self._weights(residuals, exists).roots)
            pose = whitening.applied(observed.pose).reshape(self.views, POSE, -1)
            hessian = pose @ pose.transpose(0, 2, 1) + 1e-6 * np.eye(POSE)
            gradient = np.sum(pose * whitening.applied(residuals).reshape(self.views, 1, -1), axis=-1)
            state = _moved(state, -np.linalg.solve(hessian, gradient[..., None])[..., 0])
        return state

    def step(self, state: _State, held: TrackWeights | None = None) -> tuple[_State, float]:
        """One step, and how far it changed log f and the rotations. With weights: of all but the camera, with those."""
        normal = self._normal(state, held)
        hessian, gradient = normal.hessian.copy(), normal.gradient.copy()
        hessian[:CAMERA, :CAMERA] += self.prior.information
        gradient[:CAMERA] += self.prior.information @ (state.camera - self.prior.mean)
        hessian[np.diag_indices(len(hessian))] += 1e-9 * (1 + np.diag(hessian))
        free = slice(CAMERA if held else 0, None)
        change = np.zeros(len(hessian))
        change[free] = -np.linalg.solve(hessian[free, free], gradient[free])
        poses = change[self.poses].reshape(self.views, POSE)
        moved = replace(
            _moved(state, poses),
            camera=state.camera + change[:CAMERA],
            modes=state.modes + change[self.poses.stop :],
            inverse_depth=np.maximum(state.inverse_depth + normal.point_step(change), -0.1),
        )
        return moved, max(abs(float(change[0])), 10 * float(np.abs(poses[:, :3]).max()))

    def summary(self, state: _State, at: Float64 | None) -> Adjustment:
        """Of the solution `state`; linearised with the camera `at`, if given, to which all else is fitted first."""
        _, residuals, exists = self._observe(state)
        weights, found = self._weights(residuals, exists), state
        if at is not None:
            state = replace(state, camera=at.copy())
            for _ in range(_HELD_STEPS):
                state, change = self.step(state, weights)
                if change < _SETTLED:
                    break
        information, slope = self._normal(state, weights).of_camera()
        inverse_depth = np.full(self.usable.shape, np.nan)
        inverse_depth[self.usable] = found.inverse_depth
        return Adjustment(
            found.camera,
            found.rotations,
            found.translations,
            found.modes,
            inverse_depth,
            information,
            information @ state.camera - slope,
            weights.noise,
            weights.inliers,
        )

    def _observe(self, state: _State) -> tuple[Observation, Float64, NDArray[np.bool_]]:
        """Observations, residuals [M, 2, N] in pixels, and which of them exist [M, N]."""
        camera = PixelCamera.of(self.intrinsics, state.camera, self.width, self.height)
        observed = observe(self.pixels, state.inverse_depth, camera, state.rotations, state.translations)
        exists = self.valid & observed.in_front
        return observed, np.where(exists[:, None], observed.pixels - self.seen, 0.0), exists

    def _weights(self, residuals: Float64, exists: NDArray[np.bool_]) -> TrackWeights:
        if np.sum(exists) < MIN_POINTS:
            raise _LostError
        return track_weights(residuals, self.whitening, exists, self.redescending)

    def _normal(self, state: _State, weights: TrackWeights | None) -> NormalEquations:
        observed, residuals, exists = self._observe(state)
        weights = weights or self._weights(residuals, exists)
        noise = SharedNoise.of(self.whitening, weights, self.valid, self.shared)
        jacobian = noise.own.applied(observed.jacobian)
        jacobian[:, 1] *= self.width
        jacobian[:, 2] *= self.height
        deviation = state.inverse_depth - self.predicted - state.modes @ self.modes
        # Student's distribution, by its weights.
        information = self.point_information * (_STUDENT + 1) / (_STUDENT + deviation**2 * self.point_information)
        depth = DepthDeviation(deviation, information, self.modes, state.modes)
        return normal_equations(jacobian, noise.own.applied(residuals), noise, depth)


def _moved(state: _State, steps: Float64) -> _State:
    """Poses changed by [M, 6] from the left."""
    turn = rotation_matrix(steps[:, :3])
    translations = np.einsum("mij,mj->mi", turn, state.translations) + steps[:, 3:]
    return replace(state, rotations=turn @ state.rotations, translations=translations)
