"""What the stamps of an image stream tell: no clock, a clock that jumps, two publishers, lost images. No ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

StampFault = Literal[
    "stamp_zero", "stamp_backward", "stamp_repeated", "stamp_interleaved", "images_lost", "images_lost_upstream"
]

# Loss is judged over so many images, received and lost, and is heavy above this share of them.
LOSS_WINDOW_IMAGES = 50
HEAVY_LOSS = 0.2

# A rate is steady when so many of the differences of stamps are whole periods, up to a camera's jitter.
STEADY_SHARE = 0.9
PERIOD_TOLERANCE = 0.25
MIN_SINGLE_SHARE = 0.3
MIN_DIFFERENCES = 30
# A longer gap is a pause.
MAX_GAP_PERIODS = 10

# Stamps that go back so often come from two clocks.
JUMP_WINDOW_IMAGES = 10
INTERLEAVED_JUMPS = 3


@dataclass(frozen=True)
class StampReport:
    """What is wrong with the stream at one image.

    kind: of the fault, None where there is none; message: one sentence on it, and on what to do.
    lost_share: lost images among the recent ones, 0..1; 0 where the rate is not steady enough to say.
    """

    kind: StampFault | None = None
    message: str = ""
    lost_share: float = 0.0


class StampMonitor:
    """Follows the stamps of the images that a subscription receives, in their order of arrival."""

    def __init__(self) -> None:
        self._previous: int | None = None
        self._differences: deque[int] = deque(maxlen=LOSS_WINDOW_IMAGES)
        self._jumps_back: deque[int] = deque(maxlen=JUMP_WINDOW_IMAGES)
        self._missed: deque[int | None] = deque(maxlen=LOSS_WINDOW_IMAGES)

    def add(self, stamp_ns: int, missed: int | None = None) -> StampReport:
        """Judge the stream at a received image.

        missed: images that the publisher sent between the image before and this one, as its publication numbers
        have it; None where they are not known, or not to be compared because there is more than one publisher.
        """
        previous, self._previous = self._previous, stamp_ns or None
        self._missed.append(missed)
        self._jumps_back.append(0)
        if stamp_ns == 0:
            return StampReport(
                "stamp_zero",
                "the images have no stamp (zero), and so have the results: "
                "the driver sets none, or waits for a simulated /clock",
            )
        if previous is None:
            return StampReport()
        if stamp_ns < previous:
            return self._jumped_back(previous - stamp_ns)
        if stamp_ns == previous:
            return StampReport(
                "stamp_repeated",
                f"the images' stamps stand still at {stamp_ns / 1e9:.3f} s: "
                "the driver repeats them, or /clock is paused",
            )
        self._differences.append(stamp_ns - previous)
        return self._loss()

    def _jumped_back(self, distance_ns: int) -> StampReport:
        self._differences.clear()
        self._jumps_back[-1] = distance_ns
        jumps = sum(distance > 0 for distance in self._jumps_back)
        if jumps >= INTERLEAVED_JUMPS:
            return StampReport(
                "stamp_interleaved",
                f"the images' stamps jump back and forth, {jumps} times among {len(self._jumps_back)} images and by up "
                f"to {max(self._jumps_back) / 1e9:.3f} s: two publishers on the topic? Leave it to one of them",
            )
        return StampReport(
            "stamp_backward",
            f"the images' stamps went back by {distance_ns / 1e9:.3f} s: "
            "a bag that starts again, or a clock that was set",
        )

    def _loss(self) -> StampReport:
        gaps = missing_images(self._differences)
        if gaps is None:
            gaps = np.zeros(1, np.int64)
        by_stamps = int(gaps.sum())
        # One gap, however long, is a pause of this process, as in `missing_images`.
        known = [missed for missed in self._missed if missed is not None]
        here = sum(known) - max(known, default=0)
        missed = self._missed[-1]
        share = self._share(max(by_stamps, here))
        if missed is None:
            if gaps[-1] > 0 and share > HEAVY_LOSS:
                return _loss_report("images_lost", "on the way here, or before they were published", share, share)
        elif missed > 0 and (here_share := self._share(here)) > HEAVY_LOSS:
            return _loss_report("images_lost", "between their publisher and this node", here_share, share)
        elif gaps[-1] > missed and (upstream := self._share(by_stamps - sum(known))) > HEAVY_LOSS:
            return _loss_report("images_lost_upstream", "before this topic's publisher sent them", upstream, share)
        return StampReport(lost_share=share)

    def _share(self, lost: int) -> float:
        """Lost images among all; 0 while there are too few of them."""
        images = len(self._missed) + lost
        return lost / images if images >= LOSS_WINDOW_IMAGES else 0.0


def _loss_report(kind: StampFault, where: str, share: float, lost_share: float) -> StampReport:
    return StampReport(
        kind,
        f"{share:.0%} of the recent images were lost {where}: large images need a large shared-memory segment in every "
        "process (Fast DDS: FASTRTPS_DEFAULT_PROFILES_FILE=config/fastdds.xml), reliable QoS at both ends, or, on a "
        "machine that is fully at work, a lower rate",
        lost_share,
    )


def missing_images(differences_ns: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Images that are missing within each of the successive differences of stamps, all of them positive.

    None where no steady rate can be seen: too few differences, a camera of variable rate, several publishers.
    One run of long differences is a slower rate or a pause, so the longest run counts as nothing missing.
    """
    differences = np.asarray(differences_ns, np.float64)
    if len(differences) < MIN_DIFFERENCES:
        return None
    # Many of the differences are gaps when loss is heavy; some of the short ones are jitter.
    short = np.sort(differences)[len(differences) // 10]
    period = np.median(differences[np.abs(differences - short) < 0.4 * short])
    periods = np.rint(differences / period)
    is_whole = (periods >= 1) & (np.abs(differences / period - periods) <= PERIOD_TOLERANCE)
    is_single = is_whole & (periods == 1)
    if is_whole.mean() < STEADY_SHARE or is_single.mean() < MIN_SINGLE_SHARE or _is_pattern(periods):
        return None
    missing = np.where(is_whole & (periods <= MAX_GAP_PERIODS), periods - 1, 0).astype(np.int64)
    missing[_longest_run(~is_single)] = 0
    return missing


def _is_pattern(periods: NDArray[np.float64]) -> bool:
    """Whether the differences are unequal in the same way again and again, as those of several steady publishers."""
    repeats = [float(np.mean(periods[lag:] == periods[:-lag])) for lag in range(1, 7)]
    return max(repeats) >= max(0.8, repeats[0] + 0.3)


def _longest_run(flags: NDArray[np.bool_]) -> slice:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    if not len(edges):
        return slice(0)
    starts, ends = edges[::2], edges[1::2]
    longest = np.argmax(ends - starts)
    return slice(int(starts[longest]), int(ends[longest]))
