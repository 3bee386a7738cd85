"""DenseDepth's losses against the definition in float64, window by window, on dense and on sparse depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from training.errors import DataError
from training.losses.inverse_depth import inverse_dissimilarity, inverse_gradient, inverse_l1, inverse_target
from training.losses.options import SupervisedLosses
from training.losses.supervision import supervised_terms

MIN_DEPTH, MAX_DEPTH = 0.8, 80.0
RANGE = MAX_DEPTH / MIN_DEPTH
DENSE_DEPTH = SupervisedLosses(0, 0, 0, inverse_l1=0.1, inverse_gradient=1.0, inverse_dissimilarity=1.0)


def maps(seed: int, rows: int = 14, columns: int = 19) -> Tensor:
    return 1 + 20 * torch.rand(2, 1, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sparse(share: float, like: Tensor) -> Tensor:
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(7)) < share


def similarity_by_windows(
    a: NDArray[np.float64], b: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wang et al. 2004 under an 11x11 Gaussian of sigma 1.5 over known pixels, and the known share of each window."""
    bell = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    gauss = np.outer(bell, bell) / bell.sum() ** 2
    similarity, share = np.zeros((2, a.shape[0] - 10, a.shape[1] - 10))
    for y, x in np.ndindex(similarity.shape):
        p, q, k = (values[y : y + 11, x : x + 11] for values in (a, b, known))
        share[y, x] = (gauss * k).sum()
        if not k.any():
            continue
        w = gauss * k / share[y, x]
        mp, mq = (w * p).sum(), (w * q).sum()
        vp, vq, cov = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum(), (w * (p - mp) * (q - mq)).sum()
        c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
        similarity[y, x] = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
    return similarity, share


@pytest.mark.parametrize("share", [1.0, 0.3, 0.02])
def test_dissimilarity_is_the_windowed_definition_over_known_pixels(share: float) -> None:
    a, b = maps(0), maps(1)
    known = sparse(share, a)
    total = weight = 0.0
    for p, q, k in zip(a.numpy(), b.numpy(), known.numpy(), strict=True):
        similarity, covered = similarity_by_windows(p[0], q[0], k[0])
        total += ((1 - similarity) / 2 * covered).sum()
        weight += covered.sum()
    assert float(inverse_dissimilarity(a, b, known, RANGE)) == pytest.approx(total / weight, rel=1e-9)
    in_float32 = inverse_dissimilarity(a.float(), b.float(), known, RANGE)
    assert float(in_float32) == pytest.approx(total / weight, rel=2e-3)


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_l1_and_gradients_by_hand(share: float) -> None:
    a, b = maps(2), maps(3)
    known = sparse(share, a)
    error, k = (a - b).numpy(), known.numpy()
    assert float(inverse_l1(a, b, known)) == pytest.approx(np.abs(error[k]).mean())
    down = np.abs(np.diff(error, axis=-2))[k[..., 1:, :] & k[..., :-1, :]]
    right = np.abs(np.diff(error, axis=-1))[k[..., 1:] & k[..., :-1]]
    assert float(inverse_gradient(a, b, known)) == pytest.approx(down.mean() + right.mean())


def test_target_is_the_mean_of_inverse_depth_where_it_is_known() -> None:
    depth = torch.tensor([[10.0, 0.0, 200.0, 0.4], [40.0, 0.0, 80.0, 0.8]])[None, None]
    target, known = inverse_target(depth, MIN_DEPTH, MAX_DEPTH, (1, 2))
    # 80/10 and 80/40; then 200 m counts as 80 m, 0.4 m as 0.8 m.
    torch.testing.assert_close(target, torch.tensor([[[[(8 + 2) / 2, (1 + 1 + 100 + 100) / 4]]]]))
    assert known.all()
    _, unknown = inverse_target(torch.zeros(1, 1, 4, 4), MIN_DEPTH, MAX_DEPTH, (2, 2))
    assert not unknown.any()


@given(st.floats(0.0, 1.0), st.integers(0, 50))
def test_the_truth_has_no_loss_and_anything_else_has_some(share: float, seed: int) -> None:
    inverse = maps(seed) / MAX_DEPTH
    depth = (1 / inverse).where(sparse(share, inverse), 0.0)
    exact = supervised_terms(inverse, depth, DENSE_DEPTH, min_depth=MIN_DEPTH, max_depth=MAX_DEPTH)
    assert all(float(term) == pytest.approx(0, abs=1e-4) for term in exact.values())
    wrong = supervised_terms(1.3 * inverse, depth, DENSE_DEPTH, min_depth=MIN_DEPTH, max_depth=MAX_DEPTH)
    assert (float(wrong["inverse_l1"]) > 0.02) == bool((depth > 0).any())


def test_unknown_depth_sends_no_gradient_and_known_depth_finite_ones() -> None:
    inverse = (maps(4) / MAX_DEPTH).float().requires_grad_()
    depth = torch.where(sparse(0.1, inverse), 20.0, 0.0)
    terms = supervised_terms(inverse, depth, DENSE_DEPTH, min_depth=MIN_DEPTH, max_depth=MAX_DEPTH)
    torch.stack([*terms.values()]).sum().backward()
    assert inverse.grad is not None
    assert inverse.grad.isfinite().all()
    assert (inverse.grad[depth == 0] == 0).all()
    assert (inverse.grad[depth > 0] != 0).all()


def test_weights_are_those_of_the_recipe_and_zero_leaves_a_term_out() -> None:
    inverse, depth = maps(5) / MAX_DEPTH, MAX_DEPTH / maps(6)
    every = SupervisedLosses(1, 1, 1, 1, 1, 1)
    unit = supervised_terms(inverse, depth, every, min_depth=MIN_DEPTH, max_depth=MAX_DEPTH)
    assert set(unit) == set(vars(every))
    given_weights = SupervisedLosses(2, 0, 0, 3, 0, 0.5)
    chosen = supervised_terms(inverse, depth, given_weights, min_depth=MIN_DEPTH, max_depth=MAX_DEPTH)
    assert {name: float(value / unit[name]) for name, value in chosen.items()} == pytest.approx(
        {"log_l1": 2, "inverse_l1": 3, "inverse_dissimilarity": 0.5}
    )
    with pytest.raises(DataError, match="one above 0"):
        SupervisedLosses(0, 0, 0)
    with pytest.raises(DataError, match="0 or more"):
        SupervisedLosses(inverse_l1=-0.1)


def test_half_resolution_is_compared_with_the_truth_of_its_pixels() -> None:
    full = maps(8, rows=24, columns=32)
    half = torch.nn.functional.avg_pool2d(full, 2) / MAX_DEPTH
    terms = supervised_terms(half, MAX_DEPTH / full, DENSE_DEPTH, min_depth=MIN_DEPTH, max_depth=MAX_DEPTH)
    assert all(float(term) == pytest.approx(0, abs=1e-9) for term in terms.values())
