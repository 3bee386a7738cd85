"""Metric motion of a vehicle's camera from calibrated video: motions up to scale, and its height over the road.

Each frame's motion to its neighbours has a unit of length of its own. How these units follow each other is known from
what neighbouring frames say of the same motion, and what they are in metres from the road, frame by frame; both are
put together over the whole video.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.road_plane import road_plane
from training.data.video_motion import WindowMotion, window_motion

Gray = NDArray[np.uint8]
Float64 = NDArray[np.float64]
Motions = Mapping[int, Float64]
"""T_neighbour_reference, float64 [4, 4], metres, by offset in frames."""

REACH = 5  # frames on either side
_WIDTH = 832  # pixels of the images that motion is seen in, so that pixels mean the same for all videos
MIN_PARALLAX, MAX_NOISE = 3.0, 1.0  # pixels
ROAD_NEIGHBOURS = (-2, -1, 1, 2)
_HEIGHTS = (0.04, 4.0)  # over the road that are tried, in parts of the way to the farthest neighbour
# Standard deviations of logarithms: one frame's height; the ratio of two frames' units.
_HEIGHT_SIGMA, _LINK_SIGMA = 0.05, 0.004
_MIN_HEIGHTS = 5
_ROUNDS = 20


def metric_motions(
    indices: Sequence[int], read: Callable[[int], Gray], K: Float64, camera_height: float, pool: Executor
) -> dict[int, Motions]:
    """Motion from each frame to its neighbours up to `REACH` away; frames that it is not known of are left out.

    indices: of the frames there are; a gap in them is one in the video. K: float64 [3, 3], pixels. camera_height:
    metres over the road.
    """
    there = set(indices)
    height, width = read(indices[0]).shape
    size = _WIDTH, round(height * _WIDTH / width)
    K = _resized(K, size[0] / width, size[1] / height)
    resized = lru_cache(maxsize=8 * REACH)(lambda index: _shrunk(read(index), size))

    def look(index: int) -> tuple[int, WindowMotion | None, float | None]:
        images = {k: resized(index + k) for k in range(-REACH, REACH + 1) if index + k in there}
        motion = window_motion(images, K)
        if motion is None or motion.parallax < MIN_PARALLAX or motion.noise > MAX_NOISE:
            return index, None, None
        near = {k: T for k, T in motion.T_neighbour_reference.items() if k in ROAD_NEIGHBOURS}
        road = road_plane({k: images[k] for k in (0, *near)}, near, K, _HEIGHTS) if near else None
        return index, motion, None if road is None else road.height

    looked = list(pool.map(look, indices))
    motions = {index: motion for index, motion, _ in looked if motion is not None}
    heights = {index: height for index, _, height in looked if height is not None}
    units = metric_units(motions, heights, camera_height)
    return {
        index: {k: _scaled(T, unit) for k, T in motions[index].T_neighbour_reference.items()}
        for index, unit in units.items()
    }


def metric_units(
    motions: Mapping[int, WindowMotion], heights: Mapping[int, float], camera_height: float
) -> dict[int, float]:
    """Metres per unit of each frame's motion, for the frames in whose stretch the road was seen often enough.

    heights: of the camera over the road, in the frame's unit. Robust least squares (Cauchy's weights) over the
    logarithms, for each stretch of consecutive frames.
    """
    units: dict[int, float] = {}
    for stretch in _stretches(sorted(motions), motions):
        seen = [i for i, index in enumerate(stretch) if index in heights]
        if len(seen) < _MIN_HEIGHTS:
            continue
        steps = np.array([_shared(motions, a, b) for a, b in pairwise(stretch)], np.float64)
        measured = np.log([camera_height / heights[stretch[i]] for i in seen])
        logs = _smoothed(len(stretch), steps, np.array(seen), measured)
        units.update(zip(stretch, np.exp(logs).tolist(), strict=True))
    return units


def _smoothed(count: int, steps: Float64, seen: NDArray[np.intp], measured: Float64) -> Float64:
    """x [count] with x[i + 1] - x[i] = steps[i] and x[seen] = measured."""
    x = np.concatenate([[0.0], np.cumsum(steps)])
    x += np.median(measured - x[seen])
    for _ in range(_ROUNDS):
        link = _cauchy((np.diff(x) - steps) / _LINK_SIGMA) / _LINK_SIGMA**2
        height = np.zeros(count)
        height[seen] = _cauchy((x[seen] - measured) / _HEIGHT_SIGMA) / _HEIGHT_SIGMA**2
        pull = height.copy()
        pull[seen] *= measured
        pull[:-1] -= link * steps
        pull[1:] += link * steps
        diagonal = height.copy()
        diagonal[:-1] += link
        diagonal[1:] += link
        x = _solve_tridiagonal(diagonal, -link, pull)
    return x


def _solve_tridiagonal(diagonal: Float64, beside: Float64, right: Float64) -> Float64:
    """x of A x = right, A symmetric positive definite with `diagonal` [N] and `beside` [N - 1] it."""
    d, x = diagonal.copy(), right.copy()
    for i, off in enumerate(beside):
        factor = off / d[i]
        d[i + 1] -= factor * off
        x[i + 1] -= factor * x[i]
    x[-1] /= d[-1]
    for i in range(len(beside) - 1, -1, -1):
        x[i] = (x[i] - beside[i] * x[i + 1]) / d[i]
    return x


def _cauchy(ratio: Float64) -> Float64:
    return 1 / (1 + (ratio / 2.385) ** 2)


def _stretches(indices: Sequence[int], motions: Mapping[int, WindowMotion]) -> list[list[int]]:
    """Runs of frames, each of which has at least two neighbours in common with the one before."""
    stretches: list[list[int]] = []
    for index in indices:
        if stretches and _shared(motions, stretches[-1][-1], index) is not None:
            stretches[-1].append(index)
        else:
            stretches.append([index])
    return stretches


def _shared(motions: Mapping[int, WindowMotion], a: int, b: int) -> float | None:
    """Logarithm of b's unit of length over a's, by how far the frames that both know are apart; None for too few."""
    places_a, places_b = _centers(motions[a], a), _centers(motions[b], b)
    common = sorted(set(places_a) & set(places_b))
    if len(common) < 3:
        return None
    spread = [np.linalg.norm(p - p.mean(0)) for p in (np.array([q[i] for i in common]) for q in (places_a, places_b))]
    return float(np.log(spread[0] / spread[1])) if min(spread) > 0 else None


def _centers(motion: WindowMotion, index: int) -> dict[int, Float64]:
    """Where the cameras of a window are in its reference frame, by frame number."""
    return {index: np.zeros(3)} | {index + k: -T[:3, :3].T @ T[:3, 3] for k, T in motion.T_neighbour_reference.items()}


def _shrunk(image: Gray, size: tuple[int, int]) -> Gray:
    how = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _resized(K: Float64, across: float, down: float) -> Float64:
    """K of an image resized by these factors; pixel centres are integers."""
    resized = np.diag([across, down, 1.0]) @ K
    resized[:2, 2] += 0.5 * (np.array([across, down]) - 1)
    return resized


def _scaled(T: Float64, unit: float) -> Float64:
    scaled = T.copy()
    scaled[:3, 3] *= unit
    return scaled
