"""CameraInfo <-> PinholeCamera. Reading takes any object with the message's fields, and needs no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError, CameraSizeError
from depth_node.rectification import IDENTITY, Rectification

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header

# `distortion_model` of a published camera_info whose intrinsics are a model file's prior, not a calibration.
UNCALIBRATED = "uncalibrated"


class RegionOfInterestFields(Protocol):
    """The fields of sensor_msgs/RegionOfInterest that are read, in pixels of the full image; 0x0 is all of it."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class CameraInfoFields(Protocol):
    """The fields of sensor_msgs/CameraInfo that are read."""

    width: int
    height: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    r: Sequence[float]
    p: Sequence[float]
    roi: Any


def camera_from_info(info: CameraInfoFields, width: int, height: int, is_rectified: bool = False) -> PinholeCamera:
    """Camera of an image of `width` x `height` pixels from its CameraInfo.

    K and D of the raw image; P's intrinsics where D is zero, since then the image may be a rectified one, or where it
    is known to be one (`is_rectified`). A region of interest is cut out, and binning, or any resize in proportion, is
    followed.

    Raises:
        CameraSizeError: it is of an image of another aspect ratio.
        CameraError: NaN or zero intrinsics, no size, or an unknown distortion model.
    """
    if info.width <= 0 or info.height <= 0:
        raise CameraError(f"camera_info is of {info.width}x{info.height} pixels; expected the calibrated image's size")
    # A fisheye lens bends lines even with coefficients of zero.
    is_rectified |= not any(info.d) and info.distortion_model != "equidistant"
    camera = _projection_camera(info) if is_rectified else _raw_camera(info)
    return _fitted(camera, info.roi, width, height)


def rectification_from_info(info: CameraInfoFields, width: int, height: int) -> Rectification | None:
    """What rectifies an image of `width` x `height` pixels, from its CameraInfo; None without distortion.

    From K, D and R to P, as image_proc does; a P of zeros is taken as K.

    Raises:
        CameraSizeError, CameraError: as `camera_from_info`.
    """
    source = camera_from_info(info, width, height)
    if not source.is_distorted:
        return None
    target = _fitted(_projection_camera(info), info.roi, width, height)
    rotation = tuple(float(value) for value in info.r)
    return Rectification(source, target, rotation if any(rotation) else IDENTITY)


def _raw_camera(info: CameraInfoFields) -> PinholeCamera:
    fx, cx, fy, cy = (float(info.k[index]) for index in (0, 2, 4, 5))
    distortion = tuple(float(value) for value in info.d)
    return PinholeCamera(info.width, info.height, fx, fy, cx, cy, info.distortion_model, distortion)


def _projection_camera(info: CameraInfoFields) -> PinholeCamera:
    """The rectified image's camera: P's, or K's where P was never set."""
    values, indices = (info.p, (0, 2, 5, 6)) if info.p[0] != 0 else (info.k, (0, 2, 4, 5))
    fx, cx, fy, cy = (float(values[index]) for index in indices)
    return PinholeCamera(info.width, info.height, fx, fy, cx, cy)


def _fitted(camera: PinholeCamera, region: RegionOfInterestFields, width: int, height: int) -> PinholeCamera:
    """The part and the resolution of the calibrated image that an image has."""
    if region.width and region.height:
        camera = camera.cropped(region.x_offset, region.y_offset, region.width, region.height)
    if not _is_proportional(camera, width, height):
        raise CameraSizeError(
            f"camera_info is of {camera.width}x{camera.height} pixels, but the image has {width}x{height}, another "
            "aspect ratio; publish the camera_info of this image"
        )
    return camera if (camera.width, camera.height) == (width, height) else camera.resized(width, height)


def camera_info_message(camera: PinholeCamera, is_calibrated: bool, header: Header) -> CameraInfo:
    """CameraInfo of an image: K, D, R = identity, P = [K | 0].

    Intrinsics that are not a calibration are published all the same, with `UNCALIBRATED` as the distortion model.
    """
    from sensor_msgs.msg import CameraInfo

    info = CameraInfo(header=header, width=camera.width, height=camera.height)
    if is_calibrated:
        info.distortion_model = camera.distortion_model
        info.d = list(camera.distortion) or [0.0] * 5
    else:
        info.distortion_model = UNCALIBRATED
    info.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def _is_proportional(camera: PinholeCamera, width: int, height: int) -> bool:
    """Whether both sizes have one aspect ratio, up to the one pixel that binning rounds away."""
    return abs(width * camera.height - height * camera.width) <= max(camera.width, camera.height)
