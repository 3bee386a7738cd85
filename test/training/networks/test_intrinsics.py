"""Learned intrinsics: where they start, what crops and mirrors make of them, and that rotations teach them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from depth_node.camera import PinholeCamera
from depth_node.synthetic import render, street_world
from depth_node.synthetic.street import T_BASE_CAMERA, base_pose
from training.errors import RecipeError
from training.geometry.framing import Framing
from training.geometry.se3 import rigid_transform, so3_exp
from training.losses.options import SelfSupervisedLosses
from training.losses.reprojection import photometric_reprojection_loss
from training.networks.intrinsics import (
    CameraIntrinsics,
    IntrinsicsHead,
    LearnedIntrinsics,
    create_learned_intrinsics,
    describe,
    inverse_softplus,
)

CHANNELS = 8


def framing(window: tuple[int, int, int, int], camera: int = 0) -> Framing:
    """Of one sample of an image of 200 x 100 pixels."""
    return Framing.window(window, 200, 100, camera).expand(1)


WHOLE = framing((0, 0, 200, 100))


def head(**options: object) -> IntrinsicsHead:
    made = create_learned_intrinsics(LearnedIntrinsics(**options), CHANNELS)  # type: ignore[arg-type]
    assert isinstance(made, IntrinsicsHead)
    return made


def vector(**options: object) -> CameraIntrinsics:
    made = create_learned_intrinsics(LearnedIntrinsics(per="camera", **options), CHANNELS)  # type: ignore[arg-type]
    assert isinstance(made, CameraIntrinsics)
    return made


def test_softplus_is_inverted() -> None:
    for value in (0.01, 0.6, 5.0):
        assert math.log1p(math.exp(inverse_softplus(value))) == pytest.approx(value)


def test_both_start_at_the_prior() -> None:
    seen = torch.randn(1, 2, CHANNELS, 2, 3)
    expected = torch.tensor([[0.7, 1.4, 0.5, 0.5]])  # of square pixels in an image twice as wide as high
    torch.testing.assert_close(head(focal=0.7)(seen, WHOLE), expected)
    torch.testing.assert_close(vector(focal=0.7)(WHOLE), expected)


def test_the_principal_point_may_lie_anywhere() -> None:
    """Left of and above the middle as well: a softplus there would keep it right and below."""
    module = head(focal=0.7)
    assert module.center is not None
    assert module.center.bias is None
    with torch.no_grad():
        module.center.weight[:] = -0.1
        fx, fy, cx, cy = module(torch.ones(1, 1, CHANNELS, 2, 3), WHOLE)[0].tolist()
    assert (cx, cy) == pytest.approx((0.5 - 0.8, 0.5 - 0.8))
    assert (fx, fy) == pytest.approx((0.7, 1.4))


def test_all_sources_of_a_sample_share_one_camera() -> None:
    module = head()
    torch.nn.init.normal_(module.focal.weight)
    seen = torch.randn(3, 2, CHANNELS, 2, 3)
    together = module(seen, framing((0, 0, 200, 100)).with_tensors(lambda t: t.expand(3, *t.shape[1:])))
    assert together.shape == (3, 4)
    assert len(set(together[:, 0].tolist())) == 3
    swapped = module(seen.flip(1), framing((0, 0, 200, 100)).with_tensors(lambda t: t.expand(3, *t.shape[1:])))
    torch.testing.assert_close(together, swapped)


def test_square_pixels_and_a_fixed_center() -> None:
    module = head(square_pixels=True, fixed_center=True)
    torch.nn.init.normal_(module.focal.weight)
    window = framing((20, 10, 100, 80))
    fx, fy, cx, cy = module(torch.randn(1, 1, CHANNELS, 2, 3), window)[0].tolist()
    assert fy * 80 == pytest.approx(fx * 100)  # equal in pixels of the whole image
    assert (cx, cy) == pytest.approx(((100 - 20) / 100, (50 - 10) / 80))  # where the whole image's middle is


def test_a_head_for_any_aspect_is_not_told_the_shape_of_the_image() -> None:
    module = head(any_aspect=True)
    torch.nn.init.normal_(module.focal.weight)
    seen = torch.randn(1, 1, CHANNELS, 2, 3)
    wide, square = module(seen, WHOLE), module(seen, framing((0, 0, 100, 100)))
    torch.testing.assert_close(wide, square)
    told = head()
    told.load_state_dict(module.state_dict())
    twice_as_wide_as_high = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(told(seen, WHOLE)[0, :2], wide[0, :2] * twice_as_wide_as_high)
    for excluded in ({"square_pixels": True}, {"per": "camera"}):
        with pytest.raises(RecipeError, match="any_aspect"):
            LearnedIntrinsics(any_aspect=True, **excluded)  # type: ignore[arg-type]


@pytest.mark.parametrize("zoom", [1.25, 2.0])
def test_a_zoom_by_s_is_a_focal_length_s_times_as_long(zoom: float) -> None:
    module = vector(focal=0.7)
    w, h = round(200 / zoom), round(100 / zoom)
    fx, fy, cx, _ = module(framing((0, 0, w, h)))[0].tolist()
    assert (fx, fy) == pytest.approx((0.7 * zoom, 1.4 * zoom))
    mirrored = module(framing((0, 0, w, h)).mirrored(torch.tensor([True])))[0].tolist()
    assert mirrored[2] == pytest.approx(1 - cx)


def test_each_camera_has_a_vector_of_its_own() -> None:
    module = vector(focal=0.7, cameras=2)
    loss = module(framing((0, 0, 200, 100), camera=1))[0, 0]
    loss.backward()
    assert module.focal.grad is not None
    assert module.focal.grad[0].tolist() == [0, 0]
    assert module.focal.grad[1, 0] > 0


def test_running_means_are_of_whole_images() -> None:
    module = head(focal=0.7, fixed_center=True)
    for window in ((0, 0, 100, 50), (50, 20, 150, 75), (0, 0, 200, 100)):
        with torch.no_grad():  # a network that sees each zoom right
            module.focal.bias[:] = inverse_softplus(0.9 * 200 / window[2])
        module(torch.randn(1, 1, CHANNELS, 2, 3), framing(window))
        module.note_motion(torch.eye(4).expand(1, 1, 4, 4), torch.ones(1, 4), 96, 64)
    assert module.prior == pytest.approx((0.9, 1.8, 0.5, 0.5), rel=1e-5)
    assert module.aspect.tolist() == [2.0]


def test_users_are_told_a_camera_only_where_it_turned() -> None:
    module = vector(focal=0.7)
    intrinsics = torch.tensor([[0.7, 1.4, 0.5, 0.5]])
    still = torch.eye(4).expand(1, 2, 4, 4)
    module.note_motion(still, intrinsics, 320, 96)
    assert "cannot be told from this video: its camera hardly turns" in describe(module)
    for _ in range(200):
        turned = rigid_transform(so3_exp(torch.tensor([[[0.0, 0.01, 0.0]]])), torch.zeros(1, 1, 3))
        module.note_motion(turned, intrinsics, 320, 96)
    assert module.edge_shift == pytest.approx(320 * 0.01 / 1.4, rel=0.15)  # nearly only of the last hundred
    assert describe(module).startswith("learned camera: fx/W 0.7000, fy/H 0.7000")


@pytest.mark.parametrize("options", [{"focal": 0.0}, {"cameras": 0}, {"cameras": 2}, {"learning_rate_factor": -1.0}])
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="intrinsics"):
        LearnedIntrinsics(**options)  # type: ignore[arg-type]


WIDTH, HEIGHT = 160, 96
NEAREST, FARTHEST = 0.5, 100.0
TRUE_FOCAL = 0.7


@dataclass(frozen=True)
class Scene:
    """Views of a street: image [1, 3, H, W], sources [1, N, 3, H, W], depth of the image [1, 1, H, W]."""

    image: Tensor
    sources: Tensor
    depth: Tensor


TURNING = ((0, 0, 0, 0, 0), (0, 6, 0.1, 0, 0.1), (0, -6, -0.1, 0, 0.1), (4, 0, 0, 0.05, 0.1), (-4, 0, 0, -0.05, 0.1))


def scene(*views: tuple[float, float, float, float, float], zoom: float = 1.0) -> Scene:
    """The first view is the target; each is pitch and yaw in degrees, and x, y, z in metres."""
    focal = TRUE_FOCAL * zoom * WIDTH
    camera = PinholeCamera(WIDTH, HEIGHT, focal, focal, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    world = street_world(seed=3)
    assert world.street is not None
    images, depths = [], []
    for pitch, yaw, *position in views:
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec(np.radians([pitch, yaw, 0])).as_matrix()
        T[:3, 3] = position
        rgb, depth = render(world, camera, base_pose(world.street, 20.0) @ T_BASE_CAMERA @ T)
        images.append(torch.from_numpy(rgb).movedim(-1, 0) / 255)
        depths.append(torch.from_numpy(np.nan_to_num(depth, nan=FARTHEST).clip(NEAREST, FARTHEST)))
    return Scene(images[0][None], torch.stack(images[1:])[None], depths[0][None, None])


def photometric_loss(scene: Scene, intrinsics: Tensor, T_source_target: Tensor, shrunk: int = 1) -> Tensor:
    """Of the true depth, at a part of the resolution."""
    depth = scene.depth[..., ::shrunk, ::shrunk]
    losses = SelfSupervisedLosses(minimum_reprojection=False, automask=False, smoothness=0, mean_over="trained")
    loss, _ = photometric_reprojection_loss(
        [(1 / depth - 1 / FARTHEST) / (1 / NEAREST - 1 / FARTHEST)],
        F.avg_pool2d(scene.image, shrunk),
        F.avg_pool2d(scene.sources[0], shrunk)[None],
        intrinsics,
        T_source_target,
        min_depth=NEAREST,
        max_depth=FARTHEST,
        options=losses,
    )
    return loss


def learn(scene: Scene, camera: CameraIntrinsics, steps: int = 60) -> float:
    """fx/W after learning K and poses together from the photometric loss, coarse to fine, with true depth."""
    motion = torch.zeros(scene.sources.shape[1], 6, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": camera.parameters()}, {"params": [motion]}])
    for shrunk in (4, 2, 1):
        for group, rate in zip(optimizer.param_groups, (0.09, 0.03), strict=True):
            group["lr"] = rate * shrunk / 4
        for _ in range(steps):
            T_source_target = rigid_transform(so3_exp(0.1 * motion[:, :3]), motion[:, 3:])[None]
            intrinsics = camera(Framing.whole(scene.image, camera=0))
            loss = photometric_loss(scene, intrinsics, T_source_target, shrunk)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    camera.note_motion(T_source_target.detach(), intrinsics.detach(), WIDTH, HEIGHT)
    return float(intrinsics[0, 0].detach())


@pytest.mark.parametrize("error", [0.3, -0.3])
def test_a_camera_that_turns_teaches_its_focal_length(error: float) -> None:
    """K and poses together, from 30 % error; the depth is the true one."""
    camera = vector(focal=TRUE_FOCAL * (1 + error), square_pixels=True, fixed_center=True)
    assert learn(scene(*TURNING), camera) == pytest.approx(TRUE_FOCAL, rel=0.02)
    assert describe(camera).startswith("learned camera")


@pytest.mark.parametrize("zoom", [0.75, 1.3])
def test_from_images_zoomed_by_s_a_focal_length_s_times_as_long_is_learned(zoom: float) -> None:
    """The same street through another lens, from the focal length of the first one."""
    camera = vector(focal=TRUE_FOCAL, square_pixels=True, fixed_center=True)
    assert learn(scene(*TURNING, zoom=zoom), camera) / TRUE_FOCAL == pytest.approx(zoom, rel=0.02)


def test_to_a_camera_that_only_moves_on_all_focal_lengths_are_alike() -> None:
    """A translation that goes with a wrong K makes the loss what it was; after a turn, none does, nor another turn."""
    ways = torch.tensor([[-0.1, 0.0, -0.3], [0.1, 0.0, -0.6]])
    straight = scene((0, 0, 0, 0, 0), *((0, 0, *(-way).tolist()) for way in ways))  # type: ignore[arg-type]
    true = torch.tensor([[TRUE_FOCAL, TRUE_FOCAL * WIDTH / HEIGHT, 0.5, 0.5]])
    expected = photometric_loss(straight, true, rigid_transform(torch.eye(3).expand(2, 3, 3), ways)[None])
    camera = vector(focal=TRUE_FOCAL)
    for error in (0.7, 1.3):
        wrong = true * torch.tensor([error, error, 1, 1])
        made_up = ways * torch.tensor([1 / error, 1 / error, 1])  # K' t' = K t
        T_source_target = rigid_transform(torch.eye(3).expand(2, 3, 3), made_up)[None]
        torch.testing.assert_close(photometric_loss(straight, wrong, T_source_target), expected, rtol=1e-4, atol=0)
        camera.note_motion(T_source_target, wrong, WIDTH, HEIGHT)
    assert "cannot be told" in describe(camera)

    turning = scene((0, 0, 0, 0, 0), (0, 6, 0, 0, 0))
    angle = torch.tensor([[0.0, -np.radians(6.0), 0.0]], dtype=torch.float32)
    right = photometric_loss(turning, true, rigid_transform(so3_exp(angle), torch.zeros(1, 3))[None])
    for error in (0.7, 1.3):
        wrong = true * torch.tensor([error, error, 1, 1])
        others = [
            photometric_loss(turning, wrong, rigid_transform(so3_exp(angle * share), torch.zeros(1, 3))[None])
            for share in np.linspace(0.6, 1.6, 41)
        ]
        assert min(others) > 1.5 * right
