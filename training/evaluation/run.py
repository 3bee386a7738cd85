"""Score a predictor frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from training.data.image_files import read_rgb
from training.data.records import FrameRecord
from training.errors import DataError
from training.evaluation.metrics import DepthMetrics, depth_metrics, garg_box, mean_metrics, median_scale
from training.evaluation.parts import PartScore, distance_bands, image_regions, score_parts
from training.evaluation.predictors import Predictor, predict_batch

Scaling = Literal["median", "none"] | float

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """The protocol.

    scaling: `median` gives each prediction its truth's median, `none` takes metres as they are, a number multiplies.
    min_depth, max_depth: truth outside these (metres) is not scored; predictions are clipped to them.
    crop: `garg`, or `none` for the whole image.
    bands: limits in metres of the distances that are scored apart.

    Raises:
        DataError: an empty range of depths, a factor that is not above 0, or bands out of order.
    """

    scaling: Scaling = "median"
    min_depth: float = 1e-3
    max_depth: float = 80.0
    crop: Literal["garg", "none"] = "garg"
    bands: tuple[float, ...] = (0.0, 10.0, 20.0, 40.0, 80.0)

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.max_depth:
            raise DataError(f"depths from {self.min_depth} to {self.max_depth} m: expected 0 < min_depth < max_depth")
        if not isinstance(self.scaling, str) and not 0 < self.scaling < float("inf"):
            raise DataError(f"scaling is {self.scaling}: expected median, none or a factor above 0")
        if any(not 0 <= near < far for near, far in pairwise(self.bands)):
            raise DataError(f"bands are {list(self.bands)}: expected distances in metres, ascending from 0 or more")


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
    parts: tuple[PartScore, ...]


@dataclass(frozen=True)
class FrameRow:
    """Numbers of one frame; `pixels` is how many were scored, `parts` says where the error is."""

    name: str
    pixels: int
    coverage: float
    scale: float
    metrics: DepthMetrics
    parts: tuple[PartScore, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Numbers of all frames and their mean; `unscored` names frames without a single pixel to score."""

    predictor: str
    options: EvaluationOptions
    rows: tuple[FrameRow, ...]
    unscored: tuple[str, ...]
    mean: DepthMetrics


def evaluate(
    predictor: Predictor,
    records: Sequence[FrameRecord],
    options: EvaluationOptions,
    batch: int = 1,
    progress: bool = True,
) -> Evaluation:
    """Score every record that has depth, predicting `batch` frames at once.

    Raises:
        DataError: no frame could be scored.
    """
    with_truth = [record for record in records if record.depth is not None]
    if len(with_truth) < len(records):
        logger.warning(
            "%d of %d frames have no true depth and are not scored", len(records) - len(with_truth), len(records)
        )
    rows, unscored = [], []
    frames = predict_and_score_all(predictor, with_truth, options, batch)
    description = f"evaluating {predictor.name}"
    for record, frame in track(frames, description=description, total=len(with_truth), disable=not progress):
        if frame is None:
            unscored.append(record.name)
            continue
        pixels = int(frame.scored.sum())
        rows.append(FrameRow(record.name, pixels, frame.coverage, frame.scale, frame.metrics, frame.parts))
    if unscored:
        logger.warning("%d frames have no pixel to score: %s", len(unscored), ", ".join(unscored[:5]))
    if not rows:
        raise DataError(
            f"none of {len(records)} frames can be scored: expected frames with true depth, see the warnings"
        )
    return Evaluation(
        predictor.name, options, tuple(rows), tuple(unscored), mean_metrics([row.metrics for row in rows])
    )


def predict_and_score_all(
    predictor: Predictor, records: Sequence[FrameRecord], options: EvaluationOptions, batch: int = 1
) -> Iterator[tuple[FrameRecord, ScoredFrame | None]]:
    """Each record with its score, None where no pixel has both truth and prediction; records must have depth."""
    for start in range(0, len(records), batch):
        chunk = records[start : start + batch]
        images = [read_rgb(record.image) for record in chunk]
        disparities = predict_batch(predictor, images, [record.intrinsics for record in chunk])
        for record, disparity in zip(chunk, disparities, strict=True):
            if record.depth is None:
                raise DataError(f"{record.name} has no true depth")
            yield record, score(disparity, record.depth.read(), options)


def score(disparity: NDArray[np.float32], truth: NDArray[np.float32], options: EvaluationOptions) -> ScoredFrame | None:
    """Compare disparity [h, w] with true depth [H, W]; None where no pixel has both.

    As Monodepth2 does: the disparity is resized to the truth (bilinearly), then inverted, scaled and clipped.
    """
    height, width = truth.shape
    resized = cv2.resize(disparity, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    wanted = (truth > options.min_depth) & (truth < options.max_depth)
    rows, columns = garg_box(height, width) if options.crop == "garg" else (slice(0, height), slice(0, width))
    inside = np.zeros((height, width), np.bool_)
    inside[rows, columns] = True
    wanted &= inside
    predicted = np.isfinite(resized) & (resized > 0)
    scored = wanted & predicted
    if not scored.any():
        return None
    depth = np.divide(1.0, resized, out=np.full_like(resized, np.nan), where=predicted)
    true_depth = truth[scored].astype(np.float64)
    scale = _scale(depth[scored], true_depth, options.scaling)
    depth = np.clip(depth * scale, options.min_depth, options.max_depth)
    parts = {**distance_bands(truth, options.bands), **image_regions(height, width, rows, columns)}
    return ScoredFrame(
        prediction=depth,
        truth=truth,
        scored=scored,
        scale=scale,
        coverage=float(scored.sum() / wanted.sum()),
        metrics=depth_metrics(depth[scored], true_depth),
        parts=score_parts(depth, truth, scored, parts),
    )


def _scale(prediction: NDArray[np.float64], truth: NDArray[np.float64], scaling: Scaling) -> float:
    if scaling == "median":
        return median_scale(prediction, truth)
    return 1.0 if scaling == "none" else float(scaling)
