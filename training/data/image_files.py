"""Image files decoded; without torch, so that processes which only decode start fast."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.errors import FrameError

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], RGB; grey files repeat their channel.

    Raises:
        FrameError: the file cannot be decoded.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path} cannot be read: {error.strerror}") from error
    return decode_rgb(content, str(path))


def decode_rgb(content: bytes, name: str) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], RGB, of an encoded image; `name` is for the error.

    Raises:
        FrameError: it cannot be decoded, or is cut off.
    """
    # Decoders fill the rest of a JPEG that was cut off with grey, and say so on stderr alone.
    is_cut_off = content.startswith(_JPEG_START) and content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN)
    data = np.frombuffer(content, np.uint8)
    image = None if is_cut_off or not len(data) else cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise FrameError(f"{name} cannot be decoded as an image: it is truncated, or of an unknown format")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
