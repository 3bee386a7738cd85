"""What all windows together say of the camera: a filter of intrinsics with an honest covariance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from depth_node.intrinsics.bundle import Adjustment, CameraPrior
from depth_node.intrinsics.depth_errors import DepthErrorModel, DepthEvidence
from depth_node.intrinsics.projection import CAMERA, DISTORTION, READOUT, Float64
from depth_node.intrinsics.tracks import Tracks

_KEPT = 40  # windows that can still be linearised again
_WINDOW_SIGMA = 0.2  # of log f as a window's prior: much wider than what it may tell, so that windows stay independent
_DISPERSION, _DISPERSION_WINDOWS = 2.5, 6.0  # what is expected of it, and how many windows that counts for
_LONGEST_PAUSE_S = 60.0  # what a longer one counts for: parked over night, or the clock is set, a camera stays as it is
_CENTER = np.array([1, 2])  # of the camera's parameters
_STUDENT = 3.0  # degrees of freedom of the principal point's prior
_CERTAIN = 100.0  # a deviation of k or the readout, in variances, beyond which a larger one makes no difference
_RELINEARIZE = 0.01  # change of log f after which a window is adjusted again
_RESIZE = 0.6  # change of the logarithm of a size of errors, likewise
_HUBER = 2.0  # standard deviations of a window from all others, beyond which it counts less


@dataclass(frozen=True)
class Evidence:
    """A window and its adjustment; `tracks` serve to linearise it again. log_f: as known when that was last done, with
    `errors` of depth.

    seconds: of the filter, which it says when the window is added: time by stamps, less long pauses.
    """

    stamp_ns: int
    log_f: float
    errors: DepthErrorModel
    tracks: Tracks
    adjustment: Adjustment
    seconds: float = 0.0


@dataclass(frozen=True)
class Posterior:
    """Normal distribution of changes [6] of (log f, cx / W, cy / H, log fx/fy, k, readout) from the reference.

    dispersion: mean square of the windows' deviations from the mean, over what each of them claims.
    """

    mean: Float64
    covariance: Float64
    dispersion: float

    @property
    def sigma(self) -> float:
        """Standard deviation of log fx or log fy, the larger one; of both, where pixels are square."""
        by_aspect = 0.25 * self.covariance[3, 3] + abs(self.covariance[0, 3])
        return float(np.sqrt(self.covariance[0, 0] + by_aspect))

    @property
    def distortion(self) -> float:
        """k."""
        return float(self.mean[DISTORTION])

    @property
    def distortion_sigma(self) -> float:
        """Standard deviation of k."""
        return float(np.sqrt(self.covariance[DISTORTION, DISTORTION]))

    @property
    def readout(self) -> float:
        """Seconds from the first row to the last."""
        return float(self.mean[READOUT])

    @property
    def readout_sigma(self) -> float:
        """Standard deviation of the readout."""
        return float(np.sqrt(self.covariance[READOUT, READOUT]))


@dataclass
class CameraFilter:
    """Information of windows, added up under a prior; old windows fade.

    prior: of changes [6]. memory_s: after which a window's weight has fallen to 1/e, of time in which windows came.
    model_sigma: of log f, once any window has told of it, for what worlds and patches are taken for and are not: rigid,
        flat, and alike from near and far. It does not average out, however many windows there are.
    """

    prior: CameraPrior
    model_sigma: float
    memory_s: float
    evidence: list[Evidence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._old = _Sum(np.zeros((CAMERA, CAMERA)), np.zeros(CAMERA), 0.0, 0.0)
        self._learn()

    @property
    def posterior(self) -> Posterior:
        """What is known now."""
        return self._posterior

    @property
    def depth_evidence(self) -> DepthEvidence:
        """What the windows that are kept say of how large errors of depth are."""
        return self._depth_evidence

    def window_prior(self) -> CameraPrior:
        """For the adjustment of a window: around what is known now, but wide in log f.

        A window that had to believe all others would drop as outliers what contradicts them.
        """
        sigmas = np.sqrt(np.diag(self._posterior.covariance))
        return CameraPrior(self._posterior.mean, np.diag([_WINDOW_SIGMA**-2, *sigmas[1:] ** -2.0]))

    def deviation(self, adjustment: Adjustment) -> float:
        """By how many standard deviations the log f of a window alone is from what was known before it.

        Of all else, the window has the knowledge of before; else a wrong f passes for a readout, say.
        """
        posterior = self._posterior
        information = adjustment.information / posterior.dispersion
        slope = adjustment.vector / posterior.dispersion - information @ posterior.mean
        information[1:, 1:] += np.linalg.inv(posterior.covariance[1:, 1:])
        information[0, 0] += 1e-6  # of what says nothing of f
        covariance = np.linalg.inv(information)
        return float(abs(covariance[0] @ slope) / np.sqrt(covariance[0, 0] + posterior.covariance[0, 0]))

    def add(self, evidence: Evidence) -> None:
        """Count one more window."""
        seconds = 0.0
        if self.evidence:
            newest = self.evidence[-1]
            elapsed = min(max(0.0, (evidence.stamp_ns - newest.stamp_ns) * 1e-9), _LONGEST_PAUSE_S)
            seconds = newest.seconds + elapsed
            self._old = self._old.times(float(np.exp(-elapsed / self.memory_s)))
        self.evidence.append(replace(evidence, seconds=seconds))
        if len(self.evidence) > _KEPT:
            oldest = self._sum(self.evidence[:1], self._posterior.mean, self._posterior.dispersion)
            self._old = self._old.plus(oldest)
            del self.evidence[0]
        self._learn()

    def expect(self, prior: CameraPrior) -> None:
        """Another prior for the same windows."""
        self.prior = prior
        self._learn()

    def replace(self, index: int, adjustment: Adjustment, errors: DepthErrorModel) -> None:
        """A window, linearised again, with these errors of depth."""
        log_f = float(self._posterior.mean[0])
        self.evidence[index] = replace(self.evidence[index], adjustment=adjustment, log_f=log_f, errors=errors)
        self._learn()

    def outdated(self, errors: DepthErrorModel) -> int | None:
        """The window that was adjusted for a log f or sizes of `errors` farthest from what is known now, if any was."""
        if not self.evidence:
            return None
        mean = float(self._posterior.mean[0])
        distances = [_outdatedness(evidence, mean, errors) for evidence in self.evidence]
        worst = int(np.argmax(distances))
        return worst if distances[worst] > 1 else None

    def _learn(self) -> None:
        """From all windows."""
        self._posterior = self._solve()
        self._depth_evidence = DepthEvidence.none()
        for evidence in self.evidence:
            self._depth_evidence = self._depth_evidence.plus(evidence.adjustment.depth)

    def _solve(self) -> Posterior:
        """Weighted least squares over all windows, reweighted until weights and dispersion agree with the mean."""
        mean, dispersion = self.prior.mean.copy(), _DISPERSION
        covariance = np.asarray(np.linalg.inv(self.prior.information), np.float64)
        for _ in range(5 if self.evidence else 0):
            total = self._old.plus(self._sum(self.evidence, mean, dispersion))
            expected = _DISPERSION_WINDOWS * _DISPERSION
            dispersion = max(1.0, (total.squares + expected) / (total.count + _DISPERSION_WINDOWS))
            prior = self._prior_at(mean)
            covariance = np.asarray(np.linalg.inv(prior + total.information / dispersion), np.float64)
            mean = covariance @ (prior @ self.prior.mean + total.vector / dispersion)
        for parameter in (DISTORTION, READOUT):
            mean, covariance = self._with_or_without(parameter, mean, covariance)
        # Of what the windows told, not of the prior: none of it without them.
        told = 1 - covariance[0, 0] * self.prior.information[0, 0]
        covariance[0, 0] += (max(0.0, told) * self.model_sigma) ** 2
        return Posterior(mean, covariance, dispersion)

    def _prior_at(self, mean: Float64) -> Float64:
        """Information [6, 6] of the prior: of a principal point far from the middle, as of a crop, it is weaker."""
        deviation = (mean - self.prior.mean)[_CENTER]
        known = np.diag(self.prior.information)[_CENTER]
        prior = self.prior.information.copy()
        prior[_CENTER, _CENTER] *= np.minimum(1.0, (_STUDENT + 1) / (_STUDENT + deviation**2 * known))
        return prior

    def _with_or_without(self, parameter: int, mean: Float64, covariance: Float64) -> tuple[Float64, Float64]:
        """Mean over two models, one without and one with k (or a readout), and the covariance of the latter.

        Turns show f and k alike, so that a k of little evidence would only make f uncertain: most images that count as
        undistorted are, and many sensors have a global shutter. The odds are even before there is evidence; after it by
        Dickey's ratio of densities at zero.
        """
        if self.prior.mean[parameter]:  # a lens that is known to distort, a sensor that is known to roll
            return mean, covariance
        value, variance = mean[parameter], covariance[parameter, parameter]
        prior_variance = 1 / self.prior.information[parameter, parameter]
        log_odds = 0.5 * (np.log(variance / prior_variance) + min(value * value / variance, _CERTAIN))
        share = 1 / (1 + np.exp(-log_odds))
        change = covariance[:, parameter] * (value / variance)
        return mean - (1 - share) * change, covariance + share * (1 - share) * np.outer(change, change)

    def _sum(self, evidence: list[Evidence], mean: Float64, dispersion: float) -> _Sum:
        """Of windows, weighted by age and by Huber for their deviation from `mean`."""
        information = np.stack([window.adjustment.information for window in evidence])
        vector = np.stack([window.adjustment.vector for window in evidence])
        ages = self.evidence[-1].seconds - np.array([window.seconds for window in evidence])
        surprise = vector[:, 0] - information[:, 0] @ mean
        squares = surprise**2 / np.maximum(information[:, 0, 0], 1e-12)
        huber = np.minimum(1, _HUBER * np.sqrt(dispersion / np.maximum(squares, 1e-12)))
        weights = huber * np.exp(-ages / self.memory_s)
        return _Sum(
            np.einsum("n,nij->ij", weights, information),
            weights @ vector,
            float(weights @ squares),
            float(np.sum(weights)),
        )


def _outdatedness(evidence: Evidence, log_f: float, errors: DepthErrorModel) -> float:
    """How far a window's log f or sizes of errors are from these, in parts of what makes it worth adjusting again."""
    smooth = evidence.errors.smooth_size / errors.smooth_size
    point = evidence.errors.point_size / errors.point_size
    return max(abs(evidence.log_f - log_f) / _RELINEARIZE, abs(np.log(smooth)) / _RESIZE, abs(np.log(point)) / _RESIZE)


@dataclass(frozen=True)
class _Sum:
    """Of windows: information, vector, squares of deviations, and how many there were, all weighted."""

    information: Float64
    vector: Float64
    squares: float
    count: float

    def plus(self, other: _Sum) -> _Sum:
        return _Sum(
            self.information + other.information,
            self.vector + other.vector,
            self.squares + other.squares,
            self.count + other.count,
        )

    def times(self, factor: float) -> _Sum:
        return _Sum(factor * self.information, factor * self.vector, factor * self.squares, factor * self.count)
