"""Images of a sensor that exposes its rows one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.synthetic.render import render
from depth_node.synthetic.world import Float64, World

_BAND_ROWS = 8  # that are rendered from one pose


def render_rolling(
    world: World, camera: PinholeCamera, T_world_camera: Callable[[float], Float64], time: float, readout: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """As `render`, with the middle row exposed at `time`, and the last one `readout` seconds after the first.

    T_world_camera: [4, 4] at a time in seconds. A readout of 0 is a global shutter.
    """
    if readout == 0:
        return render(world, camera, T_world_camera(time))
    images, depths = [], []
    for first in range(0, camera.height, _BAND_ROWS):
        band = camera.cropped(0, first, camera.width, min(_BAND_ROWS, camera.height - first))
        late = readout * ((first + band.height / 2) / camera.height - 0.5)
        rgb, depth = render(world, band, T_world_camera(time + late))
        images.append(rgb)
        depths.append(depth)
    return np.concatenate(images), np.concatenate(depths)
