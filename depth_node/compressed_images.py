"""Compressed image messages -> numpy: JPEG and PNG; what is damaged or too large is refused. No ROS."""

from __future__ import annotations

import struct
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.errors import ImageError

# A compressed image says its size before it is decoded; a larger one is refused (64 megapixels: 192 MiB decoded).
MAX_COMPRESSED_PIXELS = 1 << 26

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"


class CompressedImageFields(Protocol):
    """The fields of sensor_msgs/CompressedImage that decoding reads."""

    format: str
    data: Any


def rgb_from_compressed(message: CompressedImageFields) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage that holds a JPEG or a PNG. Returns uint8 [H, W, 3], RGB.

    The picture's own header decides, not `format`: drivers write many things there.

    Raises:
        ImageError: neither JPEG nor PNG, larger than `MAX_COMPRESSED_PIXELS`, damaged or cut off.
    """
    data = memoryview(message.data).cast("B")
    size = _compressed_size(data)
    if size is None:
        raise ImageError(
            "compressed",
            f"compressed image of format '{message.format}' with {len(data)} bytes is neither a JPEG nor a PNG with a "
            "whole header; use a topic with one of these",
        )
    width, height = size
    if not 0 < width * height <= MAX_COMPRESSED_PIXELS:
        raise ImageError(
            "size", f"compressed image of {width}x{height} pixels; expected 1 to {MAX_COMPRESSED_PIXELS} pixels"
        )
    bgr = _decode_whole(data)
    if bgr is None:
        raise ImageError(
            "compressed", f"compressed image of {width}x{height} pixels is damaged or cut off after {len(data)} bytes"
        )
    rgb: NDArray[Any] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return rgb


def _compressed_size(data: memoryview) -> tuple[int, int] | None:
    """Width and height in pixels from the header of a PNG or a JPEG; None where there is none."""
    if bytes(data[:8]) == _PNG_SIGNATURE and bytes(data[12:16]) == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if bytes(data[:3]) == _JPEG_SIGNATURE:
        return _jpeg_size(data)
    return None


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Walk the segments (ITU-T T.81, B.1) up to the frame header."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # SOF0..SOF15; the others are tables
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + length
    return None


def _decode_whole(data: memoryview) -> NDArray[np.uint8] | None:
    """BGR uint8 [H, W, 3], or None. OpenCV fills what a cut-off file lacks with grey, so the end mark is checked."""
    end_mark = b"IEND" if data[0] == _PNG_SIGNATURE[0] else b"\xff\xd9"
    if bytes(data).rfind(end_mark) < 0:
        return None
    # The picture as the sensor saw it: an orientation tag would turn it away from its camera_info.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return decoded
