"""The intrinsics of one camera over time: an estimator for what it sends, and what was stored before."""

from __future__ import annotations

import math
from dataclasses import dataclass

from depth_node.camera import PinholeCamera
from depth_node.frames import NetworkView
from depth_node.intrinsics.estimate import Intrinsics, IntrinsicsEstimate
from depth_node.intrinsics.estimator import EstimatorOptions, IntrinsicsEstimator
from depth_node.intrinsics.observation import MotionObserver
from depth_node.intrinsics.selection import SelectedCamera
from depth_node.intrinsics.store import StoredIntrinsics
from depth_node.rectification import Rectification

# A calibration that is farther off than so many standard deviations is wrong.
WRONG_SIGMAS = 3.0


@dataclass(frozen=True)
class TrackedIntrinsics:
    """What is known after an image.

    estimate: of images of width x height pixels; of rectified ones, where the node rectifies them.
    is_usable: it has converged, now or before, or was stored when it had.
    stamp_ns, frame_id: of the image.
    """

    estimate: IntrinsicsEstimate
    width: int
    height: int
    is_rectified: bool
    is_usable: bool
    stamp_ns: int
    frame_id: str

    @property
    def camera(self) -> PinholeCamera:
        """The estimate in pixels."""
        return self.estimate.camera(self.width, self.height)

    def is_of(self, width: int, height: int, is_rectified: bool) -> bool:
        """Whether this is about such images."""
        return (self.width, self.height, self.is_rectified) == (width, height, is_rectified)


class IntrinsicsTracker:
    """Estimates the intrinsics of whatever images come: begins anew when their size or their rectification changes.

    tracked: the newest result, None before the first.
    stored: a converged estimate of the same camera, to begin with where images are of its size and not rectified.
    Both, and `usable`, may be read from any thread; `add` is for one.
    """

    def __init__(
        self,
        prior: Intrinsics,
        stored: StoredIntrinsics | None = None,
        motion: MotionObserver | None = None,
        options: EstimatorOptions | None = None,
    ) -> None:
        """prior: of the depth model, as for `PinholeCamera.from_prior`. options: of the estimator."""
        self.tracked: TrackedIntrinsics | None = None
        self.stored = stored
        self._prior = prior
        self._motion = motion
        self._options = options
        self._key: object = None
        self._estimator: IntrinsicsEstimator | None = None
        self._is_usable = False

    def add(self, view: NetworkView) -> TrackedIntrinsics:
        """Learn from one more view."""
        camera = view.camera
        key = camera.width, camera.height, camera.normalized() if view.is_rectified else None
        if self._estimator is None or key != self._key:
            self._key, self._estimator = key, self._begin(camera.width, camera.height, view.is_rectified)
        motion = self._motion.observe(view) if self._motion else None
        estimate = self._estimator.add(view.image, view.inverse_depth, view.stamp_ns, motion)
        self._is_usable |= estimate.state == "converged"
        self.tracked = TrackedIntrinsics(
            estimate, camera.width, camera.height, view.is_rectified, self._is_usable, view.stamp_ns, view.frame_id
        )
        return self.tracked

    def usable(self, width: int, height: int) -> PinholeCamera | None:
        """Camera of images of this size, not rectified; None as long as it is not known."""
        tracked, stored = self.tracked, self.stored
        if tracked is not None and tracked.is_of(width, height, False):
            return tracked.camera if tracked.is_usable else None
        if stored is not None and (stored.width, stored.height) == (width, height):
            return stored.estimate.camera(width, height)
        return None

    def _begin(self, width: int, height: int, is_rectified: bool) -> IntrinsicsEstimator:
        if self._motion:
            self._motion.forget()
        stored = self.stored
        if stored is not None and (stored.width, stored.height) == (width, height) and not is_rectified:
            self._is_usable = True
            return IntrinsicsEstimator(stored.estimate, width, height, self._options)
        self._is_usable = False
        prior = PinholeCamera.from_prior(self._prior, width, height).normalized()
        return IntrinsicsEstimator(prior, width, height, self._options)


def is_comparable(selected: SelectedCamera, tracked: TrackedIntrinsics) -> bool:
    """Whether a camera is a pinhole camera of the very images that usable intrinsics were learned from."""
    camera, is_rectified = selected.pinhole, isinstance(selected.camera, Rectification)
    is_same = tracked.is_of(camera.width, camera.height, is_rectified)
    return is_same and tracked.is_usable and not camera.is_distorted


def deviation(camera: PinholeCamera, estimate: IntrinsicsEstimate) -> float:
    """By how many standard deviations a camera's focal length is longer than the estimate's.

    Both are geometric means of fx and fy.
    """
    fx, fy, _, _ = camera.normalized()
    estimated_fx, estimated_fy, _, _ = estimate.intrinsics
    return 0.5 * math.log(fx * fy / (estimated_fx * estimated_fy)) / estimate.relative_sigma
