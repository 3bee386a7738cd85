"""How far a vehicle went, against closed forms of circles and straight lines."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node.scale.odometry_buffer import KEPT_S, MAX_GAP_S, OdometryBuffer

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 20_000_000
MakeBuffer = Callable[[float, float, int], OdometryBuffer]


def yaw(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def circle_by_poses(speed: float, turn_rate: float, messages: int) -> OdometryBuffer:
    """Poses of a circle (a line, without turning), x ahead."""
    buffer = OdometryBuffer()
    for number in range(messages):
        seconds = number * PERIOD_NS * 1e-9
        angle = turn_rate * seconds
        chord = speed * seconds * float(np.sinc(angle / 2 / math.pi))
        position = np.array([100.0 + chord * math.cos(angle / 2), -7.0 + chord * math.sin(angle / 2), 0.5])
        buffer.add_pose(START_NS + number * PERIOD_NS, position, yaw(angle))
    return buffer


def circle_by_velocities(speed: float, turn_rate: float, messages: int) -> OdometryBuffer:
    buffer = OdometryBuffer()
    for number in range(messages):
        stamp = START_NS + number * PERIOD_NS
        buffer.add_velocity(stamp, np.array([speed, 0.0, 0.0]), np.array([0.0, 0.0, turn_rate]))
    return buffer


@pytest.mark.parametrize("make", [circle_by_poses, circle_by_velocities])
@given(
    speed=st.floats(-20, 20).filter(lambda v: abs(v) > 0.01),
    turn_rate=st.floats(-1.5, 1.5),
    first=st.integers(0, 900_000_000),
    length=st.integers(10_000_000, 1_000_000_000),
)
def test_chord_and_turn_of_a_circle(make: MakeBuffer, speed: float, turn_rate: float, first: int, length: int) -> None:
    """Between messages, too: the chord of a circle is 2 v / w sin(w t / 2)."""
    motion = make(speed, turn_rate, 100).motion(START_NS + first, START_NS + first + length)
    seconds = length * 1e-9
    angle = turn_rate * seconds
    assert motion is not None
    assert motion.distance == pytest.approx(abs(speed) * seconds * abs(np.sinc(angle / 2 / math.pi)), rel=1e-3)
    assert motion.rotation == pytest.approx(abs(angle), abs=3e-5)  # cv2.Rodrigues takes less than 1e-5 for no turn
    assert motion.seconds == pytest.approx(seconds)
    assert motion.speed == pytest.approx(motion.distance / seconds)


def test_changing_speed_is_summed_up() -> None:
    """Braking evenly from 10 m/s: distance v t - a t^2 / 2, and back again."""
    buffer = OdometryBuffer()
    for number in range(101):
        seconds = number * 0.02
        buffer.add_velocity(START_NS + number * PERIOD_NS, np.array([10 - 5 * seconds, 0.0, 0.0]), np.zeros(3))
    motion = buffer.motion(START_NS, START_NS + 2_000_000_000)
    assert motion is not None
    assert motion.distance == pytest.approx(10.0)


def test_only_what_was_heard_is_known() -> None:
    buffer = circle_by_poses(1.0, 0.0, 50)
    last = START_NS + 49 * PERIOD_NS
    assert buffer.newest_ns == last
    assert buffer.motion(START_NS, last) is not None
    assert buffer.motion(START_NS - 1, last) is None
    assert buffer.motion(START_NS, last + 1) is None
    buffer.clear()
    assert buffer.newest_ns is None
    assert buffer.motion(START_NS, last) is None
    assert buffer.recent(last) is None


def test_recent_motion_bridges_a_message_that_has_not_come() -> None:
    buffer = circle_by_poses(3.0, 0.0, 50)
    last = START_NS + 49 * PERIOD_NS
    late = buffer.recent(last + int(0.9 * MAX_GAP_S * 1e9))
    assert late is not None
    assert late.speed == pytest.approx(3.0)
    assert buffer.recent(last + int(1.1 * MAX_GAP_S * 1e9)) is None


@pytest.mark.parametrize("make", [circle_by_poses, circle_by_velocities])
def test_repeated_and_late_messages_change_nothing(make: MakeBuffer) -> None:
    buffer, expected = make(2.0, 0.3, 50), make(2.0, 0.3, 50)
    for stamp in (START_NS + 49 * PERIOD_NS, START_NS + 10 * PERIOD_NS, START_NS + 17):
        buffer.add_pose(stamp, np.full(3, 1e6), np.eye(3))
    span = START_NS + PERIOD_NS, START_NS + 40 * PERIOD_NS
    assert buffer.motion(*span) == expected.motion(*span)


@pytest.mark.parametrize("seconds", [-20.0, 2 * MAX_GAP_S])
def test_nothing_connects_over_a_gap_or_a_restart(seconds: float) -> None:
    buffer = circle_by_velocities(2.0, 0.0, 50)
    stamp = START_NS + 49 * PERIOD_NS + int(seconds * 1e9)
    buffer.add_velocity(stamp, np.array([2.0, 0.0, 0.0]), np.zeros(3))
    buffer.add_velocity(stamp + PERIOD_NS, np.array([2.0, 0.0, 0.0]), np.zeros(3))
    assert buffer.newest_ns == stamp + PERIOD_NS
    assert buffer.motion(START_NS + PERIOD_NS, stamp + PERIOD_NS) is None
    motion = buffer.motion(stamp, stamp + PERIOD_NS)
    assert motion is not None
    assert motion.distance == pytest.approx(2.0 * PERIOD_NS * 1e-9)


def test_the_last_seconds_are_kept_and_not_all() -> None:
    buffer = circle_by_velocities(1.0, 0.0, round(5 * KEPT_S * 1e9 / PERIOD_NS))
    newest = buffer.newest_ns
    assert newest is not None
    assert buffer.motion(newest - round(KEPT_S * 0.99e9), newest) is not None
    assert buffer.motion(newest - round(KEPT_S * 2.1e9), newest) is None
