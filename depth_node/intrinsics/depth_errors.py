"""How a network's inverse depth is wrong: smoothly over the image, as a whole, and point by point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_node.intrinsics.projection import Float64

# Half waves across and down. A constant factor is no error: the translation takes up the scale.
_ORDERS = tuple((i, j) for i in range(5) for j in range(3) if (i, j) != (0, 0))


@dataclass(frozen=True)
class DepthErrorModel:
    """Inverse depth is what was predicted, plus normally distributed smooth modes, plus an error of each point alone.

    smooth: standard deviation, relative to inverse depth, of the modes of one half wave over the image; it falls with
        their order. offset: of a constant, as where all that is far is predicted too near. point, floor: of each point,
        relative and constant. The unit of offset and floor is that of inverse depth: the median of a window's points.
    """

    smooth: float = 0.3
    offset: float = 0.1
    point: float = 0.25
    floor: float = 0.05

    def modes(self, pixels: Float64, inverse_depth: Float64, width: int, height: int) -> Float64:
        """[K, N]: change of inverse depth at pixels [2, N] by one standard deviation of each mode."""
        across = np.cos(np.pi * np.arange(5)[:, None] * ((pixels[0] + 0.5) / width))
        down = np.cos(np.pi * np.arange(3)[:, None] * ((pixels[1] + 0.5) / height))
        rows = [self.smooth / max(i, j) * across[i] * down[j] * inverse_depth for i, j in _ORDERS]
        return np.stack([*rows, np.full(inverse_depth.shape, self.offset)])

    def point_sigma(self, inverse_depth: Float64) -> Float64:
        """[N]: standard deviation of each point's own error."""
        sigma: Float64 = self.point * inverse_depth + self.floor
        return sigma
