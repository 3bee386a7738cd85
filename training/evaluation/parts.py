"""Where the error is: by distance of the truth, and by place in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import DepthMetrics, depth_metrics

THIRDS_OF_ROWS = ("top third", "middle third", "bottom third")
THIRDS_OF_COLUMNS = ("left third", "centre third", "right third")
ROOTS_OF_MEANS = ("rmse", "rmse_log", "silog")


@dataclass(frozen=True)
class PartScore:
    """Error over the scored pixels of one part of a frame, or of all frames."""

    part: str
    pixels: int
    metrics: DepthMetrics


def distance_bands(truth: NDArray[np.float32], edges: Sequence[float]) -> dict[str, NDArray[np.bool_]]:
    """Pixels [H, W] of each band of true depth, `NEAR-FAR m`, the near end included; edges in metres, ascending."""
    return {f"{near:g}-{far:g} m": (truth >= near) & (truth < far) for near, far in pairwise(edges)}


def image_regions(height: int, width: int, rows: slice, columns: slice) -> dict[str, NDArray[np.bool_]]:
    """Pixels [H, W] of the thirds of a box: three strips of rows, and three of columns."""
    regions = {}
    for names, box, axis in ((THIRDS_OF_ROWS, rows, 0), (THIRDS_OF_COLUMNS, columns, 1)):
        limits = np.linspace(box.start, box.stop, 4)
        place = np.arange((height, width)[axis])
        for name, (first, end) in zip(names, pairwise(limits), strict=True):
            strip = (place >= first) & (place < end)
            inside = strip[:, None] if axis == 0 else strip[None, :]
            regions[name] = np.broadcast_to(inside, (height, width))
    return regions


def score_parts(
    prediction: NDArray[np.float64],
    truth: NDArray[np.float32],
    scored: NDArray[np.bool_],
    parts: dict[str, NDArray[np.bool_]],
) -> tuple[PartScore, ...]:
    """Errors of depth [H, W] in each part that has a scored pixel."""
    scores = []
    for name, part in parts.items():
        chosen = scored & part
        if chosen.any():
            metrics = depth_metrics(prediction[chosen], truth[chosen].astype(np.float64))
            scores.append(PartScore(name, int(chosen.sum()), metrics))
    return tuple(scores)


def pool_parts(frames: Sequence[Sequence[PartScore]]) -> tuple[PartScore, ...]:
    """Error of each part over all pixels of all frames, in the order of first appearance.

    A pixel counts, not a frame: far bands have few pixels in many frames. silog is pooled within frames: the root of
    the mean variance of ln d - ln g.
    """
    by_name: dict[str, list[PartScore]] = {}
    for frame in frames:
        for score in frame:
            by_name.setdefault(score.part, []).append(score)
    return tuple(_pool(name, scores) for name, scores in by_name.items())


def _pool(name: str, scores: Sequence[PartScore]) -> PartScore:
    pixels = np.array([score.pixels for score in scores])
    rows = [asdict(score.metrics) for score in scores]
    pooled = {}
    for metric in rows[0]:
        values = np.array([row[metric] for row in rows])
        if metric in ROOTS_OF_MEANS:
            pooled[metric] = float(np.sqrt(np.average(values**2, weights=pixels)))
        else:
            pooled[metric] = float(np.average(values, weights=pixels))
    return PartScore(name, int(pixels.sum()), DepthMetrics(**pooled))
