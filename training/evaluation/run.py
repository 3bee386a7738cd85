"""Score a predictor frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from training.data.dataset import read_rgb
from training.data.records import FrameRecord
from training.errors import DataError
from training.evaluation.metrics import DepthMetrics, depth_metrics, garg_crop, mean_metrics, median_scale
from training.evaluation.predictors import Predictor

Scaling = Literal["median", "none"] | float

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """The protocol.

    scaling: `median` gives each prediction its truth's median, `none` takes metres as they are, a number multiplies.
    min_depth, max_depth: truth outside these (metres) is not scored; predictions are clipped to them.
    crop: `garg`, or `none` for the whole image.

    Raises:
        DataError: an empty range of depths, or a factor that is not above 0.
    """

    scaling: Scaling = "median"
    min_depth: float = 1e-3
    max_depth: float = 80.0
    crop: Literal["garg", "none"] = "garg"

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.max_depth:
            raise DataError(f"depths from {self.min_depth} to {self.max_depth} m: expected 0 < min_depth < max_depth")
        if not isinstance(self.scaling, str) and not 0 < self.scaling < float("inf"):
            raise DataError(f"scaling is {self.scaling}: expected median, none or a factor above 0")


@dataclass(frozen=True)
class ScoredFrame:
    """A prediction brought to its truth.

    prediction: float64 [H, W] metres, scaled and clipped, NaN where there is none. truth: float32 [H, W] metres, 0
    where there is none. scored: bool [H, W], the pixels that `metrics` is about. scale: factor that the prediction was
    multiplied by. coverage: share of the protocol's truth pixels that the prediction has a depth for.
    """

    prediction: NDArray[np.float64]
    truth: NDArray[np.float32]
    scored: NDArray[np.bool_]
    scale: float
    coverage: float
    metrics: DepthMetrics


@dataclass(frozen=True)
class FrameRow:
    """Numbers of one frame; `pixels` is how many were scored."""

    name: str
    pixels: int
    coverage: float
    scale: float
    metrics: DepthMetrics


@dataclass(frozen=True)
class Evaluation:
    """Numbers of all frames and their mean; `unscored` names frames without a single pixel to score."""

    predictor: str
    options: EvaluationOptions
    rows: tuple[FrameRow, ...]
    unscored: tuple[str, ...]
    mean: DepthMetrics


def evaluate(
    predictor: Predictor, records: Sequence[FrameRecord], options: EvaluationOptions, progress: bool = True
) -> Evaluation:
    """Score every record that has depth.

    Raises:
        DataError: no frame could be scored.
    """
    with_truth = [record for record in records if record.depth is not None]
    if len(with_truth) < len(records):
        logger.warning(
            "%d of %d frames have no true depth and are not scored", len(records) - len(with_truth), len(records)
        )
    rows, unscored = [], []
    for record in track(with_truth, description=f"evaluating {predictor.name}", disable=not progress):
        frame = predict_and_score(predictor, record, options)
        if frame is None:
            unscored.append(record.name)
        else:
            rows.append(FrameRow(record.name, int(frame.scored.sum()), frame.coverage, frame.scale, frame.metrics))
    if unscored:
        logger.warning("%d frames have no pixel to score: %s", len(unscored), ", ".join(unscored[:5]))
    if not rows:
        raise DataError(
            f"none of {len(records)} frames can be scored: expected frames with true depth, see the warnings"
        )
    return Evaluation(
        predictor.name, options, tuple(rows), tuple(unscored), mean_metrics([row.metrics for row in rows])
    )


def predict_and_score(predictor: Predictor, record: FrameRecord, options: EvaluationOptions) -> ScoredFrame | None:
    """Score one frame that has depth; None where no pixel has both truth and prediction."""
    if record.depth is None:
        raise DataError(f"{record.name} has no true depth")
    return score(predictor.disparity(read_rgb(record.image), record.intrinsics), record.depth.read(), options)


def score(disparity: NDArray[np.float32], truth: NDArray[np.float32], options: EvaluationOptions) -> ScoredFrame | None:
    """Compare disparity [h, w] with true depth [H, W]; None where no pixel has both.

    As Monodepth2 does: the disparity is resized to the truth (bilinearly), then inverted, scaled and clipped.
    """
    height, width = truth.shape
    resized = cv2.resize(disparity, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    wanted = (truth > options.min_depth) & (truth < options.max_depth)
    if options.crop == "garg":
        wanted &= garg_crop(height, width)
    predicted = np.isfinite(resized) & (resized > 0)
    scored = wanted & predicted
    if not scored.any():
        return None
    depth = np.divide(1.0, resized, out=np.full_like(resized, np.nan), where=predicted)
    true_depth = truth[scored].astype(np.float64)
    scale = _scale(depth[scored], true_depth, options.scaling)
    depth = np.clip(depth * scale, options.min_depth, options.max_depth)
    return ScoredFrame(
        prediction=depth,
        truth=truth,
        scored=scored,
        scale=scale,
        coverage=float(scored.sum() / wanted.sum()),
        metrics=depth_metrics(depth[scored], true_depth),
    )


def _scale(prediction: NDArray[np.float64], truth: NDArray[np.float64], scaling: Scaling) -> float:
    if scaling == "median":
        return median_scale(prediction, truth)
    return 1.0 if scaling == "none" else float(scaling)
