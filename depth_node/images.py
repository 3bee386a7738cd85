"""Image messages <-> numpy. Decoding takes any object with a message's fields (rclpy's, rosbags'), and needs no ROS.

A ROS machine has cv_bridge, which then converts the colours; without it OpenCV's own functions give the same bytes.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.errors import ImageError

if TYPE_CHECKING:
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header


class ImageFields(Protocol):
    """The fields of sensor_msgs/Image that decoding reads; `data` is anything with the buffer protocol."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


@dataclass(frozen=True)
class _Encoding:
    """How a pixel lies in memory, and OpenCV's conversion to RGB (None: it is RGB)."""

    channels: int
    to_rgb: int | None
    bytes_per_channel: int = 1
    even_width: bool = False

    @property
    def pixel_bytes(self) -> int:
        return self.channels * self.bytes_per_channel


# OpenCV names a Bayer pattern by its second row, second and third pixel; ROS by its first two rows: RGGB is BayerBG.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}

# sensor_msgs/image_encodings.hpp; `uyvy` and `yuyv` are the newer names of `yuv422` and `yuv422_yuy2`.
ENCODINGS: dict[str, _Encoding] = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "rgb16": _Encoding(3, None, bytes_per_channel=2),
    "bgr16": _Encoding(3, cv2.COLOR_BGR2RGB, bytes_per_channel=2),
    "rgba16": _Encoding(4, cv2.COLOR_RGBA2RGB, bytes_per_channel=2),
    "bgra16": _Encoding(4, cv2.COLOR_BGRA2RGB, bytes_per_channel=2),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, bytes_per_channel=2),
    **{f"bayer_{pattern}8": _Encoding(1, code) for pattern, code in _BAYER.items()},
    **{f"bayer_{pattern}16": _Encoding(1, code, bytes_per_channel=2) for pattern, code in _BAYER.items()},
    **{name: _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even_width=True) for name in ("yuv422", "uyvy")},
    **{name: _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even_width=True) for name in ("yuv422_yuy2", "yuyv")},
}


def rgb_from_image(message: ImageFields) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/Image of one of `ENCODINGS`; 16-bit values are scaled to 8 bit.

    Returns uint8 [H, W, 3], RGB: for `rgb8` a view of the message's own memory, to be read only.

    Raises:
        ImageError: unknown encoding, no pixels, or step or data that do not fit the size.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageError(
            "encoding", f"encoding '{message.encoding}' is not a camera image; expected one of: {', '.join(ENCODINGS)}"
        )
    _check_layout(message, encoding)
    bridge = _cv_bridge()
    if bridge is not None and _cv_bridge_decodes(message, encoding):
        decoded: NDArray[np.uint8] = bridge.imgmsg_to_cv2(message, "rgb8")
        return decoded
    return _to_rgb(_pixels(message, encoding), encoding)


def depth_image_message(depth: NDArray[np.float32], header: Header, encoding: str = "32FC1") -> Image:
    """Image (REP 118) of depth: float32 [H, W] metres, NaN where invalid.

    encoding: `32FC1`, metres and NaN as they are; `16UC1`, millimetres as `depth_millimeters` has them.

    Raises:
        ImageError: another encoding.
    """
    if encoding == "16UC1":
        return _image_message(depth_millimeters(depth), encoding, header)
    if encoding != "32FC1":
        raise ImageError("encoding", f"depth image of encoding '{encoding}'; expected 32FC1 or 16UC1")
    return _image_message(np.ascontiguousarray(depth, np.float32), encoding, header)


def depth_millimeters(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """uint16 [H, W] millimetres of depth float32 [H, W] metres, to the nearest.

    0 means invalid (REP 118): where depth is NaN, below half a millimetre, or beyond 65.535 m, the end of 16 bits.
    """
    millimeters = depth * np.float32(1000)
    cv2.patchNaNs(millimeters, 0.0)
    np.rint(millimeters, out=millimeters)
    _, within = cv2.threshold(millimeters, 65535, 0, cv2.THRESH_TOZERO_INV)
    return within.astype(np.uint16)


def confidence_image_message(confidence: NDArray[np.float32], header: Header) -> Image:
    """32FC1 image of confidence: float32 [H, W], 0 to 1 (sure)."""
    return _image_message(np.ascontiguousarray(confidence, np.float32), "32FC1", header)


def color_image_message(rgb: NDArray[np.uint8], header: Header) -> Image:
    """rgb8 image of rgb: uint8 [H, W, 3]."""
    return _image_message(np.ascontiguousarray(rgb, np.uint8), "rgb8", header)


def message_array(height: int, width: int) -> NDArray[np.float32]:
    """Uninitialised float32 [height, width] in the kind of memory that messages keep, so that none is copied later."""
    data = array.array("B", bytes(4)) * (height * width)
    return np.frombuffer(data, np.float32).reshape(height, width)


def adopt_data(message: Any, data: array.array[int]) -> None:
    """Make `data` a message's own, as it is.

    Its setter copies, unless the environment has it check every field: then it keeps an array.array.
    """
    message._data = data


def _image_message(pixels: NDArray[Any], encoding: str, header: Header) -> Image:
    from sensor_msgs.msg import Image

    height, width = pixels.shape[:2]
    message = Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=False,
        step=pixels.strides[0],
    )
    adopt_data(message, _message_data(pixels))
    return message


def _message_data(pixels: NDArray[Any]) -> array.array[int]:
    """The bytes of a contiguous array: those of `message_array` themselves, a copy of others."""
    owner: Any = pixels
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, array.array) and owner.typecode == "B" and len(owner) == pixels.nbytes:
        return owner
    data = array.array("B")
    data.frombytes(pixels.data.cast("B"))
    return data


def _check_layout(message: ImageFields, encoding: _Encoding) -> None:
    """Compare size, step and data length, before any of the data is touched."""
    name, width, height, step = message.encoding, message.width, message.height, message.step
    if width <= 0 or height <= 0:
        raise ImageError("size", f"image of {width}x{height} pixels; expected at least 1x1")
    if encoding.even_width and width % 2:
        raise ImageError("size", f"'{name}' image of {width}x{height} pixels; its pixels come in pairs: even width")
    row_bytes = width * encoding.pixel_bytes
    if step < row_bytes:
        raise ImageError("step", f"step of {step} bytes for {width} pixels of '{name}'; expected at least {row_bytes}")
    if len(message.data) != height * step:
        raise ImageError(
            "data", f"{len(message.data)} bytes of data for {height} rows of {step} bytes; expected {height * step}"
        )


def _pixels(message: ImageFields, encoding: _Encoding) -> NDArray[Any]:
    """The message's pixels in native byte order: [H, W] or [H, W, C], a view where that is possible."""
    order = ">" if message.is_bigendian else "<"
    size = encoding.bytes_per_channel
    shape, strides = [message.height, message.width], [message.step, encoding.pixel_bytes]
    if encoding.channels > 1:
        shape.append(encoding.channels)
        strides.append(size)
    stored: NDArray[Any] = np.ndarray(shape, f"{order}u{size}", np.frombuffer(message.data, np.uint8), strides=strides)
    if size == 1:
        return stored
    # OpenCV wants native, aligned 16-bit values; a message in a bag may begin at any address.
    return np.require(stored, stored.dtype.newbyteorder("="), ["C", "A"])


def _to_rgb(pixels: NDArray[Any], encoding: _Encoding) -> NDArray[np.uint8]:
    rgb: NDArray[Any] = pixels if encoding.to_rgb is None else cv2.cvtColor(pixels, encoding.to_rgb)
    if rgb.dtype != np.uint8:
        # Scaled after the colours, as cv_bridge does: demosaicing rounds.
        rgb = cv2.convertScaleAbs(rgb, alpha=255.0 / 65535.0)
    return rgb


@cache
def _cv_bridge() -> Any | None:
    """The installed cv_bridge, or None."""
    # Jazzy's compiled module is built for NumPy 1; under NumPy 2 it imports, and crashes the process when it is used.
    if int(np.__version__.partition(".")[0]) >= 2:
        return None
    try:
        import cv_bridge.boost.cv_bridge_boost  # noqa: F401  (cv_bridge itself imports without it, then fails later)
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge()


def _cv_bridge_decodes(message: ImageFields, encoding: _Encoding) -> bool:
    """Whether cv_bridge gets this message right: it shears rows whose padding is not a whole number of pixels."""
    is_ros_message = type(message).__module__.startswith("sensor_msgs.msg.")
    known = message.encoding not in ("uyvy", "yuyv")
    return is_ros_message and known and message.step % encoding.pixel_bytes == 0
