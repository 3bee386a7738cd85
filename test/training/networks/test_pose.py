"""Pose network: order of frames, direction of poses, size of the first guess."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.networks.pose import PoseNetwork, source_bottlenecks, source_poses

HEIGHT, WIDTH = 32, 64


class BrightnessMotion(nn.Module):
    """Says how much brighter the later frame is, as a motion along x and a rotation about z."""

    def bottleneck(self, earlier: Tensor, later: Tensor) -> Tensor:
        return (later - earlier).mean((1, 2, 3), keepdim=True)

    def motion(self, bottleneck: Tensor) -> tuple[Tensor, Tensor]:
        change = bottleneck.flatten()
        zero = torch.zeros_like(change)
        return torch.stack([zero, zero, change], dim=1), torch.stack([change, zero, zero], dim=1)


def seen_poses(network: nn.Module, image: Tensor, sources: Tensor, offsets: tuple[int, ...]) -> Tensor:
    pairs = source_bottlenecks(network, image, sources, offsets)  # type: ignore[arg-type]
    return source_poses(network, pairs, offsets)  # type: ignore[arg-type]


def frames(*brightness: float) -> Tensor:
    return torch.tensor(brightness).view(1, -1, 1, 1, 1).expand(1, len(brightness), 3, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(pretrained=False).eval()


@torch.no_grad()
def test_earlier_sources_get_the_inverse_of_their_motion_to_the_target() -> None:
    poses = seen_poses(BrightnessMotion(), frames(0.3)[:, 0], frames(0.1, 0.6), (-1, 1))
    assert poses.shape == (1, 2, 4, 4)

    def closed_form(angle: float) -> Tensor:
        c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        return torch.tensor([[c, -s, 0, angle], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

    torch.testing.assert_close(poses[0, 1], closed_form(0.3))  # target 0.3, later source 0.6
    torch.testing.assert_close(poses[0, 0] @ closed_form(0.2), torch.eye(4))  # earlier source 0.1, target 0.3


@torch.no_grad()
def test_exchanging_target_and_source_inverts_the_pose(network: PoseNetwork) -> None:
    a, b = torch.rand(2, 1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    forth = seen_poses(network, a, b.unsqueeze(1), (1,))[0, 0]
    back = seen_poses(network, b, a.unsqueeze(1), (-1,))[0, 0]
    assert (forth - torch.eye(4)).abs().max() > 1e-6
    torch.testing.assert_close(forth @ back, torch.eye(4), atol=1e-7, rtol=0)


@torch.no_grad()
def test_every_pair_of_a_batch_is_seen_alone(network: PoseNetwork) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, HEIGHT, WIDTH, generator=generator)
    sources = torch.rand(2, 3, 3, HEIGHT, WIDTH, generator=generator)
    poses = seen_poses(network, image, sources, (-1, 1, 2))
    alone = seen_poses(network, image[1:], sources[1:, 2:], (2,))
    torch.testing.assert_close(poses[1, 2], alone[0, 0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_motion_is_the_scaled_mean_over_the_map(network: PoseNetwork) -> None:
    last = network.decoder[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    pair = torch.rand(2, 1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    before = torch.cat(network(*pair), dim=1)
    assert before.abs().max() < 0.02  # radians and metres, at depths of 5 m: the first guess hardly moves the image
    last.bias += torch.arange(6.0)
    after = torch.cat(network(*pair), dim=1)
    scale = torch.tensor([0.01, 0.01, 0.01, 0.25, 0.25, 0.25])
    torch.testing.assert_close(after - before, scale * torch.arange(6.0)[None])


def test_motion_is_float32_under_autocast(network: PoseNetwork) -> None:
    pair = torch.rand(2, 1, 3, HEIGHT, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        axis_angle, translation = network(*pair)
    assert axis_angle.dtype == translation.dtype == torch.float32
    assert axis_angle.shape == translation.shape == (1, 3)
