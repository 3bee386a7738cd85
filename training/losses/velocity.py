"""Known speed as supervision of the length of a motion, which gives depth its scale.

Source: Guizilini et al., 3D Packing for Self-Supervised Monocular Depth Estimation, CVPR 2020, equation 7.
"""

from __future__ import annotations

from torch import Tensor


def velocity_loss(T_source_target: Tensor, distances: Tensor) -> Tensor:
    """Mean difference in metres between the length of the motion and the distance travelled; 0 where none is known.

    Args:
        T_source_target: float [B, N, 4, 4].
        distances: float [B, N], metres, speed times time; NaN where unknown.
    """
    known = distances.isfinite()
    length = T_source_target[..., :3, 3].square().sum(-1).clamp(min=1e-12).sqrt()
    error = (length - distances.where(known, 0.0)).abs()
    return error.where(known, 0.0).sum() / known.sum().clamp(min=1)
