"""What proxy depth cannot be, on a level ground with a box that stands, hovers or sinks into it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from training.data.proxy_checks import contradicts_road, has_texture
from training.data.road_plane import RoadPlane

CAMERA = PinholeCamera(width=400, height=160, fx=240, fy=240, cx=199.5, cy=60)
HEIGHT = 1.65
ROAD = RoadPlane(np.array([0.0, -1.0, 0.0]), HEIGHT, 1.0)
BOX = (slice(70, 111), slice(150, 211))  # rows, columns; it stands where its lower edge sees the ground


def ground() -> NDArray[np.float32]:
    """Metres along z, 0 above the horizon."""
    rows = np.arange(160, dtype=np.float64)[:, None] - CAMERA.cy
    depth = np.where(rows > 4, HEIGHT * CAMERA.fy / np.maximum(rows, 1e-9), 0.0)
    return np.broadcast_to(depth, (160, 400)).astype(np.float32)


def with_box(factor: float) -> NDArray[np.float32]:
    """The box is triangulated at `factor` times its true depth."""
    depth = ground().copy()
    depth[BOX] = factor * depth[BOX[0].stop - 1, 0]
    return depth


def test_what_stands_on_the_ground_is_believed() -> None:
    assert not contradicts_road(ground(), CAMERA, ROAD).any()
    assert not contradicts_road(with_box(1.0), CAMERA, ROAD).any()


@pytest.mark.parametrize("factor", [0.5, 0.6, 2.0, 3.0])
def test_what_moves_along_is_found_by_the_road(factor: float) -> None:
    """Half the depth: it comes the other way as fast as the camera; twice: it goes ahead at half its speed."""
    wrong = contradicts_road(with_box(factor), CAMERA, ROAD)
    assert wrong[BOX][20:].mean() > 0.9  # the lower half
    wrong[BOX[0].start - 6 : BOX[0].stop + 6, BOX[1].start - 6 : BOX[1].stop + 6] = False
    assert not wrong.any()


def test_unknown_depth_contradicts_nothing() -> None:
    assert not contradicts_road(np.zeros((160, 400), np.float32), CAMERA, ROAD).any()
    holes = with_box(2.0)
    holes[BOX] = 0
    assert not contradicts_road(holes, CAMERA, ROAD).any()


def test_texture() -> None:
    image = np.full((60, 120), 255, np.uint8)
    image[:, 60:] = np.random.default_rng(0).integers(100, 140, (60, 60))
    textured = has_texture(image)
    assert not textured[:, :54].any()
    assert textured[:, 66:].all()
