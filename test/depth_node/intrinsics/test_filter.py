"""The filter over windows: consistency, dispersion, lenses with and without distortion, crops, forgetting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.intrinsics.bundle import Adjustment, CameraPrior
from depth_node.intrinsics.depth_errors import SIZES, DepthErrorModel, DepthEvidence
from depth_node.intrinsics.filter import CameraFilter, Evidence
from depth_node.intrinsics.tracks import Tracks

SIGMAS = np.array([0.3, 0.01, 0.02, 0.1, 0.03, 0.02])
NO_TRACKS = Tracks(
    np.empty((2, 0)), np.empty((0, 2, 0)), np.empty((0, 2, 2, 0)), np.empty(0), 0.0, np.empty(0), 640, 192
)


def evidence(truth: NDArray[np.float64], seed: int, *, stamp_s: float = 0.0, spread: float = 1.0) -> Evidence:
    """A window of a camera [6]; its errors are `spread` times as large as it claims."""
    rng = np.random.default_rng(seed)
    jacobian = rng.normal(size=(8, 6)) * [15, 60, 40, 20, 25, 60]
    information = jacobian.T @ jacobian
    error = jacobian.T @ rng.normal(0, spread, 8)
    adjustment = Adjustment(
        truth, np.empty((0, 3, 3)), np.empty((0, 3)), np.empty(0), np.empty(0),
        information, information @ truth + error, DepthEvidence.none(), 0.1, 1.0,
    )  # fmt: skip
    return Evidence(int(stamp_s * 1e9), float(truth[0]), DepthErrorModel(), NO_TRACKS, adjustment)


def camera(log_f: float = 0.0, cx: float = 0.0, k: float = 0.0, readout: float = 0.0) -> NDArray[np.float64]:
    return np.array([log_f, cx, 0.0, 0.0, k, readout])


def fresh(model_sigma: float = 0.0, memory_s: float = 1e9, k: float = 0.0, readout: float = 0.0) -> CameraFilter:
    return CameraFilter(CameraPrior(camera(k=k, readout=readout), np.diag(SIGMAS**-2)), model_sigma, memory_s)


def log_f_sigma(state: CameraFilter) -> float:
    return float(np.sqrt(state.posterior.covariance[0, 0]))


def test_sigma_is_of_the_focal_length_that_is_known_less() -> None:
    state = fresh()
    for window in range(5):
        state.add(evidence(camera(), window))
    to_axes = np.array([[1, 0, 0, 0.5, 0, 0], [1, 0, 0, -0.5, 0, 0]])
    axes = to_axes @ state.posterior.covariance @ to_axes.T
    assert state.posterior.sigma == pytest.approx(np.sqrt(np.diag(axes).max()))
    assert state.posterior.sigma > 1.01 * log_f_sigma(state)


def test_without_windows_it_is_the_prior() -> None:
    np.testing.assert_allclose(fresh().posterior.covariance, np.diag(SIGMAS**2))
    np.testing.assert_array_equal(fresh().posterior.mean, camera())


@pytest.mark.parametrize(("spread", "covered"), [(1.0, 0.9), (2.0, 0.75)])
def test_normalized_errors_are_consistent(spread: float, covered: float) -> None:
    """NEES: error^T covariance^-1 error is chi-squared of 6 degrees of freedom; nearly so if windows claim too much."""
    errors = []
    for run in range(60):
        truth = np.random.default_rng(run).normal(0, SIGMAS)
        state = fresh()
        for window in range(15):
            state.add(evidence(truth, 100 * run + window, spread=spread))
        deviation = state.posterior.mean - truth
        errors.append(deviation @ np.linalg.solve(state.posterior.covariance, deviation))
    # 60 runs: the mean of exact ones is within 5.1 .. 6.9 in 95 of 100 cases. The dispersion that is expected before
    # there are windows makes it smaller, or larger where it expects too little.
    assert 2.0 < np.mean(errors) < 8 * spread
    assert np.mean(np.array(errors) < 12.59) >= covered


def test_dispersion_tells_that_windows_claim_too_much() -> None:
    honest, boastful = fresh(), fresh()
    for window in range(30):
        honest.add(evidence(camera(), window))
        boastful.add(evidence(camera(), window, spread=3.0))
    assert honest.posterior.dispersion < 2
    assert boastful.posterior.dispersion > 3
    assert boastful.posterior.sigma > 1.4 * honest.posterior.sigma


def test_a_lens_is_taken_to_be_without_distortion_unless_windows_say_otherwise() -> None:
    """Few windows tell little of k; but by how much that makes f uncertain stays in sigma."""
    state = fresh()
    state.add(evidence(camera(), 0, spread=2.0))
    posterior = state.posterior
    total = evidence(camera(), 0, spread=2.0).adjustment
    information = np.diag(SIGMAS**-2) + total.information / posterior.dispersion
    free = np.linalg.solve(information, total.vector / posterior.dispersion)
    assert abs(posterior.distortion) < 0.6 * abs(free[4])
    assert posterior.distortion_sigma >= 0.99 * np.sqrt(np.linalg.inv(information)[4, 4])


@pytest.mark.parametrize("k", [-0.2, -0.05, 0.04])
def test_a_distorted_lens_is_learned(k: float) -> None:
    state = fresh()
    for window in range(40):
        state.add(evidence(camera(0.1, k=k), window))
    assert abs(state.posterior.distortion - k) < 3 * state.posterior.distortion_sigma
    assert state.posterior.distortion_sigma < 0.01
    assert state.posterior.mean[0] == pytest.approx(0.1, abs=0.02)


def test_a_lens_that_is_known_to_distort_stays_so_without_windows() -> None:
    assert fresh(k=-0.1).posterior.distortion == pytest.approx(-0.1)


@pytest.mark.parametrize("readout", [0.03, -0.01])
def test_a_rolling_shutter_is_learned(readout: float) -> None:
    state = fresh()
    for window in range(40):
        state.add(evidence(camera(0.1, readout=readout), window))
    assert abs(state.posterior.readout - readout) < 3 * state.posterior.readout_sigma
    assert state.posterior.readout_sigma < 0.01
    assert state.posterior.mean[0] == pytest.approx(0.1, abs=0.02)


def test_a_shutter_is_taken_to_be_global_unless_windows_say_otherwise() -> None:
    state = fresh()
    for window in range(5):
        state.add(evidence(camera(), window))
    posterior = state.posterior
    assert abs(posterior.readout) < posterior.readout_sigma
    assert fresh(readout=0.02).posterior.readout == pytest.approx(0.02)  # but for one that is known to roll


def test_the_middle_of_a_crop_is_learned_where_an_ordinary_one_is_expected() -> None:
    """11 standard deviations from the middle: a normal prior would keep a part of that, one with heavy tails hardly."""
    state = fresh()
    for window in range(10):
        state.add(evidence(camera(cx=0.11), window))
    assert state.posterior.mean[1] == pytest.approx(0.11, abs=0.004)


def test_what_all_windows_have_in_common_does_not_average_out() -> None:
    state = fresh(model_sigma=0.02)
    assert log_f_sigma(state) == pytest.approx(0.3)
    for window in range(40):
        state.add(evidence(camera(), window))
    assert log_f_sigma(state) == pytest.approx(0.02, rel=0.2)


def test_one_false_window_counts_little() -> None:
    state = fresh()
    for window in range(10):
        state.add(evidence(camera(), window))
    before = state.posterior.mean[0]
    state.add(evidence(camera(0.5), 11))
    assert abs(state.posterior.mean[0] - before) < 0.02
    assert state.deviation(evidence(camera(0.5), 12).adjustment) > 4
    assert state.deviation(evidence(camera(), 13).adjustment) < 4


def test_old_windows_fade_and_retire() -> None:
    state = fresh(memory_s=10.0)
    for window in range(60):
        state.add(evidence(camera(0.2), window, stamp_s=window / 10))
    assert len(state.evidence) == 40
    assert state.posterior.mean[0] == pytest.approx(0.2, abs=0.03)
    settled = state.posterior.sigma
    state.add(evidence(camera(), 99, stamp_s=200.0))
    assert state.posterior.sigma > 3 * settled


@pytest.mark.parametrize("pause_s", [8 * 3600.0, 56 * 365 * 86400.0, -3600.0])
def test_a_pause_forgets_nothing(pause_s: float) -> None:
    """Parked over night; started in 1970, until the clock is set; and set back."""
    state = fresh(memory_s=1800.0)
    for window in range(60):
        state.add(evidence(camera(0.2), window, stamp_s=window / 10))
    settled = state.posterior.sigma
    state.add(evidence(camera(0.2), 99, stamp_s=6 + pause_s))
    assert state.posterior.sigma < 1.05 * settled
    assert state.posterior.mean[0] == pytest.approx(0.2, abs=0.03)


def test_windows_of_another_focal_length_are_outdated() -> None:
    state = fresh()
    first = evidence(camera(), 0, spread=0.0)
    state.add(Evidence(0, 0.3, DepthErrorModel(), NO_TRACKS, first.adjustment))
    state.add(evidence(camera(), 1, spread=0.0))
    assert state.outdated(DepthErrorModel()) == 0
    state.replace(0, first.adjustment, DepthErrorModel())
    assert state.outdated(DepthErrorModel()) is None


@pytest.mark.parametrize("errors", [DepthErrorModel(smooth_size=0.3), DepthErrorModel(point_size=0.3)])
def test_windows_of_other_errors_of_depth_are_outdated(errors: DepthErrorModel) -> None:
    state = fresh()
    state.add(evidence(camera(), 0, spread=0.0))
    assert state.outdated(DepthErrorModel(smooth_size=0.9, point_size=0.9)) is None
    assert state.outdated(errors) == 0
    state.replace(0, evidence(camera(), 0, spread=0.0).adjustment, errors)
    assert state.outdated(errors) is None


def test_what_windows_say_of_depth_is_added_up() -> None:
    state, ramp = fresh(), np.arange(len(SIZES), dtype=float)
    for window in range(3):
        found = evidence(camera(), window)
        says = replace(found.adjustment, depth=DepthEvidence(ramp, -2 * ramp))
        state.add(replace(found, adjustment=says))
    np.testing.assert_allclose(state.depth_evidence.smooth, 3 * ramp)
    np.testing.assert_allclose(state.depth_evidence.point, -6 * ramp)


def test_a_windows_prior_is_wide_in_the_focal_length_alone() -> None:
    state = fresh()
    for window in range(20):
        state.add(evidence(camera(), window))
    covariance = np.linalg.inv(state.window_prior().information)
    assert np.sqrt(covariance[0, 0]) == pytest.approx(0.2)
    assert covariance[1, 1] == pytest.approx(state.posterior.covariance[1, 1])
