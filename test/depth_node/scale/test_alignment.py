"""Direct alignment: its derivatives against finite differences, its motions against rendered ones."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.camera import PinholeCamera
from depth_node.scale.alignment import _linearized, align, rotation_matrix
from depth_node.scale.pyramid import CELL, PER_CELL, Points, make_pyramid, sample, select_points
from depth_node.synthetic import render, street_world
from depth_node.synthetic.street import T_BASE_CAMERA, base_pose

CAMERA = PinholeCamera(320, 96, 186.0, 182.0, 157.0, 44.0)

small = st.floats(-0.05, 0.05)


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), omega=st.tuples(small, small, small), tau=st.tuples(small, small, small))
def test_derivatives_of_the_residual(
    seed: int, omega: tuple[float, float, float], tau: tuple[float, float, float]
) -> None:
    """Of an image that is a plane in x and y, whose gradient is exact everywhere; central differences of all eight."""
    rng = np.random.default_rng(seed)
    height, width = CAMERA.height, CAMERA.width
    slope = rng.uniform(-0.01, 0.01, 2)
    y, x = np.mgrid[:height, :width]
    level = np.stack([0.5 + slope[0] * x + slope[1] * y, np.full_like(x, 0) + slope[0], np.full_like(y, 0) + slope[1]])
    level = np.ascontiguousarray(level.transpose(1, 2, 0)).astype(np.float32)
    pixels = np.stack([rng.uniform(40, 280, 200), rng.uniform(25, 70, 200)]).astype(np.float32)
    points = Points(pixels, rng.uniform(0.1, 1.0, 200).astype(np.float32), rng.uniform(0, 1, 200).astype(np.float32))
    rotation, translation = rotation_matrix(np.array(omega)), np.array(tau)
    brightness = np.array([0.1, -0.05])

    def residual(step: np.ndarray) -> np.ndarray:
        turn = rotation_matrix(step[:3])
        terms = _linearized(
            level, points, CAMERA, turn @ rotation, turn @ translation + step[3:6], brightness + step[6:]
        )
        assert terms is not None
        return terms[1].astype(np.float64)

    terms = _linearized(level, points, CAMERA, rotation, translation, brightness)
    assert terms is not None
    for index, row in enumerate(terms[0]):
        step = np.zeros(8)
        step[index] = 5e-3
        difference = (residual(step) - residual(-step)) / 1e-2
        np.testing.assert_allclose(row, difference, rtol=2e-2, atol=2e-3 + 2e-3 * np.abs(row).max())


def test_motion_and_brightness_of_a_street() -> None:
    """Half a metre ahead and a little to the side, half a degree of turn; b is brighter and has less contrast."""
    world = street_world(3)
    assert world.street is not None
    T_world_a = base_pose(world.street, 20.0) @ T_BASE_CAMERA
    T_a_b = np.eye(4)
    T_a_b[:3, :3] = rotation_matrix(np.array([0.002, math.radians(0.5), -0.003]))
    T_a_b[:3, 3] = 0.03, 0.01, 0.5
    rgb_a, depth_a = render(world, CAMERA, T_world_a)
    rgb_b, _ = render(world, CAMERA, T_world_a @ T_a_b)
    inverse = np.where(np.isfinite(depth_a), 1 / depth_a, 1e-3).astype(np.float32)
    image_a = make_pyramid(rgb_a, inverse, 0)
    darker = np.clip(0.9 * rgb_b.astype(np.float32) + 15, 0, 255).astype(np.uint8)
    image_b = make_pyramid(darker, inverse, 1)
    points = tuple(select_points(image_a, level) for level in range(len(image_a.levels)))
    found = align(points, image_b, CAMERA.resized(1280, 384), np.eye(3), np.zeros(3))
    assert found is not None
    expected = np.linalg.inv(T_a_b)
    np.testing.assert_allclose(found.translation, expected[:3, 3], atol=0.01)
    np.testing.assert_allclose(found.rotation, expected[:3, :3], atol=5e-4)
    assert found.inliers > 0.8
    assert 0.8 < found.overlap <= 1.0


def test_nothing_to_align_gives_none() -> None:
    empty = np.zeros((96, 320, 3), np.uint8)
    image = make_pyramid(empty, np.full((96, 320), 0.1, np.float32), 0)
    points = tuple(select_points(image, level) for level in range(len(image.levels)))
    assert points[0].intensity.size == 0
    assert align(points, image, CAMERA, np.eye(3), np.zeros(3)) is None


def test_points_lie_on_texture_with_smooth_depth_all_over_the_image() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 320), np.uint8)
    rgb = cv2.cvtColor(cv2.GaussianBlur(noise, (5, 5), 1.0), cv2.COLOR_GRAY2RGB)
    rgb[:, :80] = 100  # no texture
    inverse = np.full((96, 320), 0.1, np.float32)
    inverse[:, 160:] = 0.2  # an outline at x = 160
    inverse[:40, 240:] = np.nan
    image = make_pyramid(np.asarray(rgb, np.uint8), inverse, 0)
    points = select_points(image, 0)
    x, y = points.pixels.astype(int)
    assert x.min() >= 79
    assert not np.isin(x, (159, 160)).any()
    assert not ((x >= 239) & (y < 41)).any()
    np.testing.assert_array_equal(points.inverse_depth, np.where(x < 160, np.float32(0.1), np.float32(0.2)))
    np.testing.assert_array_equal(points.intensity, image.levels[0][y, x, 0])
    _, counts = np.unique(y // CELL * 1000 + x // CELL, return_counts=True)
    assert counts.max() == PER_CELL
    assert len(counts) > 0.9 * 12 * 25


@pytest.mark.parametrize(("width", "height"), [(640, 192), (64, 32), (1242, 375), (33, 200)])
def test_pyramid_halves_and_keeps_the_field_of_view(width: int, height: int) -> None:
    ramp = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)
    image = make_pyramid(ramp, np.full((height, width), 0.5, np.float32), 7)
    assert image.stamp_ns == 7
    assert image.levels[0].shape[:2] == image.inverse_depth.shape
    assert image.inverse_depth.size <= 36_000
    for finer, coarser in zip(image.levels, image.levels[1:], strict=False):
        assert coarser.shape[:2] == (finer.shape[0] // 2, finer.shape[1] // 2)
    for level in image.levels:
        inner = level[2:-2, 2:-2]
        slope = 1.0 / level.shape[1]
        assert np.mean(inner[..., 1]) == pytest.approx(slope, rel=0.05)
        assert np.abs(inner[..., 2]).max() < 1e-6


def test_samples_are_bilinear() -> None:
    level = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    pixels = np.array([[5.25, 29.0, 3.0], [7.5, 3.0, 0.5]], np.float32)
    values, inside = sample(level, pixels)
    assert list(inside) == [True, False, False]
    corners = level[7:9, 5:7]
    expected = 0.5 * (0.75 * corners[0, 0] + 0.25 * corners[0, 1]) + 0.5 * (0.75 * corners[1, 0] + 0.25 * corners[1, 1])
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-5)
