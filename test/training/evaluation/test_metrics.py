"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.evaluation.metrics import DepthMetrics, depth_metrics, garg_crop, mean_metrics, median_scale

TRUTH = np.array([1.0, 2.0, 4.0, 8.0])
PREDICTION = np.array([1.1, 2.0, 3.0, 13.0])
depths = arrays(np.float64, 7, elements=st.floats(0.1, 80))


def test_metrics_by_hand() -> None:
    metrics = depth_metrics(PREDICTION, TRUTH)
    # Differences 0.1, 0, 1, 5; ratios 1.1, 1, 4/3, 1.625; logarithms 0.0953102, 0, -0.2876821, 0.4855078.
    assert metrics.abs_rel == pytest.approx((0.1 + 0 + 0.25 + 0.625) / 4)
    assert metrics.sq_rel == pytest.approx((0.01 + 0 + 0.25 + 3.125) / 4)
    assert metrics.rmse == pytest.approx(2.55)  # the root of (0.01 + 0 + 1 + 25) / 4 = 6.5025
    assert metrics.rmse_log == pytest.approx(0.2861655, abs=1e-6)  # of 0.0090840, 0, 0.0827610, 0.2357178
    assert metrics.log10 == pytest.approx(0.2171250 / 2.3025851, abs=1e-6)
    assert metrics.silog == pytest.approx(0.2766228, abs=1e-6)  # root of 0.0818907 - 0.0732840^2
    assert (metrics.a1, metrics.a2, metrics.a3) == (0.5, 0.75, 1.0)


def test_thresholds_are_exclusive() -> None:
    metrics = depth_metrics(np.array([1.25, 1.0]), np.array([1.0, 1.25]))
    assert (metrics.a1, metrics.a2) == (0.0, 1.0)


def test_perfect_depth() -> None:
    assert depth_metrics(TRUTH, TRUTH) == DepthMetrics(0, 0, 0, 0, 0, 0, 1, 1, 1)


@given(depths, depths, st.floats(0.1, 10))
def test_silog_does_not_depend_on_scale(prediction: np.ndarray, truth: np.ndarray, factor: float) -> None:
    scaled = depth_metrics(prediction * factor, truth).silog
    assert scaled == pytest.approx(depth_metrics(prediction, truth).silog, abs=1e-6)


def test_mean_counts_each_frame_once() -> None:
    rows = [DepthMetrics(*(np.arange(9.0) + start).tolist()) for start in (0, 1, 5)]
    assert mean_metrics(rows) == DepthMetrics(2, 3, 4, 5, 6, 7, 8, 9, 10)


def test_garg_crop_of_a_kitti_frame() -> None:
    # The limits that evaluation codes have used since Garg et al. for 1242x375: rows 153 to 370, columns 44 to 1196.
    rows, columns = np.nonzero(garg_crop(375, 1242))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (153, 370, 44, 1196)
    assert len(rows) == (371 - 153) * (1197 - 44)


def test_median_scale() -> None:
    assert median_scale(np.array([1.0, 2.0, 9.0]), np.array([3.0, 8.0, 5.0])) == 2.5
