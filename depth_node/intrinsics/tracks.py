"""Where points of a reference view are seen in others: how far off that may be, and what is an outlier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_node.intrinsics.projection import Float64

# Standard deviations: Cauchy's and Tukey's weights with 95 % efficiency for normal residuals.
_CAUCHY, _TUKEY = 2.3849, 4.6851
_INLIER = 3.0  # standard deviations
_MOST = 0.8  # share of observations that the noise is read from


@dataclass(frozen=True)
class Tracks:
    """N points of a reference view, seen in M others of width x height pixels.

    pixels: [2, N] in the reference. seen: [M, 2, N], NaN where lost. information: [M, 2, 2, N], pixels^-2, the inverse
        covariance of each `seen`; the noise may turn out to be larger, but is not taken to be smaller.
    inverse_depth: [N] as predicted for the reference, in medians of the points.
    shared: of the variance of a point's positions, the part that is the same in all views.
    seconds: [M], of the views' time before (negative) the reference's.
    """

    pixels: Float64
    seen: Float64
    information: Float64
    inverse_depth: Float64
    shared: float
    seconds: Float64
    width: int
    height: int


@dataclass(frozen=True)
class Whitening:
    """Turns x and y of an observation into numbers of standard deviation one, were it not for what views share.

    The entries xx, xy and yy [M, N] of the upper triangular W, with information = W^T W.
    """

    xx: Float64
    xy: Float64
    yy: Float64

    @classmethod
    def of(cls, information: Float64) -> Whitening:
        """Of [M, 2, 2, N]."""
        root = np.sqrt(information[:, 0, 0])
        along = information[:, 0, 1] / root
        return cls(root, along, np.sqrt(information[:, 1, 1] - along**2))

    def times(self, roots: Float64) -> Whitening:
        """With observations that count roots^2 [M, N] times."""
        return Whitening(self.xx * roots, self.xy * roots, self.yy * roots)

    def applied(self, by_axis: Float64) -> Float64:
        """To [M, ..., 2, N], of x and y."""
        over = (len(self.xx), *(1,) * (by_axis.ndim - 3), -1)
        xx, xy, yy = (entry.reshape(over) for entry in (self.xx, self.xy, self.yy))
        whitened = np.empty_like(by_axis)
        whitened[..., 0, :] = xx * by_axis[..., 0, :] + xy * by_axis[..., 1, :]
        whitened[..., 1, :] = yy * by_axis[..., 1, :]
        return whitened

    def by_offset(self, whitened: Float64) -> Float64:
        """Products [2, M, ..., N] of whitened [M, ..., 2, N] with what an offset of x, and of y, does to a residual."""
        over = (len(self.xx), *(1,) * (whitened.ndim - 3), -1)
        xx, xy, yy = (entry.reshape(over) for entry in (self.xx, self.xy, self.yy))
        x, y = whitened[..., 0, :], whitened[..., 1, :]
        return np.stack([xx * x, xy * x + yy * y])

    def squares(self) -> Float64:
        """The information [3, M, N] again: its entries xx, xy, yy."""
        return np.stack([self.xx**2, self.xx * self.xy, self.xy**2 + self.yy**2])


@dataclass(frozen=True)
class TrackWeights:
    """roots: of the weights [M, N] of whitened residuals, which are as large as `scale` times what was claimed."""

    roots: Float64
    scale: float

    @classmethod
    def of(
        cls, residuals: Float64, whitening: Whitening, exists: NDArray[np.bool_], redescending: bool
    ) -> TrackWeights:
        """Of residuals [M, 2, N] in pixels, some of which exist [M, N].

        redescending: outliers count nothing (Tukey's weights), while they still have a say without (Cauchy's).
        """
        squared = np.sum(whitening.applied(residuals) ** 2, axis=1)
        scale = max(1.0, _variance(squared[exists]))
        ratio = squared / scale
        robust = np.clip(1 - ratio / _TUKEY**2, 0, None) ** 2 if redescending else 1 / (1 + ratio / _CAUCHY**2)
        return cls(np.sqrt(robust * exists / scale), float(np.sqrt(scale)))


@dataclass(frozen=True)
class Fit:
    """noise: standard deviation of an observation, pixels per axis. inliers: share of observations whose residual is at
    most three times what is expected of it.
    """

    noise: float
    inliers: float

    @classmethod
    def of(cls, residuals: Float64, whitening: Whitening, exists: NDArray[np.bool_]) -> Fit:
        """Of residuals [M, 2, N] in pixels, some of which exist [M, N]."""
        squared = np.sum(whitening.applied(residuals) ** 2, axis=1)[exists]
        noise = float(np.sqrt(_variance(np.sum(residuals**2, axis=1)[exists])))
        return cls(noise, float(np.mean(squared < _INLIER**2 * max(1.0, _variance(squared)))))


@dataclass(frozen=True)
class SharedNoise:
    """Of observations whose errors are those of their view, and an offset of the point that all views share.

    own: the whitening of the view's error. offset: the lower triangular root [3, N] (entries xx, yx, yy) of the
    covariance that offsets have once the views have been seen; they are linear, and eliminated by it (Schur).
    """

    own: Whitening
    offset: Float64

    @classmethod
    def of(cls, whitening: Whitening, weights: TrackWeights, is_seen: NDArray[np.bool_], shared: float) -> SharedNoise:
        """whitening: of both together, as claimed. is_seen: [M, N], each point once. shared: as of `Tracks`."""
        own = whitening.times(weights.roots * (1 - shared) ** -0.5)
        if not shared:
            return cls(own, np.zeros((3, is_seen.shape[1])))
        usual = np.sum(whitening.squares() * is_seen, axis=1) / (weights.scale**2 * np.sum(is_seen, axis=0))
        xx, xy, yy = np.sum(own.squares(), axis=1) + usual / shared
        down = np.sqrt(yy - xy**2 / xx)
        return cls(own, np.stack([1 / np.sqrt(xx), -xy / (xx * down), 1 / down]))

    def eliminated(self, by_offset: Float64) -> Float64:
        """[2, ..., N]: sums over views of `Whitening.by_offset`, whose products are what elimination takes away."""
        xx, yx, yy = self.offset
        return np.stack([xx * by_offset[0], yx * by_offset[0] + yy * by_offset[1]])


def _variance(squared_lengths: Float64) -> float:
    """Per axis, of normally distributed vectors in the plane with these squared lengths.

    Of most, not of the better half: trackers' errors have heavy tails. A share of such lengths is below
    -2 log(1 - share) times the variance.
    """
    index = int(_MOST * (len(squared_lengths) - 1))  # not np.quantile, which takes ten times as long
    return float(np.partition(squared_lengths, index)[index]) / (-2 * np.log(1 - _MOST))
