"""Colours of a batch at once, against torchvision's functional operations on one sample after another."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from training.data.colors import BRIGHTNESS, CONTRAST, HUE, SATURATION, ColorChange, change_colors, grayscale, turn_hue

ADJUSTMENTS = {
    BRIGHTNESS: reference.adjust_brightness,
    CONTRAST: reference.adjust_contrast,
    SATURATION: reference.adjust_saturation,
    HUE: reference.adjust_hue,
}
ORDERS = torch.tensor(list(permutations(range(4))))


def pictures(count: int, frames: int = 3) -> Tensor:
    """Noise in all colours, with greys, black and white among them, [count, frames, 3, 10, 12]."""
    images = torch.rand(count, frames, 3, 10, 12, generator=torch.Generator().manual_seed(1))
    images[..., 0, :] = images[..., :1, 0, :]
    images[..., 1, :4] = 0
    images[..., 1, 4:8] = 1
    return images


def one_after_another(images: Tensor, change: ColorChange) -> Tensor:
    changed = []
    for sample, factors, order in zip(images, change.factors.tolist(), change.order.tolist(), strict=True):
        frames = sample
        for operation in order:
            frames = ADJUSTMENTS[operation](frames, factors[operation])
        changed.append(frames)
    return torch.stack(changed)


@pytest.mark.parametrize("spread", [0.2, 0.5])
def test_every_order_of_operations_is_torchvisions(spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    factors = 1 + spread * (2 * torch.rand(len(ORDERS), 4, generator=generator) - 1)
    factors[:, HUE] -= 1
    change = ColorChange(factors, ORDERS)
    images = pictures(len(ORDERS))
    before = images.clone()
    changed = change_colors(images, change)
    torch.testing.assert_close(changed, one_after_another(images, change), rtol=0, atol=2e-5)
    assert torch.equal(images, before)
    assert changed.is_contiguous()


@pytest.mark.parametrize("operation", list(ADJUSTMENTS))
@pytest.mark.parametrize("factor", [0.0, 0.3])
def test_one_operation_alone(operation: int, factor: float) -> None:
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(2, 1)
    factors[:, operation] = torch.tensor([factor, -factor if operation == HUE else 1 + factor])
    change = ColorChange(factors, ORDERS[[0, -1]])
    images = pictures(2)
    expected = torch.stack(
        [ADJUSTMENTS[operation](i, f) for i, f in zip(images, factors[:, operation].tolist(), strict=True)]
    )
    torch.testing.assert_close(change_colors(images, change), expected, rtol=0, atol=2e-6)


def test_no_change_leaves_every_colour() -> None:
    change = ColorChange(torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(24, 1), ORDERS)
    images = pictures(24)
    torch.testing.assert_close(change_colors(images, change), images, rtol=0, atol=1e-6)


def test_a_third_of_the_circle_makes_red_green_and_a_whole_turn_nothing() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    turn = torch.tensor(1 / 3)
    green = turn_hue(red, turn)
    torch.testing.assert_close(green[:, 0, 0], torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-6)
    images = pictures(1)[0]
    for whole in (-1.0, 1.0):
        torch.testing.assert_close(turn_hue(images, torch.tensor(whole)), images, rtol=0, atol=2e-6)


def test_grey_is_torchvisions() -> None:
    images = pictures(2)
    torch.testing.assert_close(grayscale(images), reference.rgb_to_grayscale(images))
