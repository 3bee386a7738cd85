"""Deviations in closed form, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_node.errors import BackendError
from depth_node.model import ModelFile
from depth_node.precision.parity import TOLERANCES, Deviation, check_deviation, deviations, measure_deviation
from motion_model import write_tiny_motion_model


def outputs(values: Any) -> dict[str, np.ndarray]:
    return {"disparity": np.float32(values).reshape(1, 1, -1)}


def test_deviation_is_of_depth_not_of_disparity(model: ModelFile) -> None:
    """Twice the disparity is half the depth."""
    found = deviations(model, outputs([0.2, 0.1, 0.05]), outputs([0.1, 0.1, 0.1]))
    assert found.tolist() == pytest.approx([0.5, 0.0, 1.0])


def test_a_model_of_depth(tmp_path: Path, make_tiny_model: Any) -> None:
    depth = make_tiny_model(tmp_path / "depth.onnx", output="depth", at_black=1.0, at_white=50.0)
    found = deviations(depth, {"depth": np.float32([2.0, 11.0])}, {"depth": np.float32([4.0, 10.0])})
    assert found.tolist() == pytest.approx([0.5, 0.1])


def test_pixels_that_the_model_has_no_depth_for_do_not_count(model: ModelFile) -> None:
    """Its range is 0.4 to 60: disparities of 10 and 0.001 are outside, and 0 has no depth."""
    found = deviations(model, outputs([1.0, 1.0, 1.0, 0.1]), outputs([10.0, 0.001, 0.0, 0.1]))
    assert found.tolist() == [0.0]


@pytest.mark.parametrize("nothing", [0.0, -0.1, np.nan])
def test_no_depth_where_the_model_has_one_is_an_infinite_deviation(model: ModelFile, nothing: float) -> None:
    assert deviations(model, outputs([nothing, 0.1]), outputs([0.1, 0.1])).tolist() == [np.inf, 0.0]


def test_frames_without_any_depth_cannot_be_compared(model: ModelFile) -> None:
    with pytest.raises(BackendError, match="nothing can be compared: give frames of the scenes"):
        deviations(model, outputs([0.1]), outputs([0.0]))


def test_motion_is_compared_by_vectors(tmp_path: Path) -> None:
    """A rotation of 0.01 rad off by 0.001 about another axis deviates by 10 %."""
    model = write_tiny_motion_model(tmp_path / "motion.onnx")
    expected = {
        "axis_angle": np.float32([[0.01, 0, 0]]),
        "translation": np.float32([[0, 0, 2]]),
        "intrinsics": np.float32([[1, 1, 1, 1]]),
    }
    found = {name: value.copy() for name, value in expected.items()}
    found["axis_angle"][0, 1] = 0.001
    found["translation"][0, 2] = np.nan
    assert deviations(model, found, expected).tolist() == pytest.approx([0, 0.1, 0, 0, 0, np.inf, 0, 0, 0, 0])


def test_a_deviation_is_measured_over_all_pixels_of_all_frames(model: ModelFile) -> None:
    """Two frames exact, one 1 % off: a third of the pixels; the worst frame's median is 1 %."""
    frames = [{"image": np.full((1, 1, 1, 3), value, np.uint8)} for value in (0, 1, 0)]
    exact = outputs(np.full(100, 0.5))

    def run(inputs: Any) -> dict[str, np.ndarray]:
        return outputs(np.full(100, 0.5 / 1.01)) if inputs["image"].any() else exact

    measured = measure_deviation(model, run, lambda _: exact, frames, "three frames", "by hand")
    assert measured.median == 0
    assert (measured.p95, measured.maximum) == pytest.approx((0.01, 0.01), rel=1e-3)
    assert measured.worst_frame_median == pytest.approx(0.01, rel=1e-3)
    assert (measured.frames, measured.source, measured.reference) == (3, "three frames", "by hand")
    assert Deviation(**measured.to_dict()) == measured


@pytest.mark.parametrize(("median", "p95", "passes"), [(0.9, 0.9, True), (1.1, 0.9, False), (0.5, 1.1, False)])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_tolerances(precision: str, median: float, p95: float, passes: bool) -> None:
    tolerance = TOLERANCES[precision]
    deviation = Deviation(median * tolerance.median, p95 * tolerance.p95, 1.0, 1.0, 3, "frames", "ONNX Runtime")
    if passes:
        check_deviation(deviation, precision, "the engine")
        return
    with pytest.raises(BackendError, match="the engine computes something else than the model") as refused:
        check_deviation(deviation, precision, "the engine")
    assert "it is not used" in str(refused.value)


def test_a_deviation_that_is_no_number_is_refused() -> None:
    nan = Deviation(np.nan, np.nan, np.nan, np.nan, 1, "", "")
    with pytest.raises(BackendError):
        check_deviation(nan, "int8", "the engine")
