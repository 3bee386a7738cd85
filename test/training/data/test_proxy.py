"""Proxy depth against exact depth of rendered streets and against KITTI's disparities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.synthetic import SyntheticFrame, render, street_drive, street_world
from training.data.kitti_2015 import read_kitti_2015
from training.data.proxy import ProxyOptions, consistent_flow, motion_depth, optical_flow, stereo_depth
from training.data.records import translation

CAMERA = PinholeCamera(width=416, height=128, fx=240, fy=240, cx=207.5, cy=58)
BASELINE = 0.54
OPTIONS = ProxyOptions()


def gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def motion_proxy(
    target: SyntheticFrame, sources: list[SyntheticFrame], poses: list[NDArray[np.float64]], options: ProxyOptions
) -> NDArray[np.float32]:
    here, there = gray(target.rgb), [gray(source.rgb) for source in sources]
    matches = [consistent_flow(optical_flow(here, g), optical_flow(g, here), options) for g in there]
    return motion_depth(matches, CAMERA.matrix(), poses, options)


@pytest.fixture(scope="module")
def drive() -> list[SyntheticFrame]:
    """Five frames, 0.8 m apart."""
    return list(street_drive(street_world(seed=5), CAMERA, frames=5, speed=8.0, start=30.0))


@pytest.fixture(scope="module")
def stereo() -> list[SyntheticFrame]:
    """Left and right camera of a rectified pair."""
    world = street_world(seed=5)
    (left,) = street_drive(world, CAMERA, frames=1, start=30.0)
    T_world_right = left.T_world_camera @ translation(BASELINE, 0, 0)
    rgb, depth = render(world, CAMERA, T_world_right)
    return [left, replace(left, rgb=rgb, depth=depth, T_world_camera=T_world_right)]


def relative_errors(proxy: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Relative error where both are known, and the share of the truth below 80 m that the proxy covers."""
    scene = np.isfinite(truth) & (truth < 80)
    both = scene & (proxy > 0)
    return np.abs(proxy[both] - truth[both]) / truth[both], both.sum() / scene.sum()


@pytest.mark.parametrize("side", ["left", "right"])
def test_stereo_depth_of_a_rendered_pair(stereo: list[SyntheticFrame], side: str) -> None:
    target, partner = stereo if side == "left" else reversed(stereo)
    proxy = stereo_depth(gray(target.rgb), gray(partner.rgb), CAMERA.fx * BASELINE, OPTIONS, side == "left")
    assert proxy.shape == (128, 416)
    assert proxy.dtype == np.float32
    errors, coverage = relative_errors(proxy, target.depth)
    assert np.median(errors) < 0.03
    assert np.mean(errors) < 0.06
    assert coverage > 0.8


def test_motion_depth_of_a_rendered_drive(drive: list[SyntheticFrame]) -> None:
    target, sources = drive[2], [drive[i] for i in (0, 1, 3, 4)]
    poses = [np.linalg.inv(source.T_world_camera) @ target.T_world_camera for source in sources]
    proxy = motion_proxy(target, sources, poses, OPTIONS)
    assert proxy.dtype == np.float32
    errors, coverage = relative_errors(proxy, target.depth)
    assert np.median(errors) < 0.03
    assert np.mean(errors) < 0.1
    assert coverage > 0.45
    # Wrong motion is contradicted by the matches: with the sources' poses swapped, little passes the checks.
    swapped = motion_proxy(target, sources, poses[::-1], OPTIONS)
    assert (swapped > 0).mean() < 0.25 * (proxy > 0).mean()


def test_depth_scales_with_the_baseline(stereo: list[SyntheticFrame]) -> None:
    left, right = (gray(frame.rgb) for frame in stereo)
    wide = replace(OPTIONS, min_depth=0.0, max_depth=1e6)
    once, twice = (stereo_depth(left, right, CAMERA.fx * factor * BASELINE, wide) for factor in (1, 2))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_no_parallax_no_depth(drive: list[SyntheticFrame]) -> None:
    image = gray(drive[0].rgb)
    assert not stereo_depth(image, image, CAMERA.fx * BASELINE, OPTIONS).any()
    assert not motion_proxy(drive[0], [drive[0], drive[0]], [np.eye(4), np.eye(4)], OPTIONS).any()


def test_only_matches_that_lead_back_are_consistent() -> None:
    """A flow of 3 pixels to the right, and back everywhere but in one half of the image."""
    forward, backward = np.zeros((2, 8, 40, 2), np.float32)
    forward[..., 0], backward[..., 0] = 3.0, -3.0
    backward[:, 20:, 0] = -5.0
    flow = consistent_flow(forward, backward, OPTIONS)
    known = np.isfinite(flow).all(axis=-1)
    np.testing.assert_array_equal(known, np.broadcast_to(np.arange(40) < 17, (8, 40)))
    np.testing.assert_array_equal(flow[known], forward[known])


def test_one_source_is_not_enough(drive: list[SyntheticFrame]) -> None:
    target, source = drive[2], drive[3]
    pose = np.linalg.inv(source.T_world_camera) @ target.T_world_camera
    assert not motion_proxy(target, [source], [pose], OPTIONS).any()


@pytest.mark.parametrize(
    "stricter",
    [{"consistency": 0.05}, {"relative_error": 0.02}, {"flow_error": 1.0}, {"min_depth": 9.0}, {"max_depth": 15.0}],
)
def test_stricter_checks_keep_fewer_pixels(stereo: list[SyntheticFrame], stricter: dict[str, float]) -> None:
    left, right = (gray(frame.rgb) for frame in stereo)
    usual = stereo_depth(left, right, CAMERA.fx * BASELINE, OPTIONS)
    strict = stereo_depth(left, right, CAMERA.fx * BASELINE, replace(OPTIONS, **stricter))
    kept = strict > 0
    assert 0.01 < kept.sum() / (usual > 0).sum() < 0.95
    np.testing.assert_array_equal(strict[kept], usual[kept])
    assert strict[kept].min() >= stricter.get("min_depth", 1.5)
    assert strict.max() <= stricter.get("max_depth", 80.0)


@pytest.mark.parametrize("stricter", [{"residual": 0.1}, {"consistency": 0.1}])
def test_stricter_checks_keep_fewer_pixels_of_motion(drive: list[SyntheticFrame], stricter: dict[str, float]) -> None:
    target, sources = drive[2], [drive[1], drive[3]]
    poses = [np.linalg.inv(source.T_world_camera) @ target.T_world_camera for source in sources]
    counts = [
        (motion_proxy(target, sources, poses, options) > 0).sum() for options in (OPTIONS, replace(OPTIONS, **stricter))
    ]
    assert counts[1] < 0.9 * counts[0]


@pytest.mark.parametrize("number", [0, 20])
def test_real_stereo_pairs_agree_with_their_disparity_truth(shared_data: Path, number: int) -> None:
    record = read_kitti_2015(shared_data / "kitti_2015", "training")[number]
    assert record.stereo is not None
    assert record.depth is not None
    assert record.intrinsics is not None
    left, right = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (record.image, record.stereo.image))
    assert left is not None
    assert right is not None
    focal_baseline = record.intrinsics[0] * left.shape[1] * -record.stereo.T_other_this[0, 3]
    proxy = stereo_depth(np.asarray(left, np.uint8), np.asarray(right, np.uint8), focal_baseline, OPTIONS)
    truth = record.depth.read()
    both = (proxy > 0) & (truth > 0) & (truth < 80)
    assert np.mean(np.abs(proxy[both] - truth[both]) / truth[both]) < 0.08
    assert both.sum() / ((truth > 0) & (truth < 80)).sum() > 0.6
