"""What every inference backend is and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """The raw outputs of a depth model; the arrays are the caller's own.

    output: float32 [1, h, w], disparity or depth (`ModelSpec.output`).
    confidence: float32 [1, h, w], 0 to 1 (sure); None for a model without (`ModelSpec.has_confidence`).
    """

    output: NDArray[np.float32]
    confidence: NDArray[np.float32] | None


@dataclass(frozen=True)
class MotionPrediction:
    """What a motion model says of two images a and b of one camera.

    axis_angle: float64 [3], radians; translation: float64 [3], metres if `MotionSpec.metric`, else up to scale.
        Together they are T_b_a, which maps points of the camera's frame (REP 103 optical) at a to that at b:
        exp(axis_angle) p + translation.
    intrinsics: float64 [4], normalised: (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H).
    """

    axis_angle: NDArray[np.float64]
    translation: NDArray[np.float64]
    intrinsics: NDArray[np.float64]


class Loaded(Protocol):
    """Something that is loaded and ready on one device.

    name: as in `BACKENDS`; device: what it runs on, in words; precision: of the arithmetic, such as `fp32` or `bf16`.
    All three may change when another backend takes over.
    """

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def close(self) -> None:
        """Free the model; no inference afterwards."""
        ...


class Session(Loaded, Protocol):
    """One graph: arrays in, arrays out. What they mean is its user's matter."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """All outputs by name, as arrays of the caller's own; `inputs` have the graph's types and shapes.

        Not for two threads at once. Other Python threads run meanwhile.

        Raises:
            BackendError: the library cannot compute them.
        """
        ...


class Backend(Loaded, Protocol):
    """A depth model."""

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """The model's raw outputs for an image uint8 [1, H, W, 3] (RGB) of the model's input size; as `Session.run`."""
        ...


class MotionBackend(Loaded, Protocol):
    """A motion model."""

    def infer(self, image_a: NDArray[np.uint8], image_b: NDArray[np.uint8]) -> MotionPrediction:
        """Motion and intrinsics from two images uint8 [1, H, W, 3] (RGB) of the input size; as `Session.run`."""
        ...


def one_line(error: Exception) -> str:
    """The text of a library's error, which often has many lines, in one."""
    return " ".join(str(error).split())
