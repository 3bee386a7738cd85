"""Bundle adjustment of a window: a reference view with predicted depth, and where its points are seen in others.

Unknown are the camera (log f, cx, cy, log fx/fy, the lens distortion k and the shutter's readout), the motion to every
other view, the inverse depth of every point, and smooth errors of the predicted inverse depth. docs/intrinsics.md has
the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.depth_errors import (
    STUDENT,
    DepthErrorModel,
    DepthEvidence,
    point_evidence,
    smooth_evidence,
)
from depth_node.intrinsics.normal_equations import DepthDeviation, NormalEquations, normal_equations
from depth_node.intrinsics.projection import (
    CAMERA,
    POSE,
    READOUT,
    Float64,
    Observation,
    PixelCamera,
    observe,
    rotation_matrix,
)
from depth_node.intrinsics.rolling_shutter import Velocities, by_readout
from depth_node.intrinsics.tracks import Fit, SharedNoise, Tracks, TrackWeights, Whitening

MIN_POINTS = 40

_SETTLED = 5e-4  # change by a step, of log f and of ten times the turns
_HELD_STEPS = 4


@dataclass(frozen=True)
class CameraPrior:
    """Normal distribution of changes [6] of (log f, cx / W, cy / H, log fx/fy, k, readout) from the reference."""

    mean: Float64
    information: Float64


@dataclass(frozen=True)
class Scene:
    """A solution: the camera that saw a window, how it moved, and what it saw.

    camera: [6] changes as in `CameraPrior`. rotations: [M, 3, 3], translations: [M, 3] of T_view_reference, in the unit
    of depth. modes: [K], amplitudes, see `DepthErrorModel.modes`. inverse_depth: [N], NaN where unused.
    """

    camera: Float64
    rotations: Float64
    translations: Float64
    modes: Float64
    inverse_depth: Float64


@dataclass(frozen=True)
class Adjustment(Scene):
    """A solution, and what the window says.

    information: [6, 6], vector: [6], of the camera with all else marginalised and without its prior: the window's cost
        of x is x^T information x / 2 - vector^T x, near the camera that the equations were linearised at.
    depth: what it says of how large errors of depth are.
    noise, inliers: see `Fit`.
    """

    information: Float64
    vector: Float64
    depth: DepthEvidence
    noise: float
    inliers: float


def solve(
    tracks: Tracks,
    intrinsics: tuple[float, float, float, float],
    prior: CameraPrior,
    errors: DepthErrorModel,
    start: Scene | None = None,
    iterations: int = 4,
) -> Scene | None:
    """As `adjust`, but for a few steps only, and without what it takes to say what that means."""
    problem = _Problem(tracks, intrinsics, prior, errors, redescending=start is not None)
    try:
        return problem.of_all_points(problem.solution(start, iterations))
    except (_LostError, np.linalg.LinAlgError):
        return None


def adjust(
    tracks: Tracks,
    intrinsics: tuple[float, float, float, float],
    prior: CameraPrior,
    errors: DepthErrorModel,
    start: Scene | None = None,
    at: Float64 | None = None,
    iterations: int = 20,
) -> Adjustment | None:
    """Gauss-Newton over all unknowns; None where too few points are left, or it loses them.

    intrinsics: normalised, the reference of `prior` and of the result. start: of the same window; then outliers count
    nothing (Tukey's weights), while they still have a say without (Cauchy's).
    at: the camera [6] to linearise at, with the weights that observations have in this window's own solution. Windows
    that are added up must be linearised alike: a window that takes f for shorter takes its turns for larger, claims to
    know f better, and would draw the sum to its side.
    """
    problem = _Problem(tracks, intrinsics, prior, errors, redescending=start is not None)
    try:
        return problem.summary(problem.solution(start, iterations), at)
    except (_LostError, np.linalg.LinAlgError):
        return None


class _LostError(Exception):
    """Too few points, or most of them have come to lie behind the camera."""


class _Problem:
    """Of the points that can be used; `Scene`s within it have these alone."""

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
        self.seconds = tracks.seconds
        self.late = (self.seen[:, 1] + 0.5) / tracks.height - 0.5
        self.late_in_reference = (self.pixels[1] + 0.5) / tracks.height - 0.5
        self.predicted = tracks.inverse_depth[self.usable]
        self.width, self.height, self.shared = tracks.width, tracks.height, tracks.shared
        self.intrinsics, self.prior, self.redescending = intrinsics, prior, redescending
        self.errors = errors
        self.modes = errors.modes(self.pixels, self.predicted, self.width, self.height)
        self.point_sigma = errors.point_sigma(self.predicted)
        self.views = len(seen)
        self.poses = slice(CAMERA, CAMERA + POSE * self.views)

    def solution(self, start: Scene | None, iterations: int) -> Scene:
        """From `start`, or from rest."""
        if self.count < MIN_POINTS:
            raise _LostError
        state = self._motion_alone(self._at_rest()) if start is None else self._at(start)
        for _ in range(iterations):
            state, change = self._step(state, self._normal(state))
            if change < _SETTLED:
                break
        return state

    def of_all_points(self, state: Scene) -> Scene:
        inverse_depth = np.full(self.usable.shape, np.nan)
        inverse_depth[self.usable] = state.inverse_depth
        return replace(state, inverse_depth=inverse_depth)

    def summary(self, state: Scene, at: Float64 | None) -> Adjustment:
        """Of the solution `state`; linearised with the camera `at`, if given, to which all else is fitted first."""
        _, residuals, exists = self._observe(state)
        weights, fit = self._weights(residuals, exists), Fit.of(residuals, self.whitening, exists)
        held = state if at is None else replace(state, camera=at.copy())
        for _ in range(_HELD_STEPS):
            normal, linearized = self._normal(held, weights), held
            held, change = self._step(held, normal, is_camera_held=True)
            if change < _SETTLED:
                break
        information, slope = normal.of_camera()
        return Adjustment(
            **vars(self.of_all_points(state)),
            information=information,
            vector=information @ held.camera - slope,
            depth=self._depth_evidence(linearized, normal),
            noise=fit.noise,
            inliers=fit.inliers,
        )

    def _depth_evidence(self, state: Scene, normal: NormalEquations) -> DepthEvidence:
        """With the camera held, and either kind of error where the other one is likeliest.

        What was expected of errors is taken off again.
        """
        depth = self._depth(state)
        smooth, slope = normal.of_modes(len(self.modes))
        smooth -= depth.mode_information * np.eye(len(smooth))
        slope -= depth.mode_information * state.modes
        point = normal.point_hessian - depth.information
        point_slope = normal.point_gradient - depth.information * depth.deviation
        sigma = self.point_sigma / self.errors.point_size
        return DepthEvidence(
            smooth_evidence(smooth, smooth @ state.modes - slope),
            point_evidence(point * sigma**2, (point * depth.deviation - point_slope) * sigma),
        )

    def _at_rest(self) -> Scene:
        rotations = np.broadcast_to(np.eye(3), (self.views, 3, 3)).copy()
        still = np.zeros((self.views, 3))
        return Scene(self.prior.mean.copy(), rotations, still, np.zeros(len(self.modes)), self.predicted.copy())

    def _at(self, start: Scene) -> Scene:
        known = start.inverse_depth[self.usable]
        inverse_depth = np.where(np.isfinite(known), known, self.predicted)
        return Scene(start.camera, start.rotations, start.translations, start.modes, inverse_depth)

    def _motion_alone(self, state: Scene, iterations: int = 4) -> Scene:
        """Motions for the depth as predicted."""
        for _ in range(iterations):
            observed, residuals, exists = self._observe(state)
            whitening = self.whitening.times(self._weights(residuals, exists).roots)
            pose = whitening.applied(observed.pose).reshape(self.views, POSE, -1)
            hessian = pose @ pose.transpose(0, 2, 1) + 1e-6 * np.eye(POSE)
            gradient = np.sum(pose * whitening.applied(residuals).reshape(self.views, 1, -1), axis=-1)
            state = _moved(state, -np.linalg.solve(hessian, gradient[..., None])[..., 0])
        return state

    def _step(self, state: Scene, normal: NormalEquations, is_camera_held: bool = False) -> tuple[Scene, float]:
        """One step, and how far it changed log f and the rotations."""
        hessian, gradient = normal.hessian.copy(), normal.gradient.copy()
        hessian[:CAMERA, :CAMERA] += self.prior.information
        gradient[:CAMERA] += self.prior.information @ (state.camera - self.prior.mean)
        hessian[np.diag_indices(len(hessian))] += 1e-9 * (1 + np.diag(hessian))
        free = slice(CAMERA if is_camera_held else 0, None)
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

    def _observe(self, state: Scene) -> tuple[Observation, Float64, NDArray[np.bool_]]:
        """Observations, residuals [M, 2, N] in pixels, and which of them exist [M, N]."""
        camera = PixelCamera.of(self.intrinsics, state.camera, self.width, self.height)
        poses = state.rotations, state.translations
        observed = observe(self.pixels, state.inverse_depth, camera, *poses)
        exists = self.valid & observed.in_front
        velocities = Velocities.of(*poses, self.seconds)
        shift = by_readout(observed.pose, *poses, velocities, self.late, self.late_in_reference)
        observed.jacobian[:, READOUT] = shift
        residuals = observed.pixels + state.camera[READOUT] * shift - self.seen
        return observed, np.where(exists[:, None], residuals, 0.0), exists

    def _weights(self, residuals: Float64, exists: NDArray[np.bool_]) -> TrackWeights:
        if np.sum(exists) < MIN_POINTS:
            raise _LostError
        return TrackWeights.of(residuals, self.whitening, exists, self.redescending)

    def _normal(self, state: Scene, weights: TrackWeights | None = None) -> NormalEquations:
        observed, residuals, exists = self._observe(state)
        weights = weights or self._weights(residuals, exists)
        noise = SharedNoise.of(self.whitening, weights, self.valid, self.shared)
        jacobian = noise.own.applied(observed.jacobian)
        jacobian[:, 1] *= self.width
        jacobian[:, 2] *= self.height
        return normal_equations(jacobian, noise.own.applied(residuals), noise, self._depth(state))

    def _depth(self, state: Scene) -> DepthDeviation:
        deviation = state.inverse_depth - self.predicted - state.modes @ self.modes
        # Student's distribution, by its weights.
        information = (STUDENT + 1) / (STUDENT * self.point_sigma**2 + deviation**2)
        return DepthDeviation(deviation, information, self.modes, state.modes, self.errors.smooth_size**-2.0)


def _moved(state: Scene, steps: Float64) -> Scene:
    """Poses changed by [M, 6] from the left."""
    turn = rotation_matrix(steps[:, :3])
    translations = np.einsum("mij,mj->mi", turn, state.translations) + steps[:, 3:]
    return replace(state, rotations=turn @ state.rotations, translations=translations)
