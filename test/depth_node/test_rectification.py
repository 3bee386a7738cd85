"""Rectified images against the distortion models in float64, written out here from their papers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError
from depth_node.rectification import Rectification, straightened

WIDTH, HEIGHT = 320, 240
PLUMB_BOB = (-0.3, 0.1, 0.001, -0.002, -0.02)
RATIONAL = (0.4, -0.1, 0.001, -0.002, 0.01, 0.7, -0.05, 0.02)
EQUIDISTANT = (-0.02, 0.01, -0.003, 0.001)
SOURCES = {
    "plumb_bob": PinholeCamera(WIDTH, HEIGHT, 200.0, 205.0, 158.0, 121.0, "plumb_bob", PLUMB_BOB),
    "rational_polynomial": PinholeCamera(WIDTH, HEIGHT, 200.0, 205.0, 158.0, 121.0, "rational_polynomial", RATIONAL),
    "equidistant": PinholeCamera(WIDTH, HEIGHT, 150.0, 152.0, 158.0, 121.0, "equidistant", EQUIDISTANT),
}
TARGET = PinholeCamera(WIDTH, HEIGHT, 210.0, 210.0, 160.0, 120.0)


def distort(camera: PinholeCamera, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Pixels of rays: Brown-Conrady (plumb_bob), its rational form, Kannala-Brandt (equidistant)."""
    d = camera.distortion
    r2 = x * x + y * y
    if camera.distortion_model == "equidistant":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        scale = theta * (1 + sum(k * theta ** (2 * n) for n, k in enumerate(d, start=1))) / np.where(r > 0, r, 1)
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3 = d[:5]
        k4, k5, k6 = d[5:8] if len(d) == 8 else (0.0, 0.0, 0.0)
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return camera.fx * x + camera.cx, camera.fy * y + camera.cy


def ramp(camera: PinholeCamera) -> NDArray[np.uint8]:
    """An image whose channels are its own column and row, in steps that fit a byte."""
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return np.stack([columns * 0.75, rows, np.full_like(rows, 255)], axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_pixels_come_from_where_the_distortion_model_says(source: PinholeCamera) -> None:
    rectification = Rectification(source, TARGET)
    rectified = rectification.apply(ramp(source)).astype(np.float64)
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    u, v = distort(source, (columns - TARGET.cx) / TARGET.fx, (rows - TARGET.cy) / TARGET.fy)
    inside = (u > 1) & (v > 1) & (u < WIDTH - 2) & (v < HEIGHT - 2)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(rectified[inside, 0], u[inside] * 0.75, atol=1.1)  # bytes and fixed-point maps round
    np.testing.assert_allclose(rectified[inside, 1], v[inside], atol=1.1)
    outside = rectification.outside()
    beyond = (u < -1) | (v < -1) | (u > WIDTH) | (v > HEIGHT)
    if outside is None:
        assert not beyond.any()
    else:
        assert outside[beyond].all()
        assert not outside[inside].any()


def test_rotation_turns_rays_into_the_target() -> None:
    source = PinholeCamera(WIDTH, HEIGHT, 200.0, 200.0, 160.0, 120.0, "plumb_bob", (1e-9, 0.0, 0.0, 0.0, 0.0))
    angle = 0.05  # about y: what was straight ahead is now to the right
    rotation = cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0]
    rectified = Rectification(source, TARGET, tuple(rotation.ravel())).apply(ramp(source))
    column = round(TARGET.cx + TARGET.fx * np.tan(angle))
    assert rectified[120, column, 0] == pytest.approx(160 * 0.75, abs=1.5)


def test_black_beyond_the_image_is_marked() -> None:
    wide = PinholeCamera(WIDTH, HEIGHT, 100.0, 100.0, 160.0, 120.0)
    rectification = Rectification(SOURCES["plumb_bob"], wide)
    outside = rectification.outside()
    assert outside is not None
    assert outside[0, 0]
    assert outside[-1, -1]
    assert not outside[120, 160]
    black = (rectification.apply(np.full((HEIGHT, WIDTH, 3), 255, np.uint8)) == 0).all(axis=-1)
    assert outside[black].all()


def test_folded_rays_are_marked() -> None:
    """Far out, k1 alone turns back: 1 + 3 k1 r^2 = 0 at r = 1.05, so that rays beyond see the middle again."""
    source = PinholeCamera(WIDTH, HEIGHT, 200.0, 200.0, 160.0, 120.0, "plumb_bob", (-0.3, 0.0, 0.0, 0.0))
    wide = PinholeCamera(1200, 240, 200.0, 200.0, 600.0, 120.0)
    outside = Rectification(source, wide).outside()
    assert outside is not None
    rays = np.abs(np.arange(1200) - 600) / 200
    assert outside[120][rays > 1.06].all()
    assert not outside[120][rays < 1.04].any()


@pytest.mark.parametrize(
    ("target", "rotation", "said"),
    [
        (SOURCES["plumb_bob"], None, "without distortion"),
        (TARGET, (1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0), "rotation matrix"),
        (TARGET, (1.0, 0.0), "rotation matrix"),
        (TARGET, (float("nan"),) * 9, "rotation matrix"),
        (TARGET, (1e300,) * 9, "rotation matrix"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_impossible_rectifications(target: PinholeCamera, rotation: tuple[float, ...] | None, said: str) -> None:
    arguments = (SOURCES["plumb_bob"], target) if rotation is None else (SOURCES["plumb_bob"], target, rotation)
    with pytest.raises(CameraError, match=said):
        Rectification(*arguments)


def test_inverse_depth_is_rectified_as_its_image_is() -> None:
    source = PinholeCamera(WIDTH, HEIGHT, 200.0, 200.0, 158.0, 121.0, "plumb_bob", (0.2, 0.0, 0.0, 0.0, 0.0))
    rectification = straightened(source)
    assert rectification.target == PinholeCamera(WIDTH, HEIGHT, 200.0, 200.0, 158.0, 121.0)
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    found = rectification.apply_to_inverse_depth((0.01 + 0.001 * columns).astype(np.float32))
    u, v = distort(source, (columns - 158.0) / 200, (rows - 121.0) / 200)
    inside = (u > 1) & (v > 1) & (u < WIDTH - 2) & (v < HEIGHT - 2)
    np.testing.assert_allclose(found[inside], 0.01 + 0.001 * u[inside], atol=1e-3 / 16)  # fixed-point maps round
    beyond = (u < -1) | (v < -1) | (u > WIDTH) | (v > HEIGHT)
    assert beyond.any()
    assert np.isnan(found[beyond]).all()
