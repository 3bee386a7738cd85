"""Projection against the pinhole formula in plain float64 arithmetic, with K in pixels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.geometry.projection import MIN_Z, back_project, pixel_grid, project, transform_points

WIDTH, HEIGHT = 7, 5
cameras = st.tuples(st.floats(3, 20), st.floats(3, 20), st.floats(-1, 8), st.floats(-1, 6))
depths = st.floats(0.2, 80)


def normalized(camera: tuple[float, ...]) -> Tensor:
    fx, fy, cx, cy = camera
    values = [fx / WIDTH, fy / HEIGHT, (cx + 0.5) / WIDTH, (cy + 0.5) / HEIGHT]
    return torch.tensor(values, dtype=torch.float64)


def test_pixel_centers_are_integers() -> None:
    x, y = pixel_grid(2, 3, torch.float32, torch.device("cpu"))
    assert x.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert y.tolist() == [[0, 0, 0], [1, 1, 1]]


@given(cameras, depths, st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))
@settings(deadline=None)
def test_back_projection_is_the_pinhole_formula(camera: tuple[float, ...], z: float, x: int, y: int) -> None:
    fx, fy, cx, cy = camera
    points = back_project(torch.full((1, HEIGHT, WIDTH), z, dtype=torch.float64), normalized(camera))
    expected = [(x - cx) / fx * z, (y - cy) / fy * z, z]
    assert points[:, y, x].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(cameras, st.floats(-30, 30), st.floats(-10, 10), depths)
@settings(deadline=None)
def test_projection_is_the_pinhole_formula(camera: tuple[float, ...], x: float, y: float, z: float) -> None:
    fx, fy, cx, cy = camera
    points = torch.tensor([x, y, z], dtype=torch.float64)[:, None, None].expand(3, HEIGHT, WIDTH)
    pixels = project(points, normalized(camera))
    expected = [fx * x / z + cx, fy * y / z + cy]
    assert pixels[:, 2, 3].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_points_behind_the_camera_project_as_if_just_in_front() -> None:
    camera = (10.0, 10.0, 3.0, 2.0)
    points = torch.tensor([1.0, 0.0, -5.0], dtype=torch.float64)[:, None, None].expand(3, HEIGHT, WIDTH)
    assert project(points, normalized(camera))[:, 0, 0].tolist() == pytest.approx([10 * 1.0 / MIN_Z + 3, 2])


def test_batches_of_targets_and_sources_broadcast() -> None:
    generator = torch.Generator().manual_seed(0)
    depth = 1 + torch.rand(2, 1, 1, HEIGHT, WIDTH, dtype=torch.float64, generator=generator)
    intrinsics = torch.stack([normalized((8, 9, 3, 2)), normalized((10, 7, 2, 1))]).unsqueeze(1)
    transforms = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=generator)
    points = back_project(depth, intrinsics)
    moved = transform_points(transforms, points)
    assert moved.shape == (2, 3, 3, HEIGHT, WIDTH)
    homogeneous = torch.cat([points[1, 0], torch.ones(1, HEIGHT, WIDTH, dtype=torch.float64)])
    expected = torch.tensordot(transforms[1, 2], homogeneous, dims=1)[:3]
    torch.testing.assert_close(moved[1, 2], expected)
    torch.testing.assert_close(project(moved, intrinsics)[1, 2], project(moved[1, 2], intrinsics[1, 0]))


def test_gradients() -> None:
    depth = (1 + torch.rand(1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).requires_grad_()
    intrinsics = torch.tensor([1.2, 1.1, 0.5, 0.4], dtype=torch.float64, requires_grad=True)
    transform = torch.eye(4, dtype=torch.float64)
    transform[:3, 3] = torch.tensor([0.1, 0.2, 0.3])
    transform.requires_grad_()

    def round_trip(depth: Tensor, intrinsics: Tensor, transform: Tensor) -> Tensor:
        return project(transform_points(transform, back_project(depth, intrinsics)), intrinsics)

    assert torch.autograd.gradcheck(round_trip, (depth, intrinsics, transform))
