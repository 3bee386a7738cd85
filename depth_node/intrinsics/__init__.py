"""Intrinsics of a camera from its own images while it turns."""

from depth_node.intrinsics.estimate import Intrinsics, IntrinsicsEstimate, IntrinsicsState
from depth_node.intrinsics.estimator import EstimatorOptions, IntrinsicsEstimator

__all__ = ["EstimatorOptions", "Intrinsics", "IntrinsicsEstimate", "IntrinsicsEstimator", "IntrinsicsState"]
