"""How large errors of depth are, from what images say of them; against densities by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, t

from depth_node.intrinsics.depth_errors import (
    SIZES,
    STUDENT,
    DepthErrorModel,
    DepthEvidence,
    point_evidence,
    smooth_evidence,
)


def test_modes_are_as_likely_as_the_normal_distribution_of_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 4))
    information, measured = factor.T @ factor, rng.normal(size=4)
    expected = np.array(
        [multivariate_normal.logpdf(measured, cov=np.linalg.inv(information) + size**2 * np.eye(4)) for size in SIZES]
    )
    found = smooth_evidence(information, information @ measured)
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-9)


def test_modes_that_images_do_not_show_say_nothing() -> None:
    information = np.diag([4.0, 0.0, -1e-12])  # rounding makes such
    alone = smooth_evidence(information[:1, :1], np.array([1.0]))
    np.testing.assert_allclose(smooth_evidence(information, np.array([1.0, 0.0, 0.0])), alone, atol=1e-9)


def test_points_are_as_likely_as_students_distribution_of_what_was_measured() -> None:
    rng = np.random.default_rng(1)
    information, measured = rng.uniform(1, 100, 5), rng.normal(size=5)
    expected = np.array(
        [np.sum(t.logpdf(measured, STUDENT, scale=np.sqrt(1 / information + size**2))) for size in SIZES]
    )
    found = point_evidence(information, information * measured)
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-9)


def test_points_without_parallax_say_nothing() -> None:
    alone = point_evidence(np.array([5.0]), np.array([1.0]))
    np.testing.assert_array_equal(point_evidence(np.array([5.0, 0.0]), np.array([1.0, 0.0])), alone)


@pytest.mark.parametrize(("size", "least", "most"), [(0.02, 0.04, 0.16), (0.1, 0.5, 1.0), (0.3, 1.0, 1.0)])
def test_sizes_are_those_that_errors_have_with_some_caution(size: float, least: float, most: float) -> None:
    """Errors drawn of a size, seen through noise half as large: what is small is trusted, but less than it could be."""
    rng = np.random.default_rng(2)
    noise, evidence = size / 2, DepthEvidence.none()
    for _ in range(10):
        modes, points = rng.normal(0, np.hypot(size, noise), 15), size * rng.standard_t(STUDENT, 100)
        points += rng.normal(0, noise, 100)
        smooth = smooth_evidence(np.eye(15) / noise**2, modes / noise**2)
        evidence = evidence.plus(DepthEvidence(smooth, point_evidence(np.full(100, noise**-2), points / noise**2)))
    model = DepthErrorModel().sized(evidence)
    for found in (model.smooth_size, model.point_size):
        assert least <= found <= most


def test_errors_are_as_large_as_assumed_without_evidence_and_never_larger() -> None:
    assert DepthErrorModel().sized(DepthEvidence.none()) == DepthErrorModel()
    huge = DepthEvidence(smooth_evidence(np.eye(3), np.full(3, 9.0)), point_evidence(np.ones(3), np.full(3, 9.0)))
    assert DepthErrorModel().sized(huge) == DepthErrorModel()


def test_sizes_apply_to_points_where_they_say_so() -> None:
    inverse_depth = np.array([0.0, 1.0, 2.0])
    np.testing.assert_allclose(DepthErrorModel(point_size=0.5).point_sigma(inverse_depth), [0.025, 0.15, 0.275])
