"""Reprojection loss on a textured wall that a camera passes sideways, two pixels a frame: every answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from training.data.augmentation import Augmentation
from training.data.sample import Batch, Views, clean_views
from training.losses.options import SelfSupervisedLosses
from training.losses.photometric import photometric_error
from training.losses.reprojection import ReprojectionDiagnostics, photometric_reprojection_loss
from training.losses.smoothness import edge_aware_smoothness

HEIGHT, WIDTH, SHIFT = 16, 24, 2
MIN_DEPTH, MAX_DEPTH, WALL = 0.5, 50.0, 4.0
INTRINSICS = torch.tensor([[1.0, 1.5, 0.46, 0.55]])  # focal length of 24 pixels
STEP = SHIFT * WALL / 24  # metres, moves the wall by two pixels


def sigmoid_of(depth: float) -> float:
    return (1 / depth - 1 / MAX_DEPTH) / (1 / MIN_DEPTH - 1 / MAX_DEPTH)


def disparity_of(depth: float, scale: int = 0) -> Tensor:
    return torch.full((1, 1, HEIGHT >> scale, WIDTH >> scale), sigmoid_of(depth))


def wall_texture() -> Tensor:
    """Coarse enough that neighbouring frames overlap in appearance, fine enough to tell two pixels."""
    noise = torch.rand(1, 3, HEIGHT // 2, WIDTH // 2 + 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, scale_factor=2.0, mode="bilinear", align_corners=False)


def translations(*metres: float) -> Tensor:
    poses = torch.eye(4).repeat(1, len(metres), 1, 1)
    poses[0, :, 0, 3] = torch.tensor(metres)
    return poses


@pytest.fixture
def passing() -> dict[str, Any]:
    """The wall seen from the target, and from one frame earlier and later."""
    wall = wall_texture()
    at = {k: wall[..., 4 + k : 4 + k + WIDTH] for k in (-SHIFT, 0, SHIFT)}
    return {
        "image": at[0],
        # A camera further right sees the wall further left: x_source = x_target - SHIFT.
        "sources": torch.stack([at[-SHIFT], at[SHIFT]], dim=1),
        "intrinsics": INTRINSICS,
        "T_source_target": translations(STEP, -STEP),
        "min_depth": MIN_DEPTH,
        "max_depth": MAX_DEPTH,
    }


def evaluated(
    disparities: Sequence[Tensor], scene: dict[str, Any], **options: Any
) -> tuple[Tensor, ReprojectionDiagnostics]:
    return photometric_reprojection_loss(disparities, **scene, options=SelfSupervisedLosses(**options))


def loss_of(disparity: Tensor, scene: dict[str, Any], **options: Any) -> float:
    return float(evaluated([disparity], scene, **options)[0])


def test_true_depth_explains_every_pixel_through_one_of_the_sources(passing: dict[str, Any]) -> None:
    loss, diagnostics = evaluated([disparity_of(WALL)], passing)
    finest = diagnostics.finest
    torch.testing.assert_close(finest.depth, torch.full_like(finest.depth, WALL))
    # Windows of SSIM at the border see repeated pixels; all others are exact.
    assert finest.error[..., SHIFT + 1 : -SHIFT - 1].max() < 1e-5
    torch.testing.assert_close(finest.warped[:, 0, ..., :-SHIFT], passing["image"][..., :-SHIFT], atol=1e-4, rtol=0)
    assert finest.mask[..., SHIFT + 1 : -SHIFT - 1].all()
    assert loss < 0.01


@pytest.mark.parametrize("wrong", [3.0, 3.6, 4.4, 6.0])
def test_true_depth_has_the_least_loss_and_the_gradient_points_to_it(passing: dict[str, Any], wrong: float) -> None:
    assert loss_of(disparity_of(wrong), passing) > loss_of(disparity_of(WALL), passing) + 0.005
    disparity = disparity_of(wrong).requires_grad_()
    evaluated([disparity], passing)[0].backward()
    assert disparity.grad is not None
    assert torch.sign(disparity.grad.sum()) == (1 if wrong < WALL else -1)


def test_automask_of_a_static_pair_leaves_nothing_to_train(passing: dict[str, Any]) -> None:
    static = passing | {"sources": passing["image"].unsqueeze(1).repeat(1, 2, 1, 1, 1)}
    disparity = disparity_of(WALL).requires_grad_()
    loss, diagnostics = evaluated([disparity], static, smoothness=0.0)
    loss.backward()
    assert not diagnostics.finest.mask.any()
    assert disparity.grad is not None
    assert disparity.grad.abs().max() == 0
    assert loss.item() == pytest.approx(0, abs=1e-6)

    _, unmasked = evaluated([disparity], static, smoothness=0.0, automask=False)
    assert unmasked.finest.mask[..., SHIFT:-SHIFT].all()
    assert unmasked.photometric > 0.05


def test_automask_breaks_ties_of_textureless_frames(passing: dict[str, Any]) -> None:
    gray = {"image": torch.full_like(passing["image"], 0.5), "sources": torch.full_like(passing["sources"], 0.5)}
    torch.manual_seed(0)
    _, diagnostics = evaluated([disparity_of(WALL)], passing | gray)
    assert 0.3 < diagnostics.finest.mask.float().mean() < 0.7


def test_automask_takes_out_an_object_that_moves_with_the_camera(passing: dict[str, Any]) -> None:
    car = (..., slice(4, 12), slice(8, 16))
    color = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    image, sources = passing["image"].clone(), passing["sources"].clone()
    image[car], sources[car] = color, color.unsqueeze(1)
    _, diagnostics = evaluated([disparity_of(WALL)], passing | {"image": image, "sources": sources})
    mask = diagnostics.finest.mask[0, 0]
    assert not mask[5:11, 9:15].any()
    assert mask[:, 3:5].all()
    assert mask[:, 19:21].all()


def test_minimum_ignores_a_source_in_which_the_target_is_hidden(passing: dict[str, Any]) -> None:
    sources = passing["sources"].clone()
    sources[:, 1, ..., 6:14] = 0.0
    hidden = passing | {"sources": sources}
    inner = (..., slice(SHIFT + 1, -SHIFT - 1))
    errors = {
        minimum: evaluated([disparity_of(WALL)], hidden, minimum_reprojection=minimum)[1].finest.error[inner]
        for minimum in (True, False)
    }
    assert errors[True].max() < 1e-5
    assert errors[False].max() > 0.1


def test_mean_over_sources_counts_only_those_that_see_the_pixel(passing: dict[str, Any]) -> None:
    _, diagnostics = evaluated([disparity_of(WALL)], passing, minimum_reprojection=False)
    errors = photometric_error(diagnostics.finest.warped, passing["image"].unsqueeze(1))
    # The earlier source sees all but the last columns, the later one all but the first.
    torch.testing.assert_close(diagnostics.finest.error[..., :SHIFT], errors[:, 0, ..., :SHIFT])
    torch.testing.assert_close(diagnostics.finest.error[..., -SHIFT:], errors[:, 1, ..., -SHIFT:])
    inner = (..., slice(SHIFT + 1, -SHIFT - 1))  # at SHIFT itself, rounding decides whether a source sees the pixel
    torch.testing.assert_close(diagnostics.finest.error[inner], errors.mean(1)[inner])


@pytest.mark.parametrize("automask", [True, False])
def test_pixels_that_no_source_sees_do_not_train(passing: dict[str, Any], automask: bool) -> None:
    single = {"sources": passing["sources"][:, :1], "T_source_target": passing["T_source_target"][:, :1]}
    disparity = disparity_of(WALL + 0.1).requires_grad_()
    loss, diagnostics = evaluated([disparity], passing | single, smoothness=0.0, automask=automask)
    loss.backward()
    assert disparity.grad is not None
    assert not diagnostics.finest.mask[..., -SHIFT:].any()
    assert disparity.grad[..., -1].abs().max() == 0
    assert disparity.grad[..., :-4].abs().max() > 0
    identity = photometric_error(passing["sources"][:, 0], passing["image"])
    mask, error = diagnostics.finest.mask, diagnostics.finest.error
    assert loss.item() == pytest.approx(torch.where(mask, error, identity).mean().item())


def test_scales_are_upsampled_and_averaged_and_smoothness_halves_with_each(passing: dict[str, Any]) -> None:
    constant = [disparity_of(3.0, scale) for scale in range(3)]
    torch.manual_seed(0)
    expected = loss_of(constant[0], passing, automask=False)
    assert float(evaluated(constant, passing, automask=False)[0]) == pytest.approx(expected)

    rough = [torch.rand(1, 1, HEIGHT >> s, WIDTH >> s, generator=torch.Generator().manual_seed(s)) for s in range(2)]
    _, diagnostics = evaluated(rough, passing, smoothness=0.8)
    half_image = torch.nn.functional.avg_pool2d(passing["image"], 2)
    terms = [edge_aware_smoothness(rough[0], passing["image"]), 0.5 * edge_aware_smoothness(rough[1], half_image)]
    torch.testing.assert_close(diagnostics.smoothness, 0.8 * (terms[0] + terms[1]) / 2)


def test_mirrored_batches_have_the_same_loss(passing: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    pose = translations(STEP, -0.7 * STEP)
    pose[0, :, 1:3, 3] = 0.1
    batch = Batch(
        (passing["image"] * 255).byte(), (passing["sources"] * 255).byte(), INTRINSICS, None, pose, names=("wall",)
    )
    disparity = torch.rand(1, 1, HEIGHT, WIDTH, generator=generator)

    def loss(views: Views, disparity: Tensor) -> Tensor:
        assert views.T_source_target is not None
        scene = {
            "image": views.image,
            "sources": views.sources,
            "intrinsics": views.intrinsics,
            "T_source_target": views.T_source_target,
            "min_depth": MIN_DEPTH,
            "max_depth": MAX_DEPTH,
        }
        return evaluated([disparity], scene, automask=False)[0]

    mirrored = Augmentation(flip=1.0, jitter=0.0)(batch)
    assert not torch.equal(mirrored.image, clean_views(batch).image)
    torch.testing.assert_close(loss(mirrored, disparity.flip(-1)), loss(clean_views(batch), disparity))


def test_mixed_precision_does_not_reach_the_pixel_coordinates(passing: dict[str, Any]) -> None:
    coarse = disparity_of(3.0).bfloat16()
    expected = loss_of(coarse.float(), passing, automask=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss_of(coarse, passing, automask=False) == expected


def test_gradients_stay_finite_when_points_fall_behind_the_source(passing: dict[str, Any]) -> None:
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, :, 2, 3] = torch.tensor([-WALL, -2 * WALL])
    poses.requires_grad_()
    disparity = disparity_of(WALL).requires_grad_()
    evaluated([disparity], passing | {"T_source_target": poses})[0].backward()
    assert disparity.grad is not None
    assert poses.grad is not None
    assert disparity.grad.isfinite().all()
    assert poses.grad.isfinite().all()
