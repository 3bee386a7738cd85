"""Augmentation: a mirrored batch is a batch of a mirrored world; colours change only what the networks see."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from training.data.augmentation import Augmentation
from training.data.sample import Batch, clean_views

NOTHING = Augmentation(flip=0.0, jitter=0.0, grayscale=0.0)


def make_batch(size: int = 3, sources: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def pixels(*shape: int) -> Tensor:
        return torch.randint(60, 180, shape, generator=generator, dtype=torch.uint8)

    T = torch.eye(4).repeat(size, sources, 1, 1)
    T[..., :3, 3] = torch.randn(size, sources, 3, generator=generator)
    return Batch(
        image=pixels(size, 3, 12, 20),
        sources=pixels(size, sources, 3, 12, 20),
        intrinsics=torch.tensor([[0.6, 1.9, 0.45, 0.5]]).repeat(size, 1),
        depth=5 + 50 * torch.rand(size, 1, 12, 20, generator=generator),
        T_source_target=T,
        names=tuple(f"drive/{i}" for i in range(size)),
    )


def test_probability_zero_changes_nothing() -> None:
    batch = make_batch()
    views, clean = NOTHING(batch), clean_views(batch)
    assert views.depth is not None
    assert clean.depth is not None
    assert views.T_source_target is not None
    assert clean.T_source_target is not None
    for got, expected in (
        (views.image, clean.image),
        (views.network_image, clean.image),
        (views.network_sources, clean.sources),
        (views.intrinsics, batch.intrinsics),
        (views.depth, clean.depth),
        (views.T_source_target, clean.T_source_target),
    ):
        assert torch.equal(got, expected)
    assert clean.image.max() <= 1
    torch.testing.assert_close(clean.image * 255, batch.image.float())


def test_probability_one_mirrors_every_field_of_every_sample() -> None:
    batch = make_batch()
    views = replace(NOTHING, flip=1.0)(batch)
    assert torch.equal(views.image, batch.image.float().flip(-1) / 255)
    assert torch.equal(views.sources, batch.sources.float().flip(-1) / 255)
    assert torch.equal(views.network_sources, views.sources)
    assert views.depth is not None
    assert batch.depth is not None
    assert torch.equal(views.depth, batch.depth.flip(-1))
    with_masks = replace(batch, instances=batch.image[:, :1])
    mirrored = replace(NOTHING, flip=1.0)(with_masks).instances
    assert mirrored is not None
    assert torch.equal(mirrored, batch.image[:, :1].flip(-1))
    torch.testing.assert_close(views.intrinsics, torch.tensor([[0.6, 1.9, 0.55, 0.5]]).repeat(3, 1))


def test_a_sample_is_mirrored_as_a_whole_or_not_at_all() -> None:
    torch.manual_seed(0)
    batch = make_batch(size=24)
    views = replace(NOTHING, flip=0.5)(batch)
    assert views.depth is not None
    assert batch.depth is not None
    flipped = views.intrinsics[:, 2] > 0.5
    assert 4 < flipped.sum() < 20
    for i, mirrored in enumerate(flipped.tolist()):
        for got, original in (
            (views.image[i], batch.image[i] / 255),
            (views.sources[i], batch.sources[i] / 255),
            (views.depth[i], batch.depth[i]),
        ):
            assert torch.equal(got, original.flip(-1) if mirrored else original)


numbers = st.floats(-1.0, 1.0)


@given(
    rotation=st.tuples(numbers, numbers, numbers),
    translation=st.tuples(numbers, numbers, numbers),
    point=st.tuples(st.floats(-3, 3), st.floats(-2, 2), st.floats(4, 30)),
    intrinsics=st.tuples(st.floats(0.4, 1.2), st.floats(0.8, 2.5), st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
)
def test_a_mirrored_point_lands_on_the_mirrored_pixel_of_target_and_source(
    rotation: tuple[float, ...], translation: tuple[float, ...], point: tuple[float, ...], intrinsics: tuple[float, ...]
) -> None:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(np.multiply(rotation, 0.3)).as_matrix()
    T[:3, 3] = translation
    batch = Batch(
        image=torch.zeros(1, 3, 4, 6, dtype=torch.uint8),
        sources=torch.zeros(1, 1, 3, 4, 6, dtype=torch.uint8),
        intrinsics=torch.tensor([intrinsics], dtype=torch.float64),
        depth=None,
        T_source_target=torch.from_numpy(T)[None, None],
        names=("drive/0",),
    )
    views = replace(NOTHING, flip=1.0)(batch)
    assert views.depth is None
    assert views.T_source_target is not None
    mirrored_T = views.T_source_target[0, 0].numpy()

    def project(fx: float, fy: float, cx: float, cy: float, x: np.ndarray) -> np.ndarray:
        """Shares of the image's width and height, 0 at its edge."""
        return np.array([fx * x[0] / x[2] + cx, fy * x[1] / x[2] + cy])

    mirrored = np.multiply(point, (-1, 1, 1))
    for before, after in (
        (np.array(point), mirrored),
        (T[:3, :3] @ point + T[:3, 3], mirrored_T[:3, :3] @ mirrored + mirrored_T[:3, 3]),
    ):
        u, v = project(*intrinsics, before)
        np.testing.assert_allclose(project(*views.intrinsics[0].tolist(), after), [1 - u, v], atol=1e-9)


def test_one_draw_of_colours_for_a_target_and_its_sources() -> None:
    torch.manual_seed(0)
    batch = make_batch(size=4)
    same = replace(batch, sources=batch.image[:, None].repeat(1, 2, 1, 1, 1))
    views = Augmentation(flip=0.0, jitter=1.0, grayscale=0.5)(same)
    assert torch.equal(views.network_sources, views.network_image[:, None].expand(-1, 2, -1, -1, -1))
    assert torch.equal(views.image, same.image / 255)
    assert torch.equal(views.sources, same.sources / 255)


def test_each_sample_has_a_draw_of_its_own() -> None:
    torch.manual_seed(0)
    batch = make_batch(size=4)
    same = replace(batch, image=batch.image[:1].repeat(4, 1, 1, 1))
    brightness = Augmentation(flip=0.0, jitter=1.0, brightness=0.2, contrast=0.0, saturation=0.0, hue=0.0)
    views = brightness(same)
    factors = views.network_image / views.image
    for factor in factors:
        torch.testing.assert_close(factor, factor[0, 0, 0].expand_as(factor), rtol=1e-4, atol=0)
    drawn = factors[:, 0, 0, 0]
    assert ((drawn - 1).abs() <= 0.2).all()
    assert len(drawn.unique()) == 4


@pytest.mark.parametrize(("jitter", "changed"), [(0.0, 0), (0.5, 32), (1.0, 64)])
def test_share_of_samples_with_changed_colours(jitter: float, changed: int) -> None:
    torch.manual_seed(0)
    views = Augmentation(flip=0.0, jitter=jitter)(make_batch(size=64, sources=0))
    assert views.network_sources.shape == (64, 0, 3, 12, 20)
    count = (views.network_image != views.image).flatten(1).any(1).sum().item()
    assert count == pytest.approx(changed, abs=12 if 0 < jitter < 1 else 0)


def test_grayscale_is_for_the_networks_only() -> None:
    views = Augmentation(flip=0.0, jitter=0.0, grayscale=1.0)(make_batch())
    torch.testing.assert_close(views.network_image, views.network_image[:, :1].expand(-1, 3, -1, -1))
    assert not torch.equal(views.image[:, 0], views.image[:, 1])


def test_permuted_channels_are_those_of_target_and_sources_alike_and_for_the_networks_only() -> None:
    batch = make_batch(size=600)
    torch.manual_seed(0)
    views = Augmentation(flip=0.0, jitter=0.0, channel_permutation=0.25)(batch)
    clean = clean_views(batch)
    assert torch.equal(views.image, clean.image)
    permutations = list(itertools.permutations(range(3)))
    matches = torch.stack([(views.network_image == clean.image[:, p]).flatten(1).all(1) for p in permutations], dim=1)
    assert (matches.sum(1) == 1).all()
    chosen = matches.int().argmax(1)
    for i in (0, *range(590, 600)):
        assert torch.equal(views.network_sources[i], clean.sources[i][:, permutations[chosen[i]]])
    counts = chosen.bincount(minlength=6)
    # A quarter is drawn for, and a sixth of that stays as it was.
    assert counts[0] == pytest.approx(600 * (1 - 0.25 * 5 / 6), abs=40)
    assert (counts[1:] > 600 * 0.25 / 6 / 3).all()


def test_draws_are_torchvisions_and_reach_their_limits() -> None:
    """ColorJitter: factors uniform in 1 - x to 1 + x, never negative; hue in -x to x; every order equally often."""
    torch.manual_seed(0)
    draws = Augmentation(brightness=0.2, contrast=1.5, saturation=0.0, hue=0.1).draw(4000)
    low, high = draws.colors.factors.amin(0), draws.colors.factors.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.8, 0.0, 1.0, -0.1]), rtol=0, atol=2e-3)
    torch.testing.assert_close(high, torch.tensor([1.2, 2.5, 1.0, 0.1]), rtol=0, atol=2e-3)
    torch.testing.assert_close(draws.colors.factors.mean(0), (low + high) / 2, rtol=0, atol=0.05)
    orders, counts = draws.colors.order.unique(dim=0, return_counts=True)
    assert len(orders) == 24
    assert counts.min() > 4000 / 24 / 2


def test_the_seed_says_what_is_drawn() -> None:
    def augmented(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return Augmentation(jitter=1.0)(make_batch()).network_image

    assert torch.equal(augmented(3), augmented(3))
    assert not torch.equal(augmented(3), augmented(4))
