"""How a vehicle moved between two moments, from its odometry: poses, or velocities that are summed up to poses."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

KEPT_S = 10.0
RECENT_S = 0.1

# Between two messages farther apart nobody knows how the vehicle went; farther back than that is a new recording.
MAX_GAP_S = 0.5
_RESTART_S = 1.0


@dataclass(frozen=True)
class OdometryMotion:
    """From one moment to another.

    distance: metres as the crow flies; rotation: radians; seconds: between the moments.
    """

    distance: float
    rotation: float
    seconds: float

    @property
    def speed(self) -> float:
        """Metres per second."""
        return self.distance / self.seconds


class OdometryBuffer:
    """The last seconds of odometry by stamp. Thread-safe.

    Velocities and poses are not to be mixed in one buffer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamps: list[int] = []
        self._positions: list[Float64] = []
        self._rotations: list[Float64] = []
        self._velocity: tuple[Float64, Float64] = np.zeros(3), np.zeros(3)

    def add_pose(self, stamp_ns: int, position: Float64, rotation: Float64) -> None:
        """Where the vehicle is: position [3] in metres and rotation [3, 3] in a frame without jumps (`odom`, REP 105).

        A message that is no newer than the last one is left out, unless it is so old that the recording began again.
        """
        with self._lock:
            if self._is_next(stamp_ns):
                self._append(stamp_ns, position, rotation)

    def add_velocity(self, stamp_ns: int, linear: Float64, angular: Float64) -> None:
        """How fast the vehicle is: linear [3] m/s and angular [3] rad/s in its own frame; stamps as in `add_pose`.

        Between two messages, both are taken to change evenly.
        """
        with self._lock:
            if not self._is_next(stamp_ns):
                return
            position, rotation = np.zeros(3), np.eye(3)
            if self._stamps:
                seconds = (stamp_ns - self._stamps[-1]) * 1e-9
                half_turn, _ = cv2.Rodrigues((self._velocity[1] + angular) * (seconds / 4))
                middle = self._rotations[-1] @ half_turn
                position = self._positions[-1] + middle @ (self._velocity[0] + linear) * (seconds / 2)
                rotation = middle @ half_turn
            self._velocity = linear, angular
            self._append(stamp_ns, position, rotation)

    def motion(self, from_ns: int, to_ns: int) -> OdometryMotion | None:
        """The motion between two stamps, from_ns < to_ns; None where a message is missing near one of them."""
        with self._lock:
            a, b = self._at(from_ns), self._at(to_ns)
        if a is None or b is None:
            return None
        turn, _ = cv2.Rodrigues(a[1].T @ b[1])
        return OdometryMotion(
            distance=float(np.linalg.norm(b[0] - a[0])),
            rotation=float(np.linalg.norm(turn)),
            seconds=(to_ns - from_ns) * 1e-9,
        )

    def recent(self, stamp_ns: int) -> OdometryMotion | None:
        """How the vehicle moves at this stamp, or shortly before if its odometry has not come yet; None if unknown."""
        with self._lock:
            newest = self._stamps[-1] if self._stamps else 0
        to_ns = min(stamp_ns, newest)
        from_ns = to_ns - int(RECENT_S * 1e9)
        return self.motion(from_ns, to_ns) if stamp_ns - to_ns <= MAX_GAP_S * 1e9 else None

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest message; None if there has been none."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        for values in (self._stamps, self._positions, self._rotations):
            values.clear()

    def _is_next(self, stamp_ns: int) -> bool:
        """Whether a message can follow; the buffer is emptied where nothing connects it to those before."""
        if not self._stamps:
            return True
        seconds = (stamp_ns - self._stamps[-1]) * 1e-9
        if seconds < -_RESTART_S or seconds > MAX_GAP_S:
            self._clear()
            return True
        return seconds > 0

    def _append(self, stamp_ns: int, position: Float64, rotation: Float64) -> None:
        self._stamps.append(stamp_ns)
        self._positions.append(position)
        self._rotations.append(rotation)
        if stamp_ns - self._stamps[0] > 2e9 * KEPT_S:  # seldom, as it moves all that is kept
            first = bisect_left(self._stamps, stamp_ns - int(1e9 * KEPT_S))
            for values in (self._stamps, self._positions, self._rotations):
                del values[:first]

    def _at(self, stamp_ns: int) -> tuple[Float64, Float64] | None:
        """Position and rotation at a stamp, interpolated between its neighbours."""
        index = bisect_left(self._stamps, stamp_ns)
        if index == len(self._stamps):
            return None
        if self._stamps[index] == stamp_ns:
            return self._positions[index], self._rotations[index]
        if index == 0:
            return None
        before, after = self._stamps[index - 1], self._stamps[index]
        part = (stamp_ns - before) / (after - before)
        position = (1 - part) * self._positions[index - 1] + part * self._positions[index]
        turn, _ = cv2.Rodrigues(self._rotations[index - 1].T @ self._rotations[index])
        step, _ = cv2.Rodrigues(part * turn)
        return position, self._rotations[index - 1] @ step
