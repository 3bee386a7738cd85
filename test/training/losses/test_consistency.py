"""Geometry consistency where the answer is known: planes, rendered streets, and a car that comes the other way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from depth_node.camera import PinholeCamera
from depth_node.synthetic import MovingCar, Street, World, street_drive, street_world
from training.geometry.se3 import invert
from training.losses.consistency import depth_disagreement, geometry_consistency

INTRINSICS = torch.tensor([[0.8, 1.2, 0.5, 0.5]])


def forward_motion(metres: float) -> Tensor:
    """T_source_target of a source that is so much further ahead: its points are nearer."""
    T = torch.eye(4).repeat(1, 1, 1, 1)
    T[0, 0, 2, 3] = -metres
    return T


def plane(depth: float) -> Tensor:
    return torch.full((1, 1, 24, 36), depth)


def test_a_wall_ahead_is_nearer_by_the_motion() -> None:
    """A wall across the whole view at 10 m, from 2 m further ahead at 8 m."""
    T = forward_motion(2.0)
    right, seen = depth_disagreement(plane(10.0), plane(8.0), INTRINSICS, T[:, 0])
    assert seen.float().mean() == pytest.approx((8 / 10) ** 2, abs=0.12)
    assert right[seen].max() < 1e-6
    wrong, seen = depth_disagreement(plane(10.0), plane(6.0), INTRINSICS, T[:, 0])
    torch.testing.assert_close(wrong[seen], torch.full_like(wrong[seen], (8 - 6) / (8 + 6)))


def test_the_loss_is_the_mean_of_both_directions_and_weights_are_what_agrees() -> None:
    T = forward_motion(2.0)
    loss, weights = geometry_consistency(plane(10.0), plane(6.0).unsqueeze(1), INTRINSICS, T)
    there, back = (8 - 6) / (8 + 6), (10 - 8) / (10 + 8)  # from 6 m, 2 m back: 8 m, where the target has 10 m
    assert float(loss) == pytest.approx((there + back) / 2, rel=1e-5)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 - there))


def test_weights_teach_nothing_and_both_depths_are_taught() -> None:
    target, source = plane(10.0).requires_grad_(), plane(6.0).unsqueeze(1).requires_grad_()
    loss, weights = geometry_consistency(target, source, INTRINSICS, forward_motion(2.0))
    assert not weights.requires_grad
    loss.backward()
    for depth, sign in ((target, 1), (source, -1)):
        assert depth.grad is not None
        assert depth.grad.isfinite().all()
        assert (sign * depth.grad.sum()) > 0  # descent brings 10 m down and 6 m up


def test_points_behind_the_other_camera_do_not_count() -> None:
    loss, _ = geometry_consistency(plane(1.0), plane(1.0).unsqueeze(1), INTRINSICS, forward_motion(5.0))
    target = plane(1.0).requires_grad_()
    geometry_consistency(target, plane(1.0).unsqueeze(1), INTRINSICS, forward_motion(5.0))[0].backward()
    assert float(loss.isfinite())
    assert target.grad is not None
    assert target.grad.isfinite().all()


def drive(traffic: list[MovingCar]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Depth [1, 1, H, W] of the first of two frames, that of the second, K, T_second_first, and the moving cars."""
    camera = PinholeCamera(width=256, height=128, fx=200, fy=200, cx=127.5, cy=60)
    world = World(street=Street()) if traffic else street_world(4)
    first, second = street_drive(world, camera, frames=2, speed=8.0, traffic=traffic)
    depths = [torch.from_numpy(np.nan_to_num(f.depth, nan=1e4)).double()[None, None] for f in (first, second)]
    T = torch.from_numpy(np.linalg.inv(second.T_world_camera) @ first.T_world_camera)[None]
    return *depths, torch.tensor([camera.normalized()]).double(), T, torch.from_numpy(first.moving > 0)[None, None]


def test_true_depths_of_a_street_agree_both_ways() -> None:
    first, second, K, T, _ = drive([])
    for depth, other, T_other_this in ((first, second, T), (second, first, invert(T))):
        disagreement, seen = depth_disagreement(depth, other, K, T_other_this)
        values = disagreement[seen & (depth < 100)]
        assert values.median() < 1e-3
        assert (values < 0.02).double().mean() > 0.93  # the others are on outlines, or hidden in one of the two


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_what_comes_the_other_way_agrees_at_the_depth_that_reprojection_believes(speed: float) -> None:
    """A wall at z that comes at `speed` times the camera's own, d a frame, is nearer by (1 + speed) d one frame on.

    Its true depths disagree by speed d / (2 z - (2 + speed) d); z / (1 + speed), which explains the images as well, in
    no way: agreement weighs against the photometric error only while the network does not yet believe it.
    """
    z, d = 12.0, 1.0
    later = z - (1 + speed) * d
    true, _ = depth_disagreement(plane(z), plane(later), INTRINSICS, forward_motion(d)[:, 0])
    torch.testing.assert_close(true.mean(), torch.tensor(speed * d / (2 * z - (2 + speed) * d)))
    believed = [plane(depth / (1 + speed)) for depth in (z, later)]
    agreed, _ = depth_disagreement(*believed, INTRINSICS, forward_motion(d)[:, 0])
    assert agreed.max() < 1e-6


def test_an_oncoming_car_on_a_rendered_street_disagrees_at_its_true_depth() -> None:
    first, second, K, T, car = drive([MovingCar(arc=14.0, speed=-8.0)])
    disagreement, seen = depth_disagreement(first, second, K, T)
    standing = disagreement[seen & ~car & (first < 50)]
    assert disagreement[car].median() > 20 * standing.median()
    assert disagreement[car].median() == pytest.approx(0.8 / (2 * 11.9 - 3 * 0.8), rel=0.5)  # bonnet at 11.9 m
