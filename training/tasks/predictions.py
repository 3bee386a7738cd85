"""What the networks of a self-supervised task say of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """Depth, motion and camera of a batch, as the losses take them; B samples with N sources.

    disparities: sigmoids in (0, 1), [B, 1, H/2^s, W/2^s], finest first.
    T_source_target: float32 [B, N, 4, 4]; the batch's where it brings poses, else learned.
    intrinsics: float32 [B, 4], normalised, of target and sources alike; the batch's, or learned.
    source_disparities: sigmoids of the sources, [B, N, 1, H, W]; None where no loss compares them.
    """

    disparities: list[Tensor]
    T_source_target: Tensor
    intrinsics: Tensor
    source_disparities: Tensor | None = None
