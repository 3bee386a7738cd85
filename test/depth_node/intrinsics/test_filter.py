"""The filter over windows: consistency, dispersion, distortion that is considered, forgetting."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.intrinsics.bundle import Adjustment, CameraPrior, Tracks
from depth_node.intrinsics.filter import CameraFilter, Evidence

SIGMAS = np.array([0.3, 0.01, 0.02, 0.1])
NO_TRACKS = Tracks(np.empty((2, 0)), np.empty((0, 2, 0)), np.empty(0), 640, 192)


def evidence(
    truth: NDArray[np.float64], seed: int, *, stamp_s: float = 0.0, k: float = 0.0, spread: float = 1.0
) -> Evidence:
    """A window of a camera [4] and a lens k; its errors are `spread` times as large as it claims."""
    rng = np.random.default_rng(seed)
    jacobian = rng.normal(size=(7, 5)) * [15, 60, 40, 20, 25]
    information = jacobian.T @ jacobian
    error = jacobian.T @ rng.normal(0, spread, 7)
    adjustment = Adjustment(
        truth, np.empty((0, 3, 3)), np.empty((0, 3)), np.empty(0), np.empty(0),
        information, information @ np.append(truth, k) + error, 0.1, 1.0,
    )  # fmt: skip
    return Evidence(int(stamp_s * 1e9), float(truth[0]), NO_TRACKS, adjustment)


def fresh(distortion_sigma: float = 0.0, model_sigma: float = 0.0, memory_s: float = 1e9) -> CameraFilter:
    prior = CameraPrior(np.zeros(4), np.diag(SIGMAS**-2))
    return CameraFilter(prior, distortion_sigma, model_sigma, memory_s)


def log_f_sigma(state: CameraFilter) -> float:
    return float(np.sqrt(state.posterior.covariance[0, 0]))


def test_sigma_is_of_the_focal_length_that_is_known_less() -> None:
    state = fresh()
    for window in range(5):
        state.add(evidence(np.zeros(4), window))
    to_axes = np.array([[1, 0, 0, 0.5], [1, 0, 0, -0.5]])
    axes = to_axes @ state.posterior.covariance @ to_axes.T
    assert state.posterior.sigma == pytest.approx(np.sqrt(np.diag(axes).max()))
    assert state.posterior.sigma > 1.01 * log_f_sigma(state)


def test_without_windows_it_is_the_prior() -> None:
    np.testing.assert_allclose(fresh().posterior.covariance, np.diag(SIGMAS**2))
    np.testing.assert_array_equal(fresh().posterior.mean, np.zeros(4))


@pytest.mark.parametrize(("spread", "covered"), [(1.0, 0.9), (2.0, 0.75)])
def test_normalized_errors_are_consistent(spread: float, covered: float) -> None:
    """NEES: error^T covariance^-1 error is chi-squared of 4 degrees of freedom; nearly so if windows claim too much."""
    errors = []
    for run in range(60):
        truth = np.random.default_rng(run).normal(0, SIGMAS)
        state = fresh()
        for window in range(15):
            state.add(evidence(truth, 100 * run + window, spread=spread))
        deviation = state.posterior.mean - truth
        errors.append(deviation @ np.linalg.solve(state.posterior.covariance, deviation))
    # 60 runs: the mean of exact ones is within 3.3 .. 4.7 in 95 of 100 cases. The dispersion that is expected before
    # there are windows makes it smaller, or larger where it expects too little.
    assert 1.7 < np.mean(errors) < 6 * spread
    assert np.mean(np.array(errors) < 9.49) >= covered


def test_dispersion_tells_that_windows_claim_too_much() -> None:
    honest, boastful = fresh(), fresh()
    for window in range(30):
        honest.add(evidence(np.zeros(4), window))
        boastful.add(evidence(np.zeros(4), window, spread=3.0))
    assert honest.posterior.dispersion < 2
    assert boastful.posterior.dispersion > 3
    assert boastful.posterior.sigma > 1.4 * honest.posterior.sigma


def test_what_the_lens_may_be_does_not_average_out() -> None:
    known, considered = fresh(), fresh(distortion_sigma=0.02)
    for window in range(40):
        sample = evidence(np.zeros(4), 7 + window % 2, spread=0.0)
        known.add(sample)
        considered.add(sample)
    information = sum(20 * evidence(np.zeros(4), 7 + window).adjustment.information for window in range(2))
    by_distortion = np.linalg.solve(information[:4, :4] + np.diag(SIGMAS**-2), information[:4, 4])[0]
    expected = np.hypot(log_f_sigma(known), 0.02 * by_distortion)
    assert log_f_sigma(considered) == pytest.approx(expected, rel=1e-2)


def test_what_all_windows_have_in_common_does_not_average_out() -> None:
    state = fresh(model_sigma=0.02)
    assert log_f_sigma(state) == pytest.approx(0.3)
    for window in range(40):
        state.add(evidence(np.zeros(4), window))
    assert log_f_sigma(state) == pytest.approx(0.02, rel=0.2)


def test_a_distorted_lens_is_inside_of_what_is_stated() -> None:
    state = fresh(distortion_sigma=0.02)
    for window in range(40):
        state.add(evidence(np.zeros(4), window, k=0.02))
    assert abs(state.posterior.mean[0]) < 2 * state.posterior.sigma


def test_one_false_window_counts_little() -> None:
    state = fresh()
    for window in range(10):
        state.add(evidence(np.zeros(4), window))
    before = state.posterior.mean[0]
    state.add(evidence(np.array([0.5, 0, 0, 0]), 11))
    assert abs(state.posterior.mean[0] - before) < 0.02
    assert state.deviation(evidence(np.array([0.5, 0, 0, 0]), 12).adjustment) > 4
    assert state.deviation(evidence(np.zeros(4), 13).adjustment) < 4


def test_old_windows_fade_and_retire() -> None:
    state = fresh(memory_s=10.0)
    for window in range(60):
        state.add(evidence(np.array([0.2, 0, 0, 0]), window, stamp_s=window / 10))
    assert len(state.evidence) == 40
    assert state.posterior.mean[0] == pytest.approx(0.2, abs=0.03)
    settled = state.posterior.sigma
    state.add(evidence(np.zeros(4), 99, stamp_s=200.0))
    assert state.posterior.sigma > 3 * settled


@pytest.mark.parametrize("pause_s", [8 * 3600.0, 56 * 365 * 86400.0, -3600.0])
def test_a_pause_forgets_nothing(pause_s: float) -> None:
    """Parked over night; started in 1970, until the clock is set; and set back."""
    state = fresh(memory_s=1800.0)
    for window in range(60):
        state.add(evidence(np.array([0.2, 0, 0, 0]), window, stamp_s=window / 10))
    settled = state.posterior.sigma
    state.add(evidence(np.array([0.2, 0, 0, 0]), 99, stamp_s=6 + pause_s))
    assert state.posterior.sigma < 1.05 * settled
    assert state.posterior.mean[0] == pytest.approx(0.2, abs=0.03)


def test_windows_of_another_focal_length_are_outdated() -> None:
    state = fresh()
    first = evidence(np.zeros(4), 0)
    state.add(Evidence(0, 0.3, NO_TRACKS, first.adjustment))
    state.add(evidence(np.zeros(4), 1))
    assert state.outdated(0.05) == 0
    state.replace(0, first.adjustment)
    assert state.outdated(0.05) is None


def test_a_windows_prior_is_wide_in_the_focal_length_alone() -> None:
    state = fresh()
    for window in range(20):
        state.add(evidence(np.zeros(4), window))
    covariance = np.linalg.inv(state.window_prior().information)
    assert np.sqrt(covariance[0, 0]) == pytest.approx(0.2)
    assert covariance[1, 1] == pytest.approx(state.posterior.covariance[1, 1])
