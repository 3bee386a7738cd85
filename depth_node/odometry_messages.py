"""Odometry messages -> `OdometryBuffer`."""

from __future__ import annotations

import cv2
import numpy as np
from geometry_msgs.msg import Point, Quaternion, TwistStamped, TwistWithCovarianceStamped, Vector3
from nav_msgs.msg import Odometry
from numpy.typing import NDArray

from depth_node.errors import OdometryError
from depth_node.frames import stamp_ns
from depth_node.scale.odometry_buffer import OdometryBuffer

MESSAGE_TYPES: dict[str, type] = {
    "nav_msgs/Odometry": Odometry,
    "geometry_msgs/TwistStamped": TwistStamped,
    "geometry_msgs/TwistWithCovarianceStamped": TwistWithCovarianceStamped,
}
FARTHEST = 1e9  # metres and metres per second


def add_odometry(buffer: OdometryBuffer, message: Odometry | TwistStamped | TwistWithCovarianceStamped) -> None:
    """Poses of nav_msgs/Odometry, velocities of the others, into a buffer.

    Raises:
        OdometryError: a number is NaN, infinite or beyond everything; summed up, it would stay for ever.
    """
    stamp = stamp_ns(message)
    if isinstance(message, Odometry):
        pose = message.pose.pose
        position = _vector(pose.position)
        _expect_finite("pose", *position, pose.orientation.w, *_vector(pose.orientation))
        buffer.add_pose(stamp, position, rotation_matrix(pose.orientation))
        return
    twist = message.twist.twist if isinstance(message, TwistWithCovarianceStamped) else message.twist
    linear, angular = _vector(twist.linear), _vector(twist.angular)
    _expect_finite("twist", *linear, *angular)
    buffer.add_velocity(stamp, linear, angular)


def _expect_finite(name: str, *values: float) -> None:
    if not all(abs(value) < FARTHEST for value in values):  # NaN compares false
        numbers = ", ".join(f"{value:g}" for value in values)
        raise OdometryError(f"odometry with a {name} of ({numbers}) is left out; expected finite numbers, in metres")


def rotation_matrix(quaternion: Quaternion) -> NDArray[np.float64]:
    """Rotation [3, 3] of a geometry_msgs/Quaternion; of one that is all zeros, as of who has no heading, none."""
    axis = _vector(quaternion)
    sine = float(np.linalg.norm(axis))
    angle = 2 * np.arctan2(sine, quaternion.w)
    rotation, _ = cv2.Rodrigues(axis * (angle / sine if sine > 0 else 0.0))
    return np.asarray(rotation, np.float64)


def _vector(vector: Vector3 | Point | Quaternion) -> NDArray[np.float64]:
    return np.array([vector.x, vector.y, vector.z])
