"""What a model says about one image, whatever the backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """The raw outputs of a model; the arrays are the caller's own.

    output: float32 [1, h, w], disparity or depth (`ModelSpec.output`).
    confidence: float32 [1, h, w], 0 to 1 (sure); None for a model without (`ModelSpec.has_confidence`).
    """

    output: NDArray[np.float32]
    confidence: NDArray[np.float32] | None
