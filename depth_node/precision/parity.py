"""How far an engine's numbers are from the model's own in float32, on real frames; and how far they may be.

It catches what a build does not say: a wrong kernel, a lost precision, an engine of another model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.engine_cache import Progress
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile

Inputs = Mapping[str, NDArray[Any]]
Run = Callable[[Inputs], Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Tolerance:
    """Largest deviation that is accepted: of the median pixel, and of 95 % of them."""

    median: float
    p95: float


# float16 has 11 bits, and a network adds up the roundings of all its layers. What depth-base has: docs/jetson.md.
TOLERANCES = {
    "fp32": Tolerance(1e-4, 1e-3),
    "tf32": Tolerance(2e-3, 1e-2),
    "fp16": Tolerance(2e-3, 1e-2),
    "int8": Tolerance(1e-2, 5e-2),
}


@dataclass(frozen=True)
class Deviation:
    """Relative deviation from the reference over all pixels of all frames.

    Of a depth model: |depth / reference depth - 1|, where the reference is within the model's range. Of a motion model:
    the difference of each number over the length of the vector that it is in (axis_angle, translation, intrinsics).
    worst_frame_median: the largest median of a single frame. frames: how many; source: which, in words; reference: what
    computed the reference.
    """

    median: float
    p95: float
    maximum: float
    worst_frame_median: float
    frames: int
    source: str
    reference: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"median {self.median:.2%}, 95 % within {self.p95:.2%}, largest {self.maximum:.2%} "
            f"({self.source}; reference: {self.reference})"
        )


def measure_deviation(
    model: ModelFile | MotionModelFile,
    run: Run,
    reference: Run,
    frames: Sequence[Inputs],
    source: str,
    library: str,
    progress: Progress | None = None,
) -> Deviation:
    """Run both on the same frames. run, reference: from inputs by name to outputs by name.

    source: where the frames are from, in words; library: what computes the reference, in words.
    """
    per_frame = []
    for number, inputs in enumerate(frames):
        if progress is not None:
            progress("comparing with the model", number / len(frames))
        per_frame.append(deviations(model, run(inputs), reference(inputs)))
    all_pixels = np.concatenate(per_frame)
    median, p95 = (float(value) for value in np.percentile(all_pixels, [50, 95], method="higher"))
    return Deviation(
        median=median,
        p95=p95,
        maximum=float(all_pixels.max()),
        worst_frame_median=max(float(np.median(pixels)) for pixels in per_frame),
        frames=len(frames),
        source=source,
        reference=library,
    )


def deviations(
    model: ModelFile | MotionModelFile,
    found: Mapping[str, NDArray[np.float32]],
    expected: Mapping[str, NDArray[np.float32]],
) -> NDArray[np.float64]:
    """Relative deviations as `Deviation` has them, one a pixel or number; infinite where `found` is no depth.

    Raises:
        BackendError: the reference has no pixel within the model's range, so that nothing can be compared.
    """
    if isinstance(model, MotionModelFile):
        parts = []
        for name in model.outputs:
            reference = expected[name].astype(np.float64)
            parts.append(np.abs(found[name] - reference).ravel() / max(float(np.linalg.norm(reference)), 1e-12))
        return _finite_or_infinite(np.concatenate(parts))
    name, spec = model.outputs[0], model.spec
    ours, theirs = found[name].astype(np.float64).ravel(), expected[name].astype(np.float64).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        our_depth, depth = (1 / ours, 1 / theirs) if spec.output == "disparity" else (ours, theirs)
        in_range = (depth >= spec.min_depth * (1 - 1e-3)) & (depth <= spec.max_depth * (1 + 1e-3))
        if not in_range.any():
            raise BackendError(
                f"{model.path}: on these frames no depth is within {spec.min_depth:g} to {spec.max_depth:g}, so that "
                "nothing can be compared: give frames of the scenes that the model is for (--calibration)"
            )
        ratio = our_depth[in_range] / depth[in_range]
    return _finite_or_infinite(np.where(ratio > 0, np.abs(ratio - 1), np.inf))


def check_deviation(deviation: Deviation, precision: str, what: str) -> None:
    """Refuse what is beyond the tolerance of its precision.

    what: what was measured, for the message.

    Raises:
        BackendError: it is.
    """
    tolerance = TOLERANCES[precision]
    if not (deviation.median <= tolerance.median and deviation.p95 <= tolerance.p95):
        raise BackendError(
            f"{what} computes something else than the model: relative deviation {deviation}; expected a median of at "
            f"most {tolerance.median:.2%} and 95 % within {tolerance.p95:.2%}; it is not used. Build it with another "
            "precision, or with another version of TensorRT"
        )


def _finite_or_infinite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN as infinite: percentiles of NaN are NaN, which compares false with every tolerance, and says nothing."""
    return np.where(np.isnan(values), np.inf, values)
