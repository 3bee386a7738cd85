"""The protocol: resize as disparity, crop, cap, scale; frames and their mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.data.depth_files import DepthPng
from training.data.records import FrameRecord, Intrinsics
from training.errors import DataError
from training.evaluation.run import EvaluationOptions, evaluate, score

WHOLE = EvaluationOptions(scaling="none", crop="none")


def image(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_disparity_is_resized_before_it_is_inverted() -> None:
    # Bilinear with pixel centres at halves: 1, 0.75 + 0.25 * 0.5, ... as disparity.
    frame = score(image([1.0, 0.5]), image([1.0, 1.0, 1.0, 1.0]), WHOLE)
    assert frame is not None
    np.testing.assert_allclose(frame.prediction[0], [1, 1 / 0.875, 1 / 0.625, 2], rtol=1e-6)


def test_truth_outside_the_range_is_not_scored_and_predictions_are_clipped() -> None:
    frame = score(image([0.1, 0.001, 0.1, 0.1]), image([10, 20, 90, 0]), WHOLE)
    assert frame is not None
    assert frame.scored[0].tolist() == [True, True, False, False]
    assert frame.prediction[0, 1] == 80.0
    assert frame.metrics.abs_rel == pytest.approx((0 + 60 / 20) / 2, rel=1e-6)


def test_garg_crop_leaves_out_the_top() -> None:
    truth = np.full((375, 1242), 5, np.float32)
    truth[:153] = 10
    frame = score(np.full((3, 4), 0.2, np.float32), truth, EvaluationOptions(scaling="none"))
    assert frame is not None
    assert frame.metrics.abs_rel == pytest.approx(0, abs=1e-7)
    assert frame.scored.sum() == (371 - 153) * (1197 - 44)


@pytest.mark.parametrize(
    ("scaling", "scale", "abs_rel"), [("none", 1, 0.5), (2.0, 2, 0), ("median", 2, 0), (3.0, 3, 0.5)]
)
def test_scaling(scaling: str | float, scale: float, abs_rel: float) -> None:
    truth = image([2, 4, 8])
    frame = score(2 / truth, truth, EvaluationOptions(scaling=scaling, crop="none"))  # type: ignore[arg-type]
    assert frame is not None
    assert frame.scale == pytest.approx(scale, rel=1e-6)
    assert frame.metrics.abs_rel == pytest.approx(abs_rel, abs=1e-6)


@given(st.floats(0.05, 20))
def test_median_scaling_forgets_the_scale_of_the_prediction(factor: float) -> None:
    truth, disparity = image([3, 5, 9, 20]), image([0.3, 0.25, 0.1, 0.06])
    options = EvaluationOptions(crop="none")
    plain, scaled = score(disparity, truth, options), score(disparity * np.float32(factor), truth, options)
    assert plain is not None
    assert scaled is not None
    assert scaled.metrics.abs_rel == pytest.approx(plain.metrics.abs_rel, rel=1e-5)
    assert scaled.scale == pytest.approx(plain.scale * factor, rel=1e-5)


def test_pixels_without_prediction_lower_the_coverage() -> None:
    frame = score(image([0.5, np.nan, 0, np.inf]), image([2, 2, 2, 2]), WHOLE)
    assert frame is not None
    assert frame.coverage == 0.25
    assert frame.metrics.abs_rel == 0
    assert np.isnan(frame.prediction[0, 1:]).all()


@pytest.mark.parametrize(
    ("disparity", "truth"), [(image([np.nan, 0.5]), image([3, 0])), (image([1, 1]), image([0, 100]))]
)
def test_nothing_to_score(disparity: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
    assert score(disparity, truth, WHOLE) is None


@pytest.mark.parametrize("options", [{"min_depth": 0}, {"min_depth": 90}, {"scaling": 0.0}, {"scaling": float("nan")}])
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(DataError, match="expected"):
        EvaluationOptions(**options)  # type: ignore[arg-type]


@dataclass
class RedIsDisparity:
    """Disparity is the red channel / 100; keeps the intrinsics that it was given."""

    name: str = "red"
    intrinsics: Intrinsics | None = None

    def disparity(self, rgb: NDArray[np.uint8], intrinsics: Intrinsics | None) -> NDArray[np.float32]:
        self.intrinsics = intrinsics
        return rgb[..., 0].astype(np.float32) / 100


def make_record(folder: Path, index: int, red: int, depth: float | None) -> FrameRecord:
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[..., 0] = red
    cv2.imwrite(str(folder / f"{index}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    source = None
    if depth is not None:
        cv2.imwrite(str(folder / f"depth_{index}.png"), np.full((4, 6), depth * 256, np.uint16))
        source = DepthPng(folder / f"depth_{index}.png")
    return FrameRecord(folder / f"{index}.png", (0.5, 0.6, 0.7, 0.8), "clip", index, 0, depth=source)


def test_frames_and_their_mean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    depths = [4.0, 5.0, None, 0.0]
    records = [make_record(tmp_path, i, red=25, depth=depth) for i, depth in enumerate(depths)]
    predictor = RedIsDisparity()
    evaluation = evaluate(predictor, records, WHOLE, progress=False)
    assert predictor.intrinsics == (0.5, 0.6, 0.7, 0.8)
    assert [row.name for row in evaluation.rows] == ["clip/0000000000", "clip/0000000001"]
    assert [row.pixels for row in evaluation.rows] == [24, 24]
    assert [row.metrics.abs_rel for row in evaluation.rows] == pytest.approx([0, 0.2])
    assert evaluation.mean.abs_rel == pytest.approx(0.1)
    assert evaluation.unscored == ("clip/0000000003",)
    assert "1 of 4 frames have no true depth" in caplog.text
    assert "1 frames have no pixel to score: clip/0000000003" in caplog.text


def test_no_truth_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 frames"):
        evaluate(RedIsDisparity(), [make_record(tmp_path, 0, 25, None)], WHOLE, progress=False)
