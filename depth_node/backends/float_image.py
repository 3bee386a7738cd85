"""The host's share of a foreign model: its float input. Models of our own take bytes and normalise in the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.model import ModelSpec


def input_adaptor(spec: ModelSpec) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """Function from an image uint8 [1, H, W, 3] (RGB) to what the model takes.

    The image itself for a model of our own; for a foreign one float32 [1, 3, H, W] or [1, H, W, 3] in a buffer that
    the next call overwrites.
    """
    if spec.float_input is None:
        return lambda image: image

    layout, size = spec.float_input.layout, (spec.input_height, spec.input_width)
    buffer = np.empty((1, 3, *size) if layout == "NCHW" else (1, *size, 3), np.float32)
    planes = buffer[0] if layout == "NCHW" else buffer[0].transpose(2, 0, 1)
    channels = (0, 1, 2) if spec.color == "rgb" else (2, 1, 0)
    gains = [np.float32(1 / (255 * std)) for std in spec.float_input.std]
    offsets = [np.float32(-mean / std) for mean, std in zip(spec.float_input.mean, spec.float_input.std, strict=True)]

    def adapt(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        for plane, channel, gain, offset in zip(planes, channels, gains, offsets, strict=True):
            np.multiply(image[0, :, :, channel], gain, out=plane, dtype=np.float32)
            np.add(plane, offset, out=plane)
        return buffer

    return adapt
