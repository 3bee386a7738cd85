"""One stream through the estimator of intrinsics, and what it has learned at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.intrinsics import IntrinsicsEstimate, IntrinsicsEstimator

NORMAL_95 = 1.96


@dataclass(frozen=True)
class Sample:
    """An image at the size the estimator gets it, and its inverse depth, NaN where unknown."""

    image: NDArray[np.uint8]
    inverse_depth: NDArray[np.float32]
    stamp_ns: int


@dataclass
class Run:
    """One stream through the estimator: the estimate after every image."""

    camera: PinholeCamera
    stamps_ns: list[int] = field(default_factory=list)
    estimates: list[IntrinsicsEstimate] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def error(self) -> float:
        """Of log f, at the end."""
        return float(np.log(self.estimates[-1].intrinsics[0] / self.camera.normalized()[0]))

    @property
    def is_inside(self) -> bool:
        return abs(self.error) <= NORMAL_95 * self.estimates[-1].relative_sigma

    @property
    def converged_s(self) -> float | None:
        for stamp_ns, estimate in zip(self.stamps_ns, self.estimates, strict=True):
            if estimate.state == "converged":
                return (stamp_ns - self.stamps_ns[0]) * 1e-9
        return None

    def row(self, name: str, start: float) -> dict[str, Any]:
        last = self.estimates[-1]
        return {
            "stream": name,
            "images": len(self.estimates),
            "start_percent": 100 * (start - 1),
            "error_percent": 100 * float(np.expm1(self.error)),
            "sigma_percent": 100 * last.relative_sigma,
            "inside_95": "yes" if self.is_inside else "no",
            "k1": last.distortion,
            "k1_sigma": last.distortion_sigma,
            "readout_ms": 1e3 * last.readout,
            "readout_ms_sigma": 1e3 * last.readout_sigma,
            "state": last.state,
            "converged_s": self.converged_s,
            "turned_deg": float(np.degrees(last.rotation)),
            "cpu_ms_per_image": 1e3 * self.cpu_s / len(self.estimates),
        }


def estimate(samples: Iterator[Sample], camera: PinholeCamera, start: float) -> Run:
    """From a focal length `start` times the true one, the middle of the image as principal point, and no distortion."""
    fx, fy, _, _ = camera.normalized()
    learner = IntrinsicsEstimator((start * fx, start * fy, 0.5, 0.5), camera.width, camera.height)
    run = Run(camera)
    for sample in samples:
        begun = process_time()
        run.estimates.append(learner.add(sample.image, sample.inverse_depth, sample.stamp_ns))
        run.cpu_s += process_time() - begun
        run.stamps_ns.append(sample.stamp_ns)
    return run
