"""How a network's inverse depth is wrong: smoothly over the image, as a whole, and point by point; and by how much."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from depth_node.intrinsics.projection import Float64

STUDENT = 4.0  # degrees of freedom of a point's error of depth: at outlines, networks are off by far more than usual

SIZES = np.geomspace(1, 0.01, 18)  # what errors may turn out to be, in parts of what a `DepthErrorModel` assumes

# Errors of this size, in parts of what is assumed, are as good as assumed ones: those of a network, wrong together over
# neighbouring points and over all windows of a stream, each of which counts as if it knew by itself. Smaller ones are
# taken for several times what they are likeliest to be, the fewer the smaller they are.
_AS_ASSUMED = 0.13
_CAUTION = 1.5

# Half waves across and down. A constant factor is no error: the translation takes up the scale.
_ORDERS = tuple((i, j) for i in range(5) for j in range(3) if (i, j) != (0, 0))
_LEAST_INFORMATION = 1e-3  # of a point, below which it says nothing
_ODDS = 2.0  # standard deviation of log size before there is evidence, around errors as assumed


@dataclass(frozen=True)
class DepthErrorModel:
    """Inverse depth is what was predicted, plus normally distributed smooth modes, plus an error of each point alone.

    smooth: standard deviation, relative to inverse depth, of the modes of one half wave over the image; it falls with
        their order. offset: of a constant, as where all that is far is predicted too near. point, floor: of each point,
        relative and constant. The unit of offset and floor is that of inverse depth: the median of a window's points.
    smooth_size: times smooth and offset. point_size: times point and floor. Both are found by `sized`.
    """

    smooth: float = 0.3
    offset: float = 0.1
    point: float = 0.25
    floor: float = 0.05
    smooth_size: float = 1.0
    point_size: float = 1.0

    def modes(self, pixels: Float64, inverse_depth: Float64, width: int, height: int) -> Float64:
        """[K, N]: change of inverse depth at pixels [2, N] by one standard deviation of each mode, of smooth_size 1."""
        across = np.cos(np.pi * np.arange(5)[:, None] * ((pixels[0] + 0.5) / width))
        down = np.cos(np.pi * np.arange(3)[:, None] * ((pixels[1] + 0.5) / height))
        rows = [self.smooth / max(i, j) * across[i] * down[j] * inverse_depth for i, j in _ORDERS]
        return np.stack([*rows, np.full(inverse_depth.shape, self.offset)])

    def point_sigma(self, inverse_depth: Float64) -> Float64:
        """[N]: standard deviation of each point's own error."""
        sigma: Float64 = self.point_size * (self.point * inverse_depth + self.floor)
        return sigma

    def sized(self, evidence: DepthEvidence) -> DepthErrorModel:
        """With errors of the sizes that `evidence` makes likely, and none larger than assumed."""
        return replace(self, smooth_size=_cautious(evidence.smooth), point_size=_cautious(evidence.point))


@dataclass(frozen=True)
class DepthEvidence:
    """Logarithms of how likely errors of depth are if they are of size `SIZES` [S]; up to a constant.

    smooth: [S], of the modes. point: [S].
    """

    smooth: Float64
    point: Float64

    @classmethod
    def none(cls) -> DepthEvidence:
        return cls(np.zeros(len(SIZES)), np.zeros(len(SIZES)))

    def plus(self, other: DepthEvidence) -> DepthEvidence:
        return DepthEvidence(self.smooth + other.smooth, self.point + other.point)


def _cautious(likelihoods: Float64) -> float:
    """A size of errors, of the logarithms [S] of how likely each is."""
    odds = -0.5 * (np.log(SIZES) / _ODDS) ** 2
    return min(1.0, float(SIZES[np.argmax(likelihoods + odds)] / _AS_ASSUMED) ** _CAUTION)


def smooth_evidence(information: Float64, vector: Float64) -> Float64:
    """[S] log likelihoods, up to a constant, of what images say of modes with a standard deviation of `SIZES`.

    information [K, K] and vector [K]: images say x^T information x / 2 - vector^T x of amplitudes x, in standard
    deviations of a model with a smooth_size of one.
    """
    precisions, axes = np.linalg.eigh(information)
    precisions, along = np.maximum(precisions, 0.0), axes.T @ vector
    variances = SIZES[:, None] ** 2
    more = 1 + precisions * variances
    likelihoods: Float64 = -0.5 * np.sum(np.log(more) - along**2 * variances / more, axis=1)
    return likelihoods


def point_evidence(information: Float64, vector: Float64) -> Float64:
    """[S] log likelihoods, up to a constant, of what images say of points' own errors if those are of size `SIZES`.

    information [N] and vector [N]: as of `smooth_evidence`, of each point by itself, in standard deviations of a model
    with a point_size of one. The errors of both kinds together are taken for one of Student's distribution.
    """
    known = information > _LEAST_INFORMATION
    variance, deviation = 1 / information[known], vector[known] / information[known]
    total = variance + SIZES[:, None] ** 2
    tails = (STUDENT + 1) * np.log1p(deviation**2 / (STUDENT * total))
    likelihoods: Float64 = -0.5 * np.sum(np.log(total) + tails, axis=1)
    return likelihoods
