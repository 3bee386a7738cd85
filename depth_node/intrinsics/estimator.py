"""The camera's intrinsics from its images and their predicted depth, over time. No ROS; one thread at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.interface import MotionPrediction
from depth_node.intrinsics.alignment import Alignment, GaussianPrior, Motion, align
from depth_node.intrinsics.estimate import Intrinsics, IntrinsicsEstimate, IntrinsicsState
from depth_node.intrinsics.views import View, depth_basis_sigma, make_view, select_points
from depth_node.intrinsics.warp import Float64, rotation_angle


@dataclass(frozen=True)
class EstimatorOptions:
    """prior_sigma: standard deviation of log f where the prior does not say; principal_point_sigma: in widths of the image.

    min_rotation, max_rotation: radians between the images of a pair. min_inliers, min_overlap: shares of points.
    converged_sigma: of log f.
    """

    prior_sigma: float = 0.3
    principal_point_sigma: float = 0.02
    min_rotation: float = 0.008
    max_rotation: float = 0.12
    min_inliers: float = 0.8
    min_overlap: float = 0.5
    converged_sigma: float = 0.025


class IntrinsicsEstimator:
    """Filter of [log f, cx, cy] over pairs of images.

    prior: what is known before; of four numbers, the uncertainty is the options'. width, height: of the camera's images
    before they were resized for the network; pixels are square there.
    """

    def __init__(
        self,
        prior: IntrinsicsEstimate | Intrinsics,
        width: int,
        height: int,
        options: EstimatorOptions | None = None,
    ) -> None:
        self.options = options or EstimatorOptions()
        if not isinstance(prior, IntrinsicsEstimate):
            prior = IntrinsicsEstimate(prior, self.options.prior_sigma)
        self._prior = prior
        self._size = width, height
        sigma = self.options.principal_point_sigma
        self._reference = prior.intrinsics
        self._information = np.diag(np.array([prior.relative_sigma, sigma, sigma * width / height]) ** -2)
        self._vector = np.zeros(3)
        self._previous: View | None = None
        self._motion = Motion.none()
        self._rotation = 0.0
        self._pairs = 0
        self._rejected: Counter[str] = Counter()

    @property
    def estimate(self) -> IntrinsicsEstimate:
        """What is known now."""
        covariance = np.linalg.inv(self._information)
        log_f, cx, cy = covariance @ self._vector
        fx, fy, cx0, cy0 = self._reference
        sigma = float(np.sqrt(covariance[0, 0]))
        state: IntrinsicsState = "waiting for rotation"
        if self._pairs:
            state = "converged" if sigma <= self.options.converged_sigma else "estimating"
        scale = float(np.exp(log_f))
        intrinsics = (fx * scale, fy * scale, float(cx0 + cx), float(cy0 + cy))
        return IntrinsicsEstimate(intrinsics, sigma, state, self._rotation, self._pairs, dict(self._rejected))

    def add(
        self,
        image: NDArray[np.uint8],
        inverse_depth: NDArray[np.float32],
        stamp_ns: int,
        motion: MotionPrediction | None = None,
    ) -> IntrinsicsEstimate:
        """Learn from one more image.

        image: uint8 [h, w, 3] RGB, of the depth network's input size. inverse_depth: float32 [h, w], 1/depth in any unit, NaN
        where invalid. motion: the motion network's prediction from the image before to this one.
        """
        view = make_view(image, inverse_depth, stamp_ns)
        previous, self._previous = self._previous, view
        if previous is None:
            return self.estimate
        if stamp_ns <= previous.stamp_ns:
            self._rejected["stamp not newer"] += 1
            self._motion = Motion.none()
            return self.estimate
        covariance = np.linalg.inv(self._information)
        prior = GaussianPrior(covariance @ self._vector, self._information)
        points = tuple(select_points(previous, level, 4 << level) for level in range(len(previous.levels)))
        found = align(previous, view, points, self._reference, prior, self._motion)
        reason = self._fault(found)
        if found is None or reason:
            self._rejected[reason] += 1
            return self.estimate
        self._motion = found.motion
        self._update(found)
        return self.estimate

    def _fault(self, found: Alignment | None) -> str:
        if found is None:
            return "too few points"
        angle = rotation_angle(found.motion.rotation)
        if angle < self.options.min_rotation:
            return "too little rotation"
        if angle > self.options.max_rotation:
            return "too much rotation"
        if found.inliers < self.options.min_inliers:
            return "residual"
        return "too little overlap" if found.overlap < self.options.min_overlap else ""

    def _update(self, found: Alignment) -> None:
        regular = found.information[3:, 3:] + np.diag(depth_basis_sigma() ** -2.0)
        gain = np.linalg.solve(regular, found.information[3:, :3])
        information: Float64 = found.information[:3, :3] - found.information[:3, 3:] @ gain
        self._information = self._information + information
        self._vector = self._vector + found.vector[:3] - gain.T @ found.vector[3:]
        self._rotation += rotation_angle(found.motion.rotation)
        self._pairs += 1

    def state(self) -> dict[str, Any]:
        """What is worth keeping over restarts, as plain numbers."""
        return {
            "reference": list(self._reference),
            "information": self._information.tolist(),
            "vector": self._vector.tolist(),
            "rotation": self._rotation,
            "pairs": self._pairs,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()`."""
        self._reference = tuple(state["reference"])
        self._information = np.array(state["information"])
        self._vector = np.array(state["vector"])
        self._rotation = float(state["rotation"])
        self._pairs = int(state["pairs"])
