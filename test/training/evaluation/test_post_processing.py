"""Flip post-processing: the blend of the paper, and what the predictor is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.records import Intrinsics
from training.evaluation.post_processing import FlipPostProcessed, blend_flipped


def test_edges_take_one_prediction_and_the_middle_their_mean() -> None:
    blended = blend_flipped(np.full((2, 201), 1, np.float32), np.full((2, 201), 3, np.float32))
    # The first 5 % (columns 0 to 10 of 0..200) are the mirrored prediction's, the last 5 % the plain one's.
    np.testing.assert_allclose(blended[:, :11], 3, rtol=1e-6)
    np.testing.assert_allclose(blended[:, 190:], 1, rtol=1e-6)
    np.testing.assert_allclose(blended[:, 20:181], 2, rtol=1e-6)
    assert blended[0, 15] == pytest.approx(2.5)  # half way of the ramp from 5 to 10 %


def test_missing_prediction_matters_only_where_it_counts() -> None:
    plain, mirrored = np.ones((1, 101), np.float32), np.ones((1, 101), np.float32)
    plain[:, 0] = mirrored[:, -1] = np.nan
    assert np.isfinite(blend_flipped(plain, mirrored)).all()
    plain[:, 50] = np.nan
    assert np.isnan(blend_flipped(plain, mirrored)[0, 50])


class RedAndCentre:
    """Disparity is the red channel; remembers the intrinsics it was given."""

    name = "red"

    def __init__(self) -> None:
        self.seen: list[Intrinsics | None] = []

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        self.seen.append(intrinsics)
        return rgb[..., 0].astype(np.float32)


def test_the_mirrored_image_has_a_mirrored_camera() -> None:
    rgb = np.random.default_rng(0).integers(1, 255, (6, 40, 3), np.uint8)
    predictor = RedAndCentre()
    processed = FlipPostProcessed(predictor)
    # A predictor that looks at single pixels gives the same for both: the blend changes nothing.
    np.testing.assert_allclose(processed.disparity(rgb, (0.6, 1.9, 0.4, 0.5)), rgb[..., 0], rtol=1e-6)
    assert predictor.seen == [(0.6, 1.9, 0.4, 0.5), (0.6, 1.9, 0.6, 0.5)]
    assert processed.name == "red, flip post-processed"


class Counting:
    """Predicts batches and keeps their sizes."""

    name = "counting"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        raise AssertionError("a batch predictor is asked for batches")

    def disparities(
        self, images: Sequence[NDArray[np.uint8]], intrinsics: Sequence[Intrinsics | None]
    ) -> list[NDArray[np.float32]]:
        self.batches.append(len(images))
        return [np.ones((4, 40), np.float32) for _ in images]


def test_batches_stay_batches() -> None:
    predictor = Counting()
    images = [np.zeros((6, 40, 3), np.uint8)] * 3
    assert len(FlipPostProcessed(predictor).disparities(images, [None] * 3)) == 3
    assert predictor.batches == [3, 3]
