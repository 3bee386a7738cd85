"""Depth metrics and the protocol around them (Eigen et al., NeurIPS 2014; Garg et al., ECCV 2016; Monodepth2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

# Top, bottom, left and right of the crop as shares of the image (Garg et al., 2016).
GARG_ROWS = (0.40810811, 0.99189189)
GARG_COLUMNS = (0.03594771, 0.96405229)

Depths = NDArray[np.float64]


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of predicted depth d against truth g over the pixels with both; logarithms are natural but for `log10`.

    abs_rel: mean |d - g| / g. sq_rel: mean (d - g)^2 / g, metres. rmse: root mean (d - g)^2, metres.
    rmse_log: root mean (ln d - ln g)^2. log10: mean |log10 d - log10 g|.
    silog: standard deviation of ln d - ln g, which no scale factor changes (Eigen et al., equation 4).
    a1, a2, a3: share of pixels with max(d / g, g / d) below 1.25, 1.25^2, 1.25^3.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    log10: float
    silog: float
    a1: float
    a2: float
    a3: float


METRIC_NAMES = tuple(field.name for field in fields(DepthMetrics))


def depth_metrics(prediction: Depths, truth: Depths) -> DepthMetrics:
    """Metrics of positive depths [N] in metres, N > 0."""
    difference = prediction - truth
    log_difference = np.log(prediction) - np.log(truth)
    ratio = np.maximum(prediction / truth, truth / prediction)
    return DepthMetrics(
        abs_rel=float(np.mean(np.abs(difference) / truth)),
        sq_rel=float(np.mean(difference**2 / truth)),
        rmse=float(np.sqrt(np.mean(difference**2))),
        rmse_log=float(np.sqrt(np.mean(log_difference**2))),
        log10=float(np.mean(np.abs(log_difference)) / np.log(10)),
        silog=float(np.std(log_difference)),
        a1=float(np.mean(ratio < 1.25)),
        a2=float(np.mean(ratio < 1.25**2)),
        a3=float(np.mean(ratio < 1.25**3)),
    )


def mean_metrics(rows: Sequence[DepthMetrics]) -> DepthMetrics:
    """Mean over frames, each frame counting once however many of its pixels have truth."""
    return DepthMetrics(*np.mean([astuple(row) for row in rows], axis=0).tolist())


def garg_box(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of Garg's crop: no sky, no bonnet, no strip that the laser does not reach."""
    return (
        slice(*(int(share * height) for share in GARG_ROWS)),
        slice(*(int(share * width) for share in GARG_COLUMNS)),
    )


def garg_crop(height: int, width: int) -> NDArray[np.bool_]:
    """Pixels inside Garg's crop, bool [H, W]."""
    inside = np.zeros((height, width), np.bool_)
    inside[garg_box(height, width)] = True
    return inside


def median_scale(prediction: Depths, truth: Depths) -> float:
    """The factor that gives the prediction the truth's median, both [N] (Zhou et al., CVPR 2017)."""
    return float(np.median(truth) / np.median(prediction))
