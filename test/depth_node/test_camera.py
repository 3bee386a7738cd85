"""The camera against the pinhole and lens equations, written out here in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, backproject
from depth_node.errors import CameraError

KITTI = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854)
TUM = PinholeCamera(640, 480, 517.3, 516.5, 318.6, 255.3, "plumb_bob", (0.2624, -0.9531, -0.0054, 0.0026, 1.1633))

sizes = st.integers(1, 4000)
cameras = st.builds(
    PinholeCamera,
    width=sizes,
    height=sizes,
    fx=st.floats(10, 5000),
    fy=st.floats(10, 5000),
    cx=st.floats(-100, 4000),
    cy=st.floats(-100, 4000),
)


def project(camera: PinholeCamera, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels [N, 2] of points [N, 3]: the lens models as OpenCV and ROS document them."""
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    k = camera.distortion
    if camera.distortion_model == "equidistant" and k:
        r = np.hypot(x, y)
        theta = np.arctan(r)
        bent = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
        factor = np.divide(bent, r, out=np.ones_like(r), where=r > 0)
        x, y = x * factor, y * factor
    elif k:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*k, *([0.0] * (8 - len(k))))
        r2 = x * x + y * y
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.stack([camera.fx * x + camera.cx, camera.fy * y + camera.cy], axis=-1)


def pixel_grid(camera: PinholeCamera, stride: int = 1) -> NDArray[np.float64]:
    """Pixels [h, w, 2]: x, y."""
    x, y = np.arange(0, camera.width, stride), np.arange(0, camera.height, stride)
    return np.stack(np.meshgrid(x, y), axis=-1).astype(np.float64)


@given(cameras, sizes, sizes)
def test_normalized_intrinsics_survive_resizing(camera: PinholeCamera, width: int, height: int) -> None:
    assert camera.resized(width, height).normalized() == pytest.approx(camera.normalized(), rel=1e-9, abs=1e-9)


@given(cameras)
def test_from_normalized_inverts_normalized(camera: PinholeCamera) -> None:
    again = PinholeCamera.from_normalized(camera.normalized(), camera.width, camera.height)
    assert again.matrix() == pytest.approx(camera.matrix(), rel=1e-9, abs=1e-9)


def test_normalized_is_fraction_of_the_image() -> None:
    # The principal point of a camera that looks through the middle of its image is one half.
    camera = PinholeCamera(640, 480, 320.0, 240.0, 319.5, 239.5)
    assert camera.normalized() == (0.5, 0.5, 0.5, 0.5)


@given(cameras, sizes, sizes)
def test_resizing_maps_pixels_about_their_edges(camera: PinholeCamera, width: int, height: int) -> None:
    points = np.array([[0.3, -0.2, 2.0], [-1.0, 0.5, 7.0]])
    scale = np.array([width / camera.width, height / camera.height])
    expected = (project(camera, points) + 0.5) * scale - 0.5
    assert project(camera.resized(width, height), points) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(cameras, st.data())
def test_cropping_shifts_pixels(camera: PinholeCamera, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, camera.width)), data.draw(st.integers(1, camera.height))
    x, y = data.draw(st.integers(0, camera.width - width)), data.draw(st.integers(0, camera.height - height))
    points = np.array([[0.3, -0.2, 2.0]])
    cropped = camera.cropped(x, y, width, height)
    assert (cropped.width, cropped.height) == (width, height)
    assert project(cropped, points) == pytest.approx(project(camera, points) - [x, y], rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("box", [(-1, 0, 10, 10), (0, 0, 1243, 10), (1240, 0, 3, 10), (0, 370, 10, 6)])
def test_crop_outside_the_image_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(CameraError, match="does not lie inside the image of 1242x375"):
        KITTI.cropped(*box)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_rays_are_the_pinhole_equation(stride: int) -> None:
    rays = KITTI.rays(stride)
    expected = (pixel_grid(KITTI, stride) - [KITTI.cx, KITTI.cy]) / [KITTI.fx, KITTI.fy]
    assert rays.dtype == np.float32
    assert rays.shape == (math.ceil(375 / stride), math.ceil(1242 / stride), 2)
    assert np.abs(rays - expected).max() < 1e-7


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
        ("plumb_bob", (-0.31, 0.12, 0.001, -0.0005)),
        ("plumb_bob", (-0.2, 0.0, 0.0, 0.0, 0.0)),  # radial alone: by a table
        ("plumb_bob", (0.15, 0.0, 0.0, 0.0)),
        ("rational_polynomial", (0.41, -2.6, 0.0004, -0.0003, 1.5, 0.29, -2.4, 1.4)),
        ("equidistant", (-0.012, 0.03, -0.02, 0.004)),
        ("equidistant", (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_rays_of_a_distorted_camera_project_back_onto_their_pixels(model: str, distortion: tuple[float, ...]) -> None:
    camera = PinholeCamera(640, 480, 517.3, 516.5, 318.6, 255.3, model, distortion)
    rays = camera.rays(stride=7).astype(np.float64).reshape(-1, 2)
    pixels = project(camera, np.concatenate([rays, np.ones((len(rays), 1))], axis=1))
    assert np.abs(pixels - pixel_grid(camera, 7).reshape(-1, 2)).max() < 1e-3


@pytest.mark.parametrize(
    ("model", "distortion", "expected"),
    [
        ("plumb_bob", (), 0.0),
        ("plumb_bob", (-0.2, 0.0, 0.0, 0.0, 0.0), -0.2),
        ("plumb_bob", (-0.2, 0.0, 0.0, 1e-4, 0.0), None),
        ("rational_polynomial", (-0.2, 0, 0, 0, 0, 0, 0, 0), None),
        ("equidistant", (0.0, 0.0, 0.0, 0.0), None),
    ],
)
def test_radial_distortion(model: str, distortion: tuple[float, ...], expected: float | None) -> None:
    camera = PinholeCamera(640, 480, 500.0, 500.0, 320.0, 240.0, model, distortion)
    assert camera.radial_distortion == expected


def test_zero_coefficients_leave_a_pinhole() -> None:
    zeros = PinholeCamera(640, 480, 500.0, 500.0, 320.0, 240.0, "plumb_bob", (0.0,) * 5)
    assert np.array_equal(zeros.rays(), PinholeCamera(640, 480, 500.0, 500.0, 320.0, 240.0).rays())


def test_pixels_that_no_ray_reaches_have_no_ray() -> None:
    # x (1 - 0.5 x^2) is at most 0.544 (at x = sqrt(2/3)): nothing is seen beyond 0.544 * 200 = 109 pixels off the axis.
    camera = PinholeCamera(401, 401, 200.0, 200.0, 200.0, 200.0, "plumb_bob", (-0.5, 0.0, 0.0, 0.0))
    has_ray = ~np.isnan(camera.rays()).any(axis=-1)
    radius = np.hypot(*np.moveaxis(pixel_grid(camera) - 200, -1, 0))
    assert has_ray[radius < 100].all()
    assert not has_ray[radius > 111].any()
    depth = np.ones((401, 401), np.float32)
    assert np.isnan(backproject(depth, camera)[~has_ray]).all()


def test_rays_are_computed_once_and_cannot_be_spoiled() -> None:
    same = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854)
    assert np.shares_memory(KITTI.rays(), same.rays())
    with pytest.raises(ValueError, match="read-only"):
        KITTI.rays()[0, 0] = 0


@pytest.mark.parametrize("camera", [KITTI, TUM], ids=["pinhole", "distorted"])
@pytest.mark.parametrize("stride", [1, 3])
def test_backprojection_inverts_projection(camera: PinholeCamera, stride: int) -> None:
    depth = np.random.default_rng(0).uniform(0.5, 80, (camera.height, camera.width)).astype(np.float32)
    points = backproject(depth, camera, stride)
    assert points.dtype == np.float32
    assert np.array_equal(points[..., 2], depth[::stride, ::stride])
    pixels = project(camera, points.reshape(-1, 3).astype(np.float64)).reshape(*points.shape[:2], 2)
    assert np.abs(pixels - pixel_grid(camera, stride)).max() < 2e-3


def test_invalid_depth_gives_an_invalid_point() -> None:
    depth = np.full((375, 1242), 10, np.float32)
    depth[100, 200] = np.nan
    points = backproject(depth, KITTI)
    assert np.isnan(points[100, 200]).all()
    assert np.isnan(points).sum() == 3


def test_backprojection_of_known_pixels() -> None:
    camera = PinholeCamera(4, 3, 2.0, 4.0, 1.0, 1.0)
    points = backproject(np.full((3, 4), 8, np.float32), camera)
    assert points[1, 1] == pytest.approx([0, 0, 8])
    assert points[2, 3] == pytest.approx([8, 2, 8])  # (3 - 1) / 2 * 8, (2 - 1) / 4 * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "0x375 pixels"),
        ({"height": -3}, "1242x-3 pixels"),
        ({"fx": 0.0}, "focal lengths must be positive"),
        ({"fy": -700.0}, "focal lengths must be positive"),
        ({"fx": math.nan}, "fx = nan"),
        ({"cy": math.inf}, "cy = inf"),
        ({"distortion_model": "thin_prism"}, "'thin_prism' is unknown; expected one of: plumb_bob"),
        ({"distortion": (0.1, 0.2)}, "2 distortion coefficients for model 'plumb_bob'; expected 4 or 5"),
        ({"distortion": (0.1, math.nan, 0.0, 0.0, 0.0)}, "not finite"),
    ],
)
def test_numbers_that_are_no_camera_are_refused(change: dict[str, object], message: str) -> None:
    numbers = {"width": 1242, "height": 375, "fx": 721.5, "fy": 721.5, "cx": 609.6, "cy": 172.9}
    with pytest.raises(CameraError, match=message):
        PinholeCamera(**{**numbers, **change})  # type: ignore[arg-type]
