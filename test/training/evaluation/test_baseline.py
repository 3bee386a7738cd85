"""The constant map, and through it the whole evaluator against numbers measured elsewhere on the same files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.depth_files import DepthPng
from training.data.kitti_2015 import read_kitti_2015
from training.data.records import FrameRecord
from training.errors import DataError
from training.evaluation.baseline import ConstantMap
from training.evaluation.run import EvaluationOptions, evaluate

NO_IMAGE = np.zeros((2, 2, 3), np.uint8)


def make_record(path: Path, depth: np.ndarray) -> FrameRecord:
    cv2.imwrite(str(path), (depth * 256).astype(np.uint16))
    return FrameRecord(path, None, "s", 0, 0, depth=DepthPng(path))


def test_map_is_the_mean_of_inverse_depths(tmp_path: Path) -> None:
    sparse = np.zeros((32, 64))
    sparse[::4, ::4] = 2.0
    dense = np.full((32, 64), 4.0)
    records = [make_record(tmp_path / "a.png", dense), make_record(tmp_path / "b.png", dense)]
    np.testing.assert_allclose(ConstantMap(records).disparity(NO_IMAGE, None), 0.25, rtol=1e-6)
    # One pixel in 16 has a second truth: (0.25 + 0.5 / 16) / (1 + 1 / 16) once the blur is wide.
    records = [make_record(tmp_path / "a.png", dense), make_record(tmp_path / "b.png", sparse)]
    smooth = ConstantMap(records, smoothing=0.1).disparity(NO_IMAGE, None)
    assert smooth[16, 32] == pytest.approx((0.25 + 0.5 / 16) / (1 + 1 / 16), rel=1e-3)


def test_truths_of_other_sizes_are_brought_to_the_first(tmp_path: Path) -> None:
    records = [make_record(tmp_path / f"{s}.png", np.full((8 * s, 16 * s), 2.0 * s)) for s in (1, 2)]
    disparity = ConstantMap(records).disparity(NO_IMAGE, None)
    assert disparity.shape == (8, 16)
    np.testing.assert_allclose(disparity, (0.5 + 0.25) / 2, rtol=1e-6)


def test_needs_truth() -> None:
    with pytest.raises(DataError, match="needs training truths"):
        ConstantMap([FrameRecord(Path("a.png"), None, "s", 0, 0)])


@pytest.mark.parametrize(
    ("split", "abs_rel", "rmse", "a1"), [("validation", 0.176, 7.93, 0.734), ("training", 0.254, 9.20, 0.569)]
)
def test_constant_map_scores_what_was_measured_elsewhere(
    shared_data: Path, split: str, abs_rel: float, rmse: float, a1: float
) -> None:
    """The expected numbers come with the data; how far their map was blurred is not said, hence the tolerances."""
    root = shared_data / "kitti_2015"
    baseline = ConstantMap(read_kitti_2015(root, "training"))
    evaluation = evaluate(baseline, read_kitti_2015(root, split), EvaluationOptions(), progress=False)
    assert evaluation.mean.abs_rel == pytest.approx(abs_rel, abs=0.004)
    assert evaluation.mean.rmse == pytest.approx(rmse, abs=0.1)
    assert evaluation.mean.a1 == pytest.approx(a1, abs=0.005)
