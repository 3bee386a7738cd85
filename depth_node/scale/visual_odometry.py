"""Metric scale from how far the vehicle went, by its odometry, and how far its camera did, in the unit of depth."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.rectification import straightened
from depth_node.scale.estimate import ScaleEstimate, unknown_scale
from depth_node.scale.filter import ScaleFilter
from depth_node.scale.odometry_buffer import OdometryBuffer, OdometryMotion
from depth_node.scale.pyramid import Pyramid, make_pyramid
from depth_node.scale.visual_motion import VisualMotion, visual_motion

MIN_SPEED = 0.1  # m/s; slower is standing still
MAX_PAIR_S = 2.0  # between the images of a pair

# The camera need not be where odometry is measured. How far off, in metres, times the turn has to be small against the
# way: a camera ahead of the axle moves sideways in a turn, one to its side ahead.
_LEVER_ARM, _MAX_LEVER_SHARE = 1.0, 0.3

# In median depths of the scene: how far a pair has to go, what more than that is worth, and how far all pairs together,
# before their median is trusted. Queueing in traffic, one goes metres within minutes, and everything seen moves along.
MIN_BASELINE, _MOST_BASELINE, _ENOUGH_BASELINE = 0.03, 0.2, 1.0
_WINDOW = 31  # pairs

# Seconds between two alignments of images, before the scale is known and after: it changes slowly, and each costs time.
_EAGER_S, _RELAXED_S = 0.2, 1.0


@dataclass(frozen=True)
class _Pair:
    """A visual motion that waits for the odometry of its time."""

    from_ns: int
    to_ns: int
    seen: VisualMotion


class VisualOdometryScale:
    """Scale from pairs of images and odometry: the median, in ratios, of distance by odometry over distance seen.

    odometry: to be filled by whoever hears it, in any thread. `add` is for one thread, which need not be the one that
    asks for the scale: `estimate` and `update` only read what `add` has left.
    estimate: what is known now.
    """

    def __init__(self) -> None:
        self.odometry = OdometryBuffer()
        self.estimate = unknown_scale("no odometry")
        self._filter = ScaleFilter(_WINDOW, _ENOUGH_BASELINE)
        self._previous: Pyramid | None = None
        self._velocity: NDArray[np.float64] | None = None
        self._pending: deque[_Pair] = deque(maxlen=8)
        self._is_too_close = self._is_idle = False
        self._aligned_ns = -(10**18)
        self._rejected: Counter[str] = Counter()

    @property
    def rejected(self) -> dict[str, int]:
        """How many pairs of images were not used, by the reason."""
        return dict(self._rejected)

    def needs_images(self) -> bool:
        """Whether the next image can teach anything: not while standing still, nor after a pair. For any thread."""
        newest = self.odometry.newest_ns
        if newest is None:
            return False
        going = self.odometry.recent(newest)
        if going is None or going.speed < MIN_SPEED:
            return not self._is_idle  # so that it is said
        return self._is_too_close or self._is_due(newest)

    def update(self, depth: NDArray[np.float32], camera: PinholeCamera) -> ScaleEstimate:
        """The estimate, which a frame's depth alone does not change (a `ScaleSource`)."""
        return self.estimate

    def add(
        self, image: NDArray[np.uint8], inverse_depth: NDArray[np.float32], camera: PinholeCamera, stamp_ns: int
    ) -> ScaleEstimate:
        """Learn from one more image.

        image: uint8 [h, w, 3] RGB. inverse_depth: float32 [h, w], 1/depth in the unit that the scale is asked for, NaN
        where invalid. camera: of the image, at any resolution; where it distorts, both are rectified first.
        """
        state = self._obstacle(stamp_ns)
        self._is_idle = bool(state)
        if state:
            self._previous = None
        elif self._is_due(stamp_ns):
            if camera.is_distorted:
                rectification = straightened(camera.resized(image.shape[1], image.shape[0]))
                image, camera = rectification.apply(image), rectification.target
                inverse_depth = rectification.apply_to_inverse_depth(inverse_depth)
            self._look(make_pyramid(image, inverse_depth, stamp_ns), camera)
        self._match()
        self.estimate = self._estimate(state)
        return self.estimate

    def _obstacle(self, stamp_ns: int) -> str:
        """What keeps from learning now; empty if nothing does."""
        if self.odometry.newest_ns is None:
            return "no odometry"
        going = self.odometry.recent(stamp_ns)
        if going is None:
            return "no odometry of the time of the images"
        return "standing still" if going.speed < MIN_SPEED else ""

    def _look(self, view: Pyramid, camera: PinholeCamera) -> None:
        """Measure the motion from the image before to this one, if it is not too close to tell."""
        previous, self._is_too_close = self._previous, False
        if previous is None or not 0 < view.stamp_ns - previous.stamp_ns < MAX_PAIR_S * 1e9:
            self._previous = view
            return
        seconds = (view.stamp_ns - previous.stamp_ns) * 1e-9
        expected = None if self._velocity is None else self._velocity * seconds
        seen = visual_motion(previous, view, camera, expected)
        self._aligned_ns = view.stamp_ns
        self._is_too_close = not seen.fault and seen.baseline < MIN_BASELINE
        if self._is_too_close:
            return
        # Where the next pair is some time off, it begins with an image of its own.
        self._previous = None if self._filter.known else view
        if seen.fault:
            self._rejected[seen.fault] += 1
            self._velocity = None
        else:
            self._velocity = seen.translation / seconds
            self._pending.append(_Pair(previous.stamp_ns, view.stamp_ns, seen))

    def _is_due(self, stamp_ns: int) -> bool:
        period = _RELAXED_S if self._filter.known else _EAGER_S
        return not 0 <= stamp_ns - self._aligned_ns < period * 1e9

    def _match(self) -> None:
        """Compare the pairs with odometry, as far as that has come."""
        newest = self.odometry.newest_ns or 0
        while self._pending and self._pending[0].to_ns <= newest:
            pair = self._pending.popleft()
            driven = self.odometry.motion(pair.from_ns, pair.to_ns)
            fault = _fault(driven)
            if driven is None or fault:
                self._rejected[fault] += 1
            else:
                baseline = min(pair.seen.baseline, _MOST_BASELINE)
                self._filter.add(driven.distance / pair.seen.distance, baseline)

    def _estimate(self, state: str) -> ScaleEstimate:
        known = self._filter
        if not known.known:
            left_out = ", ".join(f"{reason}: {count}" for reason, count in self._rejected.items())
            driving = f"driving, {known.evidence:.0%} of the way needed has been seen"
            return unknown_scale((state or driving) + (f" (pairs left out: {left_out})" if left_out else ""))
        reason = f"{known.count} pairs of images against odometry" + (f"; {state}" if state else "")
        return ScaleEstimate(known.factor, "odometry", known.relative_sigma, reason)


def _fault(driven: OdometryMotion | None) -> str:
    """Why the distance by odometry does not say how far the camera went; empty if it does."""
    if driven is None:
        return "gap in odometry"
    if driven.speed < MIN_SPEED:
        return "standing still"
    return "turning" if driven.rotation * _LEVER_ARM > _MAX_LEVER_SHARE * driven.distance else ""
