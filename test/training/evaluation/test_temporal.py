"""Temporal stability against closed form: a camera that moves before planes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.records import FrameRecord, Intrinsics, Matrix, translation
from training.errors import DataError
from training.evaluation.temporal import find_correspondences, neighbours, sampled, temporal_stability

WIDTH, HEIGHT = 96, 64
INTRINSICS = (0.9, 1.35, 0.52, 0.48)
WALL = 10.0  # metres in front of the first camera


@dataclass(frozen=True)
class Known:
    """Depth that is in memory."""

    depth: NDArray[np.float32]

    def read(self) -> NDArray[np.float32]:
        return self.depth


@dataclass(frozen=True)
class Given:
    """A predictor that knows frames by their grey value."""

    disparities: tuple[NDArray[np.float32], ...]
    name: str = "given"

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        return self.disparities[rgb[0, 0, 0] // 40]


def floor_depth(pose: Matrix, pitch: float) -> NDArray[np.float32]:
    """True depth of a wall that leans by `pitch`, at WALL on the world's z axis: n . X = n . p, solved for z."""
    normal = np.array([0.0, np.sin(pitch), np.cos(pitch)])
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    fx, fy, cx, cy = INTRINSICS
    ray = np.stack([((x + 0.5) / WIDTH - cx) / fx, ((y + 0.5) / HEIGHT - cy) / fy, np.ones(x.shape)])
    along = np.einsum("i,ihw->hw", normal @ pose[:3, :3], ray)
    return ((normal @ (np.array([0.0, 0.0, WALL]) - pose[:3, 3])) / along).astype(np.float32)


@pytest.fixture
def drive(tmp_path: Path) -> list[FrameRecord]:
    """Four frames, each 0.5 m nearer and 0.1 m further right, and turned a little, before a wall that leans."""
    records = []
    for index in range(4):
        pose = translation(0.1 * index, 0.0, 0.5 * index)
        angle = 0.01 * index
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 40 * index, np.uint8))
        depth = Known(floor_depth(pose, np.pi / 6))
        records.append(FrameRecord(path, INTRINSICS, "wall", index, index, pose=pose, depth=depth))
    return records


def truths(drive: list[FrameRecord]) -> list[NDArray[np.float32]]:
    return [record.depth.read() for record in drive if record.depth is not None]


def test_the_truth_does_not_change(drive: list[FrameRecord]) -> None:
    found = temporal_stability(Given(tuple(1 / depth for depth in truths(drive))), drive, 0.1, 80)
    assert found.pairs == 3
    for change in (found.change, found.scale_change, found.shape_change, found.truth_change):
        assert change < 1e-5


def test_one_wrong_factor_for_ever_is_no_change(drive: list[FrameRecord]) -> None:
    found = temporal_stability(Given(tuple(1 / (3 * depth) for depth in truths(drive))), drive, 0.1, 80)
    assert found.change < 1e-5


def test_a_flickering_scale_is_told_exactly(drive: list[FrameRecord]) -> None:
    factors = (1.0, 1.1, 1.1, 0.88)  # ratios 1.1, 1, 0.8
    disparities = tuple(1 / (factor * depth) for factor, depth in zip(factors, truths(drive), strict=True))
    found = temporal_stability(Given(disparities), drive, 0.1, 80)
    assert found.change == pytest.approx((0.1 + 0.0 + 0.2) / 3, abs=1e-5)
    assert found.scale_change == pytest.approx(found.change, abs=1e-5)
    assert found.shape_change < 1e-5


def test_a_depth_that_ignores_the_motion_changes_by_the_true_ratio(drive: list[FrameRecord]) -> None:
    """One constant map: (d_b / d_a) is 1, so that what is left is |z_a / z_b - 1|, computed here from the poses."""
    constant = np.full((HEIGHT, WIDTH), 0.1, np.float32)
    found = temporal_stability(Given((constant,) * 4), drive, 0.1, 80)
    expected = []
    for a, b in pairwise(drive):
        depth_a, depth_b = truths([a, b])
        points = find_correspondences(depth_a, depth_b, a, b, 0.1, 80)
        expected.append(np.mean(np.abs(1 / points.ratio - 1)))
        # A point of frame a is nearer in b by about the way that the camera came forward.
        z_a = depth_a[points.rows, points.columns]
        assert np.median(z_a - z_a * points.ratio) == pytest.approx(0.5, abs=0.05)
    assert found.change == pytest.approx(np.mean(expected), rel=1e-6)
    assert found.change > 0.04


def test_hidden_points_do_not_count(drive: list[FrameRecord]) -> None:
    """A post that stands before the second camera hides what is behind it; its own depth is none of the wall's."""
    a, b = drive[:2]
    depth_a, depth_b = truths([a, b])
    hidden = depth_b.copy()
    hidden[:, 40:60] = 2.0
    free = find_correspondences(depth_a, depth_b, a, b, 0.1, 80)
    behind = find_correspondences(depth_a, hidden, a, b, 0.1, 80)
    on_post, beside = (free.x >= 40) & (free.x <= 59), (free.x <= 39) | (free.x >= 60)
    assert on_post.sum() > 1000
    assert not ((behind.x >= 40) & (behind.x <= 59)).any()
    assert ((behind.x <= 39) | (behind.x >= 60)).sum() == beside.sum()


def test_points_out_of_the_range_or_without_truth_do_not_count(drive: list[FrameRecord]) -> None:
    a, b = drive[:2]
    depth_a, depth_b = truths([a, b])
    near = find_correspondences(depth_a, depth_b, a, b, 0.1, 9.0)
    assert depth_a[near.rows, near.columns].max() < 9.0
    assert (depth_a >= 9.0).any()
    nothing = find_correspondences(np.zeros_like(depth_a), depth_b, a, b, 0.1, 80)
    assert len(nothing.rows) == 0


def test_pixels_without_a_prediction_do_not_count(drive: list[FrameRecord]) -> None:
    disparities = [1 / depth for depth in truths(drive)]
    disparities[1] = np.where(np.arange(WIDTH) < 48, disparities[1] / 2, np.nan).astype(np.float32)
    disparities[2] = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    found = temporal_stability(Given(tuple(disparities)), drive, 0.1, 80)
    assert found.pairs == 1  # 0 and 1; the others have none
    assert found.change == pytest.approx(1.0, abs=1e-5)


def test_neighbours_are_consecutive_frames_of_one_sequence_that_have_all(drive: list[FrameRecord]) -> None:
    other = replace(drive[1], sequence="other")
    blind = replace(drive[2], depth=None)
    assert [(a.index, b.index) for a, b in neighbours([drive[0], drive[2], drive[3]])] == [(2, 3)]
    assert not list(neighbours([drive[0], other]))
    assert not list(neighbours([drive[1], blind, drive[3]]))
    with pytest.raises(DataError, match="none of 2 frames has a neighbour"):
        temporal_stability(Given(()), [drive[0], other], 0.1, 80)


def test_sampling_is_exact_on_a_ramp_and_nothing_outside() -> None:
    image = (np.arange(5)[None] + 10 * np.arange(4)[:, None]).astype(np.float32)
    x, y = np.float32([0.0, 1.25, 4.0, 4.01, -0.1]), np.float32([0.0, 2.5, 3.0, 1.0, 1.0])
    np.testing.assert_allclose(sampled(image, x, y), [0.0, 26.25, 34.0, np.nan, np.nan])
