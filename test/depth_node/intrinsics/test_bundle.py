"""Bundle adjustment of windows, on simulated tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from depth_node.intrinsics.bundle import CameraPrior, adjust, solve
from depth_node.intrinsics.depth_errors import DepthErrorModel, DepthEvidence
from depth_node.intrinsics.tracks import Tracks
from pinhole_by_hand import HEIGHT, INTRINSICS, WIDTH, seen_by_hand


def simulated(
    seed: int,
    turn: float = 0.02,
    forward: float = 0.25,
    noise: float = 0.1,
    shared: float = 0.0,
    points: int = 150,
    views: int = 6,
    k: float = 0.0,
    smooth: float = 0.2,
    point: float = 0.1,
) -> Tracks:
    """Tracks of the camera INTRINSICS: it drives and turns by about `turn` radians from view to view, not evenly.

    noise: pixels; shared: the part of its variance that is an offset of a point in all views. k: of the lens.
    smooth, point: errors of the predicted depth, relative.
    """
    rng = np.random.default_rng(seed)
    pixels = np.stack([rng.uniform(10, WIDTH - 10, points), rng.uniform(10, HEIGHT - 10, points)])
    true_depth = rng.uniform(0.2, 2.5, points)
    turns = np.cumsum(turn * rng.normal([0.3, 1.0, 0.1], 0.5, (views, 3)), axis=0)
    ways = np.cumsum(forward * rng.normal([0.0, 0.0, -0.3], 0.03, (views, 3)), axis=0)
    lens = np.array([0, 0, 0, 0, k])
    seen = seen_by_hand(pixels, true_depth, lens, Rotation.from_rotvec(turns).as_matrix(), ways)
    seen = seen + rng.normal(0, noise * np.sqrt(1 - shared), seen.shape)
    seen += rng.normal(0, noise * np.sqrt(shared), pixels.shape)
    outside = (seen[:, 0] < 0) | (seen[:, 0] > WIDTH) | (seen[:, 1] < 0) | (seen[:, 1] > HEIGHT)
    seen = np.where(outside[:, None], np.nan, seen)
    across = pixels[0] / WIDTH - 0.5
    predicted = true_depth * (1 + smooth * across + rng.normal(0, point, points))
    information = np.broadcast_to(np.eye(2)[:, :, None] / noise**2, (views, 2, 2, points))
    seconds = -0.1 * np.arange(1.0, views + 1)
    return Tracks(pixels, seen, information, predicted / np.median(predicted), shared, seconds, WIDTH, HEIGHT)


SIGMAS = np.array([0.3, 0.01, 0.02, 1e-6, 1e-6, 1e-6])
PRIOR = CameraPrior(np.zeros(6), np.diag(SIGMAS**-2))


def longer(factor: float) -> tuple[float, float, float, float]:
    fx, fy, cx, cy = INTRINSICS
    return fx * factor, fy * factor, cx, cy


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
def test_bundle_adjustment_finds_the_focal_length(factor: float) -> None:
    for seed in range(3):
        rough = adjust(simulated(seed), longer(factor), PRIOR, DepthErrorModel())
        assert rough is not None
        found = adjust(simulated(seed), longer(factor), PRIOR, DepthErrorModel(), start=rough, iterations=12)
        assert found is not None
        assert factor * np.exp(found.camera[0]) == pytest.approx(1, abs=0.04)
        assert found.noise < 0.15
        assert found.inliers > 0.9


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_windows_claim_what_they_know(shared: float) -> None:
    """Squares of deviations from the truth over the stated variance: chi-squared with a degree of freedom each."""
    squares = []
    for seed in range(30):
        tracks = simulated(seed, shared=shared)
        rough = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel())
        found = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel(), start=rough)
        assert found is not None
        information = found.information + np.diag([0.0, 1e6, 1e6, 1e12, 1e12, 1e12])  # the rest is known
        squares.append((np.linalg.solve(information, found.vector)[0]) ** 2 / np.linalg.inv(information)[0, 0])
    # The mean of 30 is within 0.56 .. 1.57 in 95 of 100 cases; Gauss-Newton's covariance is not exact.
    assert 0.4 < np.mean(squares) < 1.8


def test_pure_translation_says_nothing_of_the_focal_length() -> None:
    still = adjust(simulated(1, turn=0.0), INTRINSICS, PRIOR, DepthErrorModel())
    turning = adjust(simulated(1), INTRINSICS, PRIOR, DepthErrorModel())
    assert still is not None
    assert turning is not None
    assert turning.information[0, 0] > 50 * still.information[0, 0]
    posterior = np.linalg.inv(still.information + PRIOR.information)
    assert np.sqrt(posterior[0, 0]) > 0.5 * 0.3


def test_stretched_pixels_are_found() -> None:
    """fx 8 % longer and fy 8 % shorter than assumed: nothing of it in f, all of it in their ratio."""
    fx, fy, cx, cy = INTRINSICS
    assumed = fx * np.exp(-0.08), fy * np.exp(0.08), cx, cy
    free = CameraPrior(np.zeros(6), np.diag(np.array([0.3, 0.01, 0.02, 0.15, 1e-6, 1e-6]) ** -2))
    for seed in range(3):
        tracks = simulated(seed)
        rough = adjust(tracks, assumed, free, DepthErrorModel())
        found = adjust(tracks, assumed, free, DepthErrorModel(), start=rough)
        assert found is not None
        assert found.camera[0] == pytest.approx(0, abs=0.04)
        assert found.camera[3] == pytest.approx(0.16, abs=0.04)
        square = adjust(tracks, assumed, PRIOR, DepthErrorModel(), start=rough)
        assert square is not None
        assert square.camera[3] == pytest.approx(0, abs=1e-4)


def test_outliers_do_not_matter() -> None:
    tracks = simulated(2)
    wrong = tracks.seen.copy()
    wrong[:, :, :25] += np.random.default_rng(2).uniform(-20, 20, wrong[:, :, :25].shape)
    rough = adjust(replace(tracks, seen=wrong), INTRINSICS, PRIOR, DepthErrorModel())
    found = adjust(replace(tracks, seen=wrong), INTRINSICS, PRIOR, DepthErrorModel(), start=rough)
    assert found is not None
    assert found.camera[0] == pytest.approx(0, abs=0.04)
    assert found.inliers < 0.9


@pytest.mark.parametrize("k", [-0.1, 0.03])
def test_a_lens_that_distorts_is_told_from_a_longer_one(k: float) -> None:
    free = CameraPrior(np.zeros(6), np.diag(np.array([0.3, 0.01, 0.02, 1e-6, 0.1, 1e-6]) ** -2))
    for seed in range(3):
        tracks = simulated(seed, k=k)
        rough = adjust(tracks, longer(1.2), free, DepthErrorModel())
        found = adjust(tracks, longer(1.2), free, DepthErrorModel(), start=rough)
        assert found is not None
        assert 1.2 * np.exp(found.camera[0]) == pytest.approx(1, abs=0.04)
        assert found.camera[4] == pytest.approx(k, abs=0.015)


def test_windows_linearised_at_one_camera_are_not_drawn_to_short_focal_lengths() -> None:
    """Windows of few turns and much noise: one whose own solution has f too short claims to know it better."""
    own, common = [], []
    for seed in range(40):
        tracks = simulated(seed, turn=0.004, noise=0.4)
        rough = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel())
        for windows, camera in ((own, None), (common, np.zeros(6))):
            found = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel(), start=rough, at=camera)
            assert found is not None
            windows.append((found.information[0, 0], found.vector[0]))
    (own_information, own_vector), (information, vector) = np.sum(own, axis=0), np.sum(common, axis=0)
    assert own_vector / own_information < -0.02
    assert abs(vector) < 2.5 * np.sqrt(information)
    assert abs(vector / information) < abs(own_vector / own_information) / 2


def test_too_few_points_are_no_window() -> None:
    assert adjust(simulated(0, points=30), INTRINSICS, PRIOR, DepthErrorModel()) is None


def test_points_of_unknown_depth_are_left_out() -> None:
    tracks = simulated(0)
    unknown = tracks.inverse_depth.copy()
    unknown[:20] = np.nan
    found = adjust(replace(tracks, inverse_depth=unknown), INTRINSICS, PRIOR, DepthErrorModel())
    assert found is not None
    assert np.isnan(found.inverse_depth[:20]).all()
    assert np.isfinite(found.inverse_depth[20:]).sum() > 60


@pytest.mark.parametrize(("smooth", "point"), [(0.0, 0.0), (0.4, 0.01), (0.01, 0.1)])
def test_windows_say_how_large_errors_of_depth_are(smooth: float, point: float) -> None:
    """Against a model that assumes 0.3 and 0.25; what is in use is five times what is likeliest."""
    evidence = DepthEvidence.none()
    for seed in range(4):
        tracks = simulated(seed, noise=0.05, smooth=smooth, point=point)
        rough = solve(tracks, INTRINSICS, PRIOR, DepthErrorModel())
        found = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel(), start=rough)
        assert found is not None
        evidence = evidence.plus(found.depth)
    sizes = DepthErrorModel().sized(evidence)
    assert (sizes.smooth_size < 0.5) == (smooth < 0.1)
    assert (sizes.point_size < 0.7) == (point < 0.05)


def test_depth_that_is_trusted_helps_where_it_is_true() -> None:
    trusted = DepthErrorModel(smooth_size=0.1, point_size=0.1)
    errors: dict[str, list[float]] = {"assumed": [], "trusted": []}
    for seed in range(20):
        tracks = simulated(seed, turn=0.01, noise=0.3, smooth=0.0, point=0.0)
        for name, model in (("assumed", DepthErrorModel()), ("trusted", trusted)):
            rough = solve(tracks, INTRINSICS, PRIOR, model)
            found = adjust(tracks, INTRINSICS, PRIOR, model, start=rough)
            assert found is not None
            errors[name].append(float(found.camera[0]))
    assert np.std(errors["trusted"]) < 0.8 * np.std(errors["assumed"])


def test_a_solution_of_other_sizes_is_still_a_start() -> None:
    """Amplitudes and depth are the same scene whatever was assumed of them."""
    tracks = simulated(0)
    rough = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel())
    direct = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel(smooth_size=0.5, point_size=0.5), start=rough)
    elsewhere = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel(smooth_size=0.1), start=rough)
    again = adjust(tracks, INTRINSICS, PRIOR, DepthErrorModel(smooth_size=0.5, point_size=0.5), start=elsewhere)
    assert direct is not None
    assert again is not None
    assert again.camera[0] == pytest.approx(direct.camera[0], abs=2e-3)
    np.testing.assert_allclose(again.modes, direct.modes, atol=0.02)
