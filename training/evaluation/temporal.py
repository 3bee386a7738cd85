"""Temporal stability: how much predicted depth changes between neighbouring frames where the world does not.

Of a static point that is seen in frames a and b, depth changes from z_a to z_b only because the camera moves. With true
depth, poses and intrinsics, the pixels that see it and that change are known, so that what is left,

    |(d_b / d_a) / (z_b / z_a) - 1|,

is the prediction's own: 0 for depth that is right or wrong by one factor for ever, whatever the factor. It is the
warping error of video depth (Wang et al., "Less is more: consistent video depth estimation with masked frames
modeling", ACM MM 2022, OPW) with true correspondences in place of optical flow, relative in place of in metres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from training.data.image_files import read_rgb
from training.data.records import FrameRecord, Matrix
from training.errors import DataError
from training.evaluation.predictors import Predictor

VISIBLE = 0.05
"""Largest relative difference of the depth expected in frame b and that seen there, for the same point to be seen."""


@dataclass(frozen=True)
class Correspondences:
    """Points that two frames see, N of them.

    rows, columns: pixels of frame a, int [N]. x, y: pixels of frame b, float32 [N].
    ratio: true z_b / z_a, float64 [N]. noise: relative difference of frame b's true depth from the expected one,
        float64 [N], the part of any change that is the truth's own.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    ratio: NDArray[np.float64]
    noise: NDArray[np.float64]


@dataclass(frozen=True)
class TemporalStability:
    """Means over pairs of neighbouring frames, each pair counting once.

    change: mean relative change of depth along true correspondences, beyond the true change.
    scale_change: how much of it all points share: |median of the ratios - 1|, a flicker of the whole depth image.
    shape_change: what is left without that: mean |ratio / median - 1|.
    truth_change: the same as `change` of the true depth itself, its noise.
    """

    pairs: int
    change: float
    scale_change: float
    shape_change: float
    truth_change: float


def temporal_stability(
    predictor: Predictor, records: Sequence[FrameRecord], min_depth: float, max_depth: float
) -> TemporalStability:
    """Of a predictor, over all pairs of neighbouring records that have true depth, poses and intrinsics.

    min_depth, max_depth: of the points that count, in metres.

    Raises:
        DataError: there is no such pair with a point that both see.
    """
    rows = []
    kept: dict[str, NDArray[np.float32]] = {}  # disparities of the last two frames
    for a, b in neighbours(records):
        truths = [_truth(record) for record in (a, b)]
        points = find_correspondences(truths[0], truths[1], a, b, min_depth, max_depth)
        kept = {r.name: kept[r.name] if r.name in kept else _disparity(predictor, r) for r in (a, b)}
        disparities = [_resized(kept[r.name], truth.shape) for r, truth in zip((a, b), truths, strict=True)]
        ratios = change_ratios(disparities[0], disparities[1], points)
        if ratios.size:
            median = float(np.median(ratios))
            changes = (np.abs(ratios - 1), abs(median - 1), np.abs(ratios / median - 1), points.noise)
            rows.append([float(np.mean(change)) for change in changes])
    if not rows:
        raise DataError(
            f"none of {len(records)} frames has a neighbour that sees the same points: expected consecutive frames "
            "with true depth, poses and intrinsics"
        )
    return TemporalStability(len(rows), *np.mean(rows, axis=0).tolist())


def neighbours(records: Sequence[FrameRecord]) -> Iterator[tuple[FrameRecord, FrameRecord]]:
    """Each frame with the next one of its sequence, where both have depth, pose and intrinsics."""
    known = {(r.sequence, r.index): r for r in records if r.depth is not None and r.pose is not None and r.intrinsics}
    for (sequence, index), record in known.items():
        if (sequence, index + 1) in known:
            yield record, known[sequence, index + 1]


def find_correspondences(
    depth_a: NDArray[np.float32],
    depth_b: NDArray[np.float32],
    a: FrameRecord,
    b: FrameRecord,
    min_depth: float,
    max_depth: float,
) -> Correspondences:
    """The points that both frames see, by true depths float32 [H, W] in metres (0: none), poses and intrinsics."""
    camera_a, camera_b = _camera(a, depth_a.shape), _camera(b, depth_b.shape)
    T_b_a = np.linalg.inv(_pose(b)) @ _pose(a)
    rows, columns = np.nonzero((depth_a > min_depth) & (depth_a < max_depth))
    z_a = depth_a[rows, columns].astype(np.float64)
    ray = np.stack([(columns - camera_a.cx) / camera_a.fx, (rows - camera_a.cy) / camera_a.fy, np.ones(len(rows))])
    X, Y, z_b = T_b_a[:3, :3] @ (ray * z_a) + T_b_a[:3, 3:]
    in_front = z_b > 0
    safe = np.where(in_front, z_b, 1.0)  # no division by zero; these are left out below
    x = (camera_b.fx * X / safe + camera_b.cx).astype(np.float32)
    y = (camera_b.fy * Y / safe + camera_b.cy).astype(np.float32)
    # Inverse depth is linear on planes, so that linear interpolation is exact there.
    inverse_b = np.divide(1.0, depth_b, out=np.full(depth_b.shape, np.nan, np.float32), where=depth_b > 0)
    noise = np.abs(1.0 / (sampled(inverse_b, x, y) * safe) - 1)
    seen = in_front & (noise < VISIBLE)  # NaN is not
    return Correspondences(rows[seen], columns[seen], x[seen], y[seen], (z_b / z_a)[seen], noise[seen])


def change_ratios(
    disparity_a: NDArray[np.float32], disparity_b: NDArray[np.float32], points: Correspondences
) -> NDArray[np.float64]:
    """(d_b / d_a) / (z_b / z_a) of the points where both predictions, of the truths' sizes, have depth; float64 [M]."""
    at_a = disparity_a[points.rows, points.columns].astype(np.float64)
    at_b = sampled(disparity_b, points.x, points.y)
    predicted = np.isfinite(at_a) & np.isfinite(at_b) & (at_a > 0) & (at_b > 0)
    return at_a[predicted] / at_b[predicted] / points.ratio[predicted]


def sampled(image: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
    """Values at pixels (x, y) [N] by linear interpolation, NaN outside of the image or beside a NaN; float64 [N]."""
    values = np.full(x.shape, np.nan)
    height, width = image.shape
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    left, top = (np.minimum(np.floor(v[inside]).astype(int), limit - 2) for v, limit in ((x, width), (y, height)))
    across, down = x[inside] - left, y[inside] - top
    upper = image[top, left] * (1 - across) + image[top, left + 1] * across
    lower = image[top + 1, left] * (1 - across) + image[top + 1, left + 1] * across
    values[inside] = upper * (1 - down) + lower * down
    return values


def _disparity(predictor: Predictor, record: FrameRecord) -> NDArray[np.float32]:
    return predictor.disparity(read_rgb(record.image), record.intrinsics)


def _resized(disparity: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """As the metrics have it."""
    return np.asarray(cv2.resize(disparity, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _truth(record: FrameRecord) -> NDArray[np.float32]:
    assert record.depth is not None  # as `neighbours` has it
    return record.depth.read()


def _pose(record: FrameRecord) -> Matrix:
    assert record.pose is not None
    return record.pose


def _camera(record: FrameRecord, shape: tuple[int, ...]) -> PinholeCamera:
    assert record.intrinsics is not None
    return PinholeCamera.from_normalized(record.intrinsics, shape[1], shape[0])
