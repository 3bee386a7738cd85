"""Odometry messages into the buffer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from geometry_msgs.msg import Quaternion, TwistStamped, TwistWithCovarianceStamped
from nav_msgs.msg import Odometry

from depth_node.errors import OdometryError
from depth_node.odometry_messages import add_odometry, rotation_matrix
from depth_node.scale import OdometryBuffer

START_S = 1_700_000_000


def stamped(message: Any, number: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = START_S, number * 100_000_000
    return message


def pose(number: int) -> Any:
    """3 m/s ahead, turning by 0.1 rad between two messages."""
    message = stamped(Odometry(), number)
    message.pose.pose.position.x = 0.3 * number
    message.pose.pose.orientation = Quaternion(z=math.sin(0.05 * number), w=math.cos(0.05 * number))
    message.twist.twist.linear.x = 99.0  # not asked
    return message


def twist(number: int) -> Any:
    message = stamped(TwistStamped(), number)
    message.twist.linear.x = 3.0
    return message


def twist_with_covariance(number: int) -> Any:
    message = stamped(TwistWithCovarianceStamped(), number)
    message.twist.twist.linear.x = -3.0
    return message


@pytest.mark.parametrize(("make", "turn"), [(pose, 0.5), (twist, 0.0), (twist_with_covariance, 0.0)])
def test_every_type_of_odometry(make: Any, turn: float) -> None:
    buffer = OdometryBuffer()
    for number in range(6):
        add_odometry(buffer, make(number))
    motion = buffer.motion(START_S * 10**9, START_S * 10**9 + 500_000_000)
    assert motion is not None
    assert motion.distance == pytest.approx(1.5)
    assert motion.rotation == pytest.approx(turn)


def moved(message: Any) -> Any:
    """Where an odometry message says that the vehicle is, or how it goes."""
    if isinstance(message, Odometry):
        return message.pose.pose.position
    return (message.twist.twist if isinstance(message, TwistWithCovarianceStamped) else message.twist).linear


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e200])
@pytest.mark.parametrize("make", [pose, twist, twist_with_covariance])
def test_what_is_no_number_is_left_out(make: Any, bad: float) -> None:
    """Summed up, it would be in every pose that follows."""
    buffer = OdometryBuffer()
    for number in range(6):
        message = make(number)
        if number == 2:
            moved(message).y = bad
            with pytest.raises(OdometryError, match="expected finite numbers"):
                add_odometry(buffer, message)
        else:
            add_odometry(buffer, message)
    motion = buffer.motion(START_S * 10**9, START_S * 10**9 + 500_000_000)
    assert motion is not None
    assert motion.distance == pytest.approx(1.5)


def test_an_orientation_that_is_no_number_is_left_out() -> None:
    message = pose(1)
    message.pose.pose.orientation.w = math.nan
    with pytest.raises(OdometryError, match=r"pose of \(0.3, 0, 0, nan"):
        add_odometry(OdometryBuffer(), message)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 1e-3))
def test_rotation_of_a_quaternion(values: tuple[float, float, float, float]) -> None:
    """Hamilton's product q v q*; also of one that is not quite of unit length."""
    length = math.hypot(*values)
    x, y, z, w = (value / length for value in values)
    expected = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    x, y, z, w = (1.01 * value / length for value in values)
    np.testing.assert_allclose(rotation_matrix(Quaternion(x=x, y=y, z=z, w=w)), expected, atol=1e-12)


def test_no_heading_is_no_rotation() -> None:
    np.testing.assert_array_equal(rotation_matrix(Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)), np.eye(3))
