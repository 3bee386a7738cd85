"""Warping against rendered truth and against bilinear interpolation written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depth_node.camera import PinholeCamera
from depth_node.synthetic import SyntheticFrame, street_drive, street_world
from training.geometry.projection import back_project, project, transform_points
from training.geometry.warp import sample, warp

SKY_DEPTH = 1e4


def image_of(frame: SyntheticFrame) -> Tensor:
    return torch.from_numpy(frame.rgb).movedim(-1, 0).double() / 255


def depth_of(frame: SyntheticFrame) -> Tensor:
    return torch.from_numpy(np.nan_to_num(frame.depth, nan=SKY_DEPTH)).double()[None]


def psnr(a: Tensor, b: Tensor, mask: Tensor) -> float:
    return float(-10 * torch.log10((a - b)[mask.expand_as(a)].square().mean()))


@pytest.fixture(scope="module")
def drive() -> list[SyntheticFrame]:
    camera = PinholeCamera(width=640, height=192, fx=371, fy=369, cx=314, cy=88)
    return list(street_drive(street_world(seed=3), camera, frames=3, speed=4.0))


@pytest.mark.parametrize(("target", "source"), [(0, 1), (2, 1)])
def test_true_depth_intrinsics_and_pose_reproduce_the_target(
    drive: list[SyntheticFrame], target: int, source: int
) -> None:
    a, b = drive[target], drive[source]
    intrinsics = torch.tensor(a.camera.normalized(), dtype=torch.float64)
    T_source_target = torch.from_numpy(np.linalg.inv(b.T_world_camera) @ a.T_world_camera)
    depth = depth_of(a)
    warped, valid = warp(image_of(b), depth, intrinsics, T_source_target)

    # What is hidden from the source cannot be reproduced: there, the source's own depth is not that of the point.
    points = transform_points(T_source_target, back_project(depth, intrinsics))
    seen_depth, _ = warp(depth_of(b), depth, intrinsics, T_source_target)
    mask = valid & ((seen_depth - points[2:]).abs() < 0.02 * points[2:])
    assert mask.double().mean() > 0.8
    assert psnr(warped, image_of(a), mask) > 35

    # The bar tells a wrong pixel convention from the right one.
    for shift in ([0.5, 0.0], [0.0, 0.5]):
        shifted = project(points, intrinsics) + torch.tensor(shift, dtype=torch.float64)[:, None, None]
        assert psnr(sample(image_of(b), shifted), image_of(a), mask) < 34


def bilinear(image: Tensor, x: float, y: float) -> float:
    height, width = image.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(math.floor(x), width - 2), min(math.floor(y), height - 2)
    u, v = x - left, y - top
    upper = (1 - u) * image[top, left] + u * image[top, left + 1]
    lower = (1 - u) * image[top + 1, left] + u * image[top + 1, left + 1]
    return float((1 - v) * upper + v * lower)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (2, 3), (1.25, 2.5), (4, 3), (-0.4, 1.5), (9.0, 9.0), (3.999, 0.001)])
def test_samples_are_bilinear_between_integer_pixel_centers(x: float, y: float) -> None:
    image = torch.rand(1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor([x, y], dtype=torch.float64)[:, None, None].expand(2, 4, 5)
    assert sample(image, pixels)[0, 1, 2].item() == pytest.approx(bilinear(image[0], x, y), abs=1e-12)


def test_whole_pixel_shift_and_its_valid_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(3, 4, 6, dtype=torch.float64, generator=generator)
    intrinsics = torch.tensor([6 / 6, 6 / 4, 0.5, 0.5], dtype=torch.float64)  # focal length of 6 pixels
    T_source_target = torch.eye(4, dtype=torch.float64)
    T_source_target[0, 3] = 2 * 3.0 / 6  # at 3 m, two pixels to the right
    depth = torch.full((1, 4, 6), 3.0, dtype=torch.float64)
    warped, valid = warp(source, depth, intrinsics, T_source_target)
    torch.testing.assert_close(warped[..., :4], source[..., 2:])
    torch.testing.assert_close(warped[..., 4:], source[..., -1:].expand(3, 4, 2))
    assert valid[0].tolist() == [[True] * 4 + [False] * 2] * 4


def test_points_behind_the_source_are_not_valid() -> None:
    T_source_target = torch.eye(4)
    T_source_target[2, 3] = -5.0
    warped, valid = warp(
        torch.rand(3, 4, 6), torch.full((1, 4, 6), 3.0), torch.tensor([1, 1.5, 0.5, 0.5]), T_source_target
    )
    assert not valid.any()
    assert warped.isfinite().all()


def test_every_source_of_a_batch_is_warped_by_its_own_pose() -> None:
    generator = torch.Generator().manual_seed(0)
    sources = torch.rand(2, 3, 3, 4, 6, dtype=torch.float64, generator=generator)
    depth = 2 + torch.rand(2, 1, 4, 6, dtype=torch.float64, generator=generator)
    intrinsics = torch.tensor([[1.0, 1.5, 0.5, 0.5], [0.8, 1.2, 0.4, 0.6]], dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 3, 1, 1)
    poses[..., :3, 3] = 0.3 * torch.randn(2, 3, 3, dtype=torch.float64, generator=generator)
    warped, valid = warp(sources, depth.unsqueeze(1), intrinsics.unsqueeze(1), poses)
    assert valid.shape == (2, 3, 1, 4, 6)
    for b in range(2):
        for n in range(3):
            alone, alone_valid = warp(sources[b, n], depth[b], intrinsics[b], poses[b, n])
            torch.testing.assert_close(warped[b, n], alone)
            assert torch.equal(valid[b, n], alone_valid)


def test_gradients_reach_depth_pose_and_intrinsics() -> None:
    generator = torch.Generator().manual_seed(1)
    source = torch.rand(1, 5, 7, dtype=torch.float64, generator=generator)
    depth = (2 + torch.rand(1, 5, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    intrinsics = torch.tensor([1.0, 1.4, 0.52, 0.48], dtype=torch.float64, requires_grad=True)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([0.11, 0.07, 0.05])
    pose.requires_grad_()
    assert torch.autograd.gradcheck(lambda d, k, t: warp(source, d, k, t)[0], (depth, intrinsics, pose))
