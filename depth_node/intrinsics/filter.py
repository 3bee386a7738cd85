"""What all windows together say of the camera: a filter of intrinsics with an honest covariance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from depth_node.intrinsics.bundle import CAMERA, LENS, Adjustment, CameraPrior, Tracks
from depth_node.intrinsics.projection import Float64

_KEPT = 40  # windows that can still be linearised again
_WINDOW_SIGMA = 0.2  # of log f as a window's prior: much wider than what it may tell, so that windows stay independent
_DISPERSION, _DISPERSION_WINDOWS = 1.5, 6.0  # what is expected of it, and how many windows that counts for
_LONGEST_PAUSE_S = 60.0  # what a longer one counts for: parked over night, or the clock is set, a camera stays as it is
_HUBER = 2.0  # standard deviations of a window from all others, beyond which it counts less


@dataclass(frozen=True)
class Evidence:
    """A window and its adjustment; `tracks` serve to linearise it again. log_f: as known when that was last done.

    seconds: of the filter, which it says when the window is added: time by stamps, less long pauses.
    """

    stamp_ns: int
    log_f: float
    tracks: Tracks
    adjustment: Adjustment
    seconds: float = 0.0


@dataclass(frozen=True)
class Posterior:
    """Normal distribution of changes [4] of (log f, cx / W, cy / H, log fx/fy) from the reference intrinsics.

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


@dataclass
class CameraFilter:
    """Information of windows, added up under a prior; old windows fade.

    Two things do not average out, however many windows there are, and remain in the covariance of log f.

    prior: of changes [4]. memory_s: after which a window's weight has fallen to 1/e, of time in which
        windows came.
    distortion_sigma: of k, for lenses that distort rays by 1 + k (x^2 + y^2) though their images count as undistorted.
        k is considered, not estimated (Schmidt, 1966), since turns show f and k alike.
    model_sigma: of log f, once any window has told of it, for what worlds and patches are taken for and are not: rigid,
        flat, and alike from near and far.
    """

    prior: CameraPrior
    distortion_sigma: float
    model_sigma: float
    memory_s: float
    evidence: list[Evidence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._old = _Sum(np.zeros((LENS, LENS)), np.zeros(LENS), 0.0, 0.0)
        self._posterior = self._solve()

    @property
    def posterior(self) -> Posterior:
        """What is known now."""
        return self._posterior

    def window_prior(self) -> CameraPrior:
        """For the adjustment of a window: around what is known now, but wide in log f.

        A window that had to believe all others would drop as outliers what contradicts them.
        """
        sigmas = np.sqrt(np.diag(self._posterior.covariance))
        return CameraPrior(self._posterior.mean, np.diag([_WINDOW_SIGMA**-2, *sigmas[1:] ** -2.0]))

    def deviation(self, adjustment: Adjustment) -> float:
        """By how many standard deviations a window contradicts what was known before it."""
        posterior = self._posterior
        information = adjustment.information[:CAMERA, :CAMERA]
        by_lens = adjustment.information[:CAMERA, CAMERA]
        surprise = adjustment.vector[:CAMERA] - information @ posterior.mean
        expected = posterior.dispersion * information + information @ posterior.covariance @ information
        expected += self.distortion_sigma**2 * np.outer(by_lens, by_lens)
        return float(abs(surprise[0]) / np.sqrt(expected[0, 0]))

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
        self._posterior = self._solve()

    def expect(self, prior: CameraPrior) -> None:
        """Another prior for the same windows."""
        self.prior = prior
        self._posterior = self._solve()

    def replace(self, index: int, adjustment: Adjustment) -> None:
        """A window, linearised again."""
        log_f = float(self._posterior.mean[0])
        self.evidence[index] = replace(self.evidence[index], adjustment=adjustment, log_f=log_f)
        self._posterior = self._solve()

    def outdated(self, by: float) -> int | None:
        """The window that was linearised when log f was farthest from what it is now, if that is more than `by`."""
        if not self.evidence:
            return None
        mean = float(self._posterior.mean[0])
        distances = [abs(evidence.log_f - mean) for evidence in self.evidence]
        worst = int(np.argmax(distances))
        return worst if distances[worst] > by else None

    def _solve(self) -> Posterior:
        """Weighted least squares over all windows, reweighted until weights and dispersion agree with the mean."""
        mean, dispersion = self.prior.mean.copy(), _DISPERSION
        total, covariance = self._old, np.linalg.inv(self.prior.information)
        for _ in range(5 if self.evidence else 0):
            total = self._old.plus(self._sum(self.evidence, mean, dispersion))
            expected = _DISPERSION_WINDOWS * _DISPERSION
            dispersion = max(1.0, (total.squares + expected) / (total.count + _DISPERSION_WINDOWS))
            covariance = np.linalg.inv(self.prior.information + total.information[:CAMERA, :CAMERA] / dispersion)
            mean = covariance @ (self.prior.information @ self.prior.mean + total.vector[:CAMERA] / dispersion)
        by_distortion = covariance @ total.information[:CAMERA, CAMERA] / dispersion
        considered = self.distortion_sigma**2 * np.outer(by_distortion, by_distortion)
        # Of what the windows told, not of the prior: none of it without them.
        told = 1 - covariance[0, 0] * self.prior.information[0, 0]
        considered[0, 0] += (told * self.model_sigma) ** 2
        return Posterior(mean, covariance + considered, dispersion)

    def _sum(self, evidence: list[Evidence], mean: Float64, dispersion: float) -> _Sum:
        """Of windows, weighted by age and by Huber for their deviation from `mean`."""
        information = np.stack([window.adjustment.information for window in evidence])
        vector = np.stack([window.adjustment.vector for window in evidence])
        ages = self.evidence[-1].seconds - np.array([window.seconds for window in evidence])
        surprise = vector[:, 0] - information[:, 0, :CAMERA] @ mean
        squares = surprise**2 / np.maximum(information[:, 0, 0], 1e-12)
        huber = np.minimum(1, _HUBER * np.sqrt(dispersion / np.maximum(squares, 1e-12)))
        weights = huber * np.exp(-ages / self.memory_s)
        return _Sum(
            np.einsum("n,nij->ij", weights, information),
            weights @ vector,
            float(weights @ squares),
            float(np.sum(weights)),
        )


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
