"""Distance bands and image regions against pixels counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.errors import DataError
from training.evaluation.metrics import depth_metrics
from training.evaluation.parts import PartScore, distance_bands, image_regions, pool_parts, score_parts
from training.evaluation.run import EvaluationOptions, score

TRUTH = np.array([[5.0, 9.999, 10.0], [39.0, 40.0, 0.0]], np.float32)


def test_bands_include_their_near_end() -> None:
    bands = distance_bands(TRUTH, (0.0, 10.0, 40.0, 80.0))
    assert list(bands) == ["0-10 m", "10-40 m", "40-80 m"]
    assert bands["0-10 m"].tolist() == [[True, True, False], [False, False, True]]  # 0 is no truth: never scored
    assert bands["10-40 m"].tolist() == [[False, False, True], [True, False, False]]
    assert bands["40-80 m"].tolist() == [[False, False, False], [False, True, False]]


def test_thirds_split_the_box_without_overlap_or_rest() -> None:
    regions = image_regions(20, 40, slice(5, 17), slice(4, 35))
    assert {name: int(mask[5:17, 4:35].sum()) for name, mask in regions.items() if "third" in name} == {
        "top third": 4 * 31,
        "middle third": 4 * 31,
        "bottom third": 4 * 31,
        "left third": 12 * 11,
        "centre third": 12 * 10,
        "right third": 12 * 10,
    }
    assert (regions["top third"][5:9, :]).all()
    assert not regions["top third"][9:].any()
    assert (regions["left third"][:, 4:15]).all()
    assert not regions["left third"][:, 15:].any()


def test_parts_hold_the_metrics_of_their_pixels_only() -> None:
    truth = np.where(np.arange(12) < 4, 5.0, 30.0).astype(np.float32).reshape(1, 12)
    prediction = truth.astype(np.float64) * np.where(np.arange(12) < 4, 1.1, 1.5)
    scored = np.ones((1, 12), np.bool_)
    scored[0, 0] = False
    near, far = score_parts(prediction, truth, scored, distance_bands(truth, (0.0, 20.0, 60.0, 80.0)))
    assert (near.part, near.pixels, far.part, far.pixels) == ("0-20 m", 3, "20-60 m", 8)
    assert near.metrics.abs_rel == pytest.approx(0.1)
    assert far.metrics.rmse == pytest.approx(15.0)


def test_pooled_errors_are_those_of_all_pixels_together() -> None:
    rng = np.random.default_rng(0)
    truths = [rng.uniform(1, 80, n) for n in (7, 500, 60)]
    predictions = [truth * np.exp(rng.normal(0, 0.3, truth.size)) for truth in truths]
    frames = [
        [PartScore("all", truth.size, depth_metrics(p, truth))] for p, truth in zip(predictions, truths, strict=True)
    ]
    (pooled,) = pool_parts(frames)
    together = depth_metrics(np.concatenate(predictions), np.concatenate(truths))
    assert pooled.pixels == 567
    for name in ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "a1", "a2", "a3"):
        assert getattr(pooled.metrics, name) == pytest.approx(getattr(together, name)), name
    variances = [np.var(np.log(p) - np.log(t)) for p, t in zip(predictions, truths, strict=True)]
    assert pooled.metrics.silog == pytest.approx(np.sqrt(np.average(variances, weights=[7, 500, 60])))


def test_a_part_without_pixels_is_left_out() -> None:
    frame = score(np.full((2, 3), 0.1, np.float32), np.full((2, 3), 15, np.float32), EvaluationOptions(crop="none"))
    assert frame is not None
    assert [part.part for part in frame.parts if part.part.endswith(" m")] == ["10-20 m"]


@pytest.mark.parametrize("bands", [(10.0, 5.0), (-1.0, 5.0), (1.0, 1.0)])
def test_bands_out_of_order_are_refused(bands: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="ascending"):
        EvaluationOptions(bands=bands)
