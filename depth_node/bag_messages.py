"""Messages for bags, as `rosbags` has them: the fields of ROS 2 Jazzy's, made without a ROS installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from depth_node.camera import PinholeCamera

Float64 = NDArray[np.float64]

_POINT_FIELD_TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}  # sensor_msgs/PointField


@lru_cache(maxsize=1)
def jazzy_types() -> Typestore:
    """The message definitions of ROS 2 Jazzy's common interfaces."""
    return get_typestore(Stores.ROS2_JAZZY)


def message(type_name: str, **fields: Any) -> Any:
    """A message such as `message("std_msgs/msg/Header", stamp=..., frame_id=...)`; all fields are to be given."""
    return jazzy_types().types[type_name](**fields)


def header(stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = message("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return message("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def image(stamp: int, frame_id: str, pixels: NDArray[Any], encoding: str) -> Any:
    """sensor_msgs/Image of pixels [H, W] or [H, W, C] in the given encoding (rgb8, mono8, 32FC1, ...)."""
    pixels = np.ascontiguousarray(pixels)
    return message(
        "sensor_msgs/msg/Image",
        header=header(stamp, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=pixels.reshape(-1).view(np.uint8),
    )


def compressed_image(stamp: int, frame_id: str, file_bytes: bytes, file_format: str) -> Any:
    """sensor_msgs/CompressedImage of a whole picture file; file_format is `jpeg` or `png`."""
    data = np.frombuffer(file_bytes, np.uint8)
    return message("sensor_msgs/msg/CompressedImage", header=header(stamp, frame_id), format=file_format, data=data)


def camera_info(stamp: int, frame_id: str, camera: PinholeCamera) -> Any:
    """sensor_msgs/CameraInfo of a calibrated camera: K, D, R = identity, P = [K | 0]."""
    matrix = camera.matrix()
    region = message("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return message(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=np.array(camera.distortion or (0.0,) * 5, np.float64),
        k=matrix.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.column_stack([matrix, np.zeros(3)]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def point_cloud(stamp: int, frame_id: str, points: NDArray[Any], fields: Sequence[str]) -> Any:
    """sensor_msgs/PointCloud2, unorganised, of points [N, F]; `fields` names the columns (x, y, z, intensity, ...)."""
    points = np.ascontiguousarray(points)
    size = points.dtype.itemsize
    code = _POINT_FIELD_TYPES[points.dtype.str[1:]]
    return message(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp, frame_id),
        height=1,
        width=len(points),
        fields=[
            message("sensor_msgs/msg/PointField", name=name, offset=index * size, datatype=code, count=1)
            for index, name in enumerate(fields)
        ],
        is_bigendian=False,
        point_step=points.shape[1] * size,
        row_step=points.nbytes,
        data=points.reshape(-1).view(np.uint8),
        is_dense=bool(np.isfinite(points).all()),
    )


def transforms(stamp: int, T_parent_child: Mapping[tuple[str, str], Float64]) -> Any:
    """tf2_msgs/TFMessage of transforms [4, 4] by (parent frame, child frame)."""
    return message(
        "tf2_msgs/msg/TFMessage",
        transforms=[
            message(
                "geometry_msgs/msg/TransformStamped",
                header=header(stamp, parent),
                child_frame_id=child,
                transform=message(
                    "geometry_msgs/msg/Transform",
                    translation=_vector(matrix[:3, 3]),
                    rotation=_quaternion(matrix[:3, :3]),
                ),
            )
            for (parent, child), matrix in T_parent_child.items()
        ],
    )


def odometry(
    stamp: int,
    frame_id: str,
    child_frame_id: str,
    T_frame_child: Float64,
    linear_velocity: Sequence[float] | Float64,
    angular_velocity: Sequence[float] | Float64,
) -> Any:
    """nav_msgs/Odometry: pose in `frame_id`, velocities (m/s, rad/s) in `child_frame_id`; covariances unknown (0)."""
    position = message(
        "geometry_msgs/msg/Point", **dict(zip("xyz", (float(v) for v in T_frame_child[:3, 3]), strict=True))
    )
    pose = message("geometry_msgs/msg/Pose", position=position, orientation=_quaternion(T_frame_child[:3, :3]))
    twist = message("geometry_msgs/msg/Twist", linear=_vector(linear_velocity), angular=_vector(angular_velocity))
    return message(
        "nav_msgs/msg/Odometry",
        header=header(stamp, frame_id),
        child_frame_id=child_frame_id,
        pose=message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        twist=message("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )


def _vector(values: Sequence[float] | Float64) -> Any:
    x, y, z = (float(value) for value in values)
    return message("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def _quaternion(rotation: Float64) -> Any:
    """Unit quaternion of a rotation matrix, w >= 0 (Shepperd 1978: by the largest component, so that none cancels)."""
    trace = np.trace(rotation)
    squares = np.append(1 + 2 * np.diag(rotation) - trace, 1 + trace)  # 4x^2, 4y^2, 4z^2, 4w^2
    largest = int(np.argmax(squares))
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    if largest == 3:
        components = np.append(skew, squares[3])
    else:
        components = np.append(rotation[:, largest] + rotation[largest, :], skew[largest])
        components[largest] = squares[largest]
    x, y, z, w = (float(value) for value in components / np.linalg.norm(components) * np.sign(components[3] or 1.0))
    return message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
