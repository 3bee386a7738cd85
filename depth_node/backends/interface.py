"""What every inference backend is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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


class Backend(Protocol):
    """A depth model, loaded and ready on one device.

    name: as in `BACKENDS`; device: what it runs on, in words; precision: of the arithmetic, such as `fp32` or `bf16`.
    """

    name: str
    device: str
    precision: str

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """The model's raw outputs for an image uint8 [1, H, W, 3] (RGB) of the model's input size.

        Not for two threads at once. Other Python threads run meanwhile.

        Raises:
            BackendError: the library cannot compute them.
        """
        ...

    def close(self) -> None:
        """Free the model; no inference afterwards."""
        ...


def one_line(error: Exception) -> str:
    """The text of a library's error, which often has many lines, in one."""
    return " ".join(str(error).split())
