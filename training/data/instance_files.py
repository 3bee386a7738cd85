"""Instance masks on disk: which pixels are one thing that may move by itself (a person, a car, a dog).

An 8-bit one-channel PNG, at any resolution of the image that it belongs to: 0 is no instance, 1 to 255 are the
instances of this image; the numbers of two images have nothing to do with each other. `prepare --instances` writes
them as `INDEX.instances.png` beside `INDEX.jpg`; what any other segmenter writes there is read alike.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.errors import FrameError

SUFFIX = ".instances.png"


def instance_file(image: Path) -> Path:
    """Where the mask of an image lies."""
    return image.with_suffix(SUFFIX)


def read_instances(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W], 0 for none.

    Raises:
        FrameError: the file cannot be read or is another kind of image.
    """
    try:
        return decode_instances(path.read_bytes(), str(path))
    except OSError as error:
        raise FrameError(f"{path} cannot be read ({error.strerror}): expected an instance mask") from error


def decode_instances(content: bytes, name: str) -> NDArray[np.uint8]:
    """uint8 [H, W] of an encoded mask; `name` is for the error.

    Raises:
        FrameError: it cannot be decoded or is another kind of image.
    """
    data = np.frombuffer(content, np.uint8)
    mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if mask is None:
        raise FrameError(f"{name} cannot be decoded: expected an 8-bit PNG of instance numbers")
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise FrameError(f"{name} is {mask.dtype} {list(mask.shape)}: expected an 8-bit one-channel PNG")
    return np.asarray(mask, np.uint8)


def encode_instances(mask: NDArray[np.uint8]) -> bytes:
    """A PNG file of a mask uint8 [H, W]."""
    return bytes(cv2.imencode(".png", mask)[1].tobytes())
