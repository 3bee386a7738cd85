"""How a calibrated camera moved between the frames of a video, up to one scale per frame, from the video alone.

Corners of each frame are tracked through its neighbours (Lucas and Kanade, 1981), the farthest neighbour gives the
essential matrix (MAGSAC++, Barath et al., CVPR 2020), and a bundle adjustment over all of them the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Float64 = NDArray[np.float64]

MIN_TRACKS = 80
_CORNERS, _SPACING = 1200, 1 / 110  # how many, and how far apart in image widths
_BORDER = 8  # pixels without tracks
_BACK = 0.5  # pixels between a track's start and its way back
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.02)
_EPIPOLAR = 1.0  # pixels; beyond it a track is no inlier of the essential matrix
_MIN_SHARE = 0.35  # of the corners that a neighbour has to show to be the farthest
_CAUCHY, _TUKEY = 2.385, 4.685  # 95 % efficiency at the normal distribution
_NOISE_FLOOR = 0.05  # pixels
_ALONE, _ITERATIONS = 6, 16


@dataclass(frozen=True)
class WindowMotion:
    """Motion from a reference frame to its neighbours, in a unit of length of its own.

    T_neighbour_reference: float64 [4, 4] by offset in frames. parallax: median over the tracks of how far the
    translation to the farthest neighbour moves them, pixels. noise: standard deviation of a track, pixels.
    """

    T_neighbour_reference: Mapping[int, Float64]
    parallax: float
    noise: float


def window_motion(images: Mapping[int, Gray], K: Float64) -> WindowMotion | None:
    """Motion from images[0] to the others by their offset; None where too little could be tracked.

    K: float64 [3, 3], pixels.
    """
    tracks = _track(images)
    if len(tracks.offsets) < 2:
        return None
    start = _two_views(tracks, K)
    if start is None:
        return None
    return _adjusted(tracks, K, *start)


@dataclass(frozen=True)
class _Tracks:
    """pixels: [2, N] of the reference. seen: [M, 2, N] in neighbours, NaN where lost; offsets: [M]."""

    pixels: Float64
    seen: Float64
    offsets: tuple[int, ...]


def _track(images: Mapping[int, Gray]) -> _Tracks:
    reference = images[0]
    height, width = reference.shape
    corners = cv2.goodFeaturesToTrack(
        reference, _CORNERS, qualityLevel=0.002, minDistance=width * _SPACING, blockSize=5
    )
    if corners is None:
        return _Tracks(np.empty((2, 0)), np.empty((0, 2, 0)), ())
    seen: dict[int, Float64] = {}
    for direction in (-1, 1):
        position = np.asarray(corners, np.float32)
        velocity = np.zeros_like(position)
        alive = np.ones(len(corners), bool)
        image, offset = reference, direction
        while offset in images:
            found, tracked = _follow(image, images[offset], position, position + velocity)
            x, y = found[:, 0].T
            alive &= tracked & (x >= _BORDER) & (x < width - _BORDER) & (y >= _BORDER) & (y < height - _BORDER)
            if alive.sum() < MIN_TRACKS:
                break
            seen[offset] = np.where(alive, found[:, 0].T, np.nan).astype(np.float64)
            velocity, position, image = found - position, found, images[offset]
            offset += direction
    offsets = tuple(sorted(seen))
    return _Tracks(corners[:, 0].T.astype(np.float64), np.stack([seen[k] for k in offsets]), offsets)


def _follow(
    a: Gray, b: Gray, points: NDArray[np.float32], guess: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points [N, 1, 2] of a are in b, and which of them lead back."""
    track = partial(
        cv2.calcOpticalFlowPyrLK, winSize=(17, 17), maxLevel=4, criteria=_CRITERIA, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    found, forward, _ = track(a, b, points, guess.copy())
    back, backward, _ = track(b, a, found, points.copy())
    near = np.linalg.norm(back - points, axis=-1) < _BACK
    return np.asarray(found, np.float32), (near & (forward == 1) & (backward == 1))[:, 0]


def _two_views(tracks: _Tracks, K: Float64) -> tuple[int, Float64, Float64, Float64] | None:
    """The farthest neighbour that shows enough; rotation, translation (of length 1) to it, inverse depth [N] seen by
    it, NaN for outliers of its essential matrix."""
    found = np.isfinite(tracks.seen[:, 0])
    count = found.sum(1)
    enough = [m for m in range(len(found)) if count[m] >= max(MIN_TRACKS, _MIN_SHARE * found.shape[1])]
    if not enough:
        return None
    far = max(enough, key=lambda m: abs(tracks.offsets[m]))
    a, b = _rays(tracks.pixels[:, found[far]], K), _rays(tracks.seen[far][:, found[far]], K)
    cv2.setRNGSeed(0)
    essential, inliers = cv2.findEssentialMat(
        a[:2].T, b[:2].T, np.eye(3), cv2.USAC_MAGSAC, 0.9999, _EPIPOLAR / K[0, 0], 2000
    )
    if essential is None or essential.shape != (3, 3):
        return None
    _, rotation, translation, inliers = cv2.recoverPose(essential, a[:2].T, b[:2].T, np.eye(3), mask=inliers)
    t = translation[:, 0]
    seen, turned = b[:2], rotation @ a
    along, across = seen * t[2] - t[:2, None], turned[:2] - seen * turned[2]  # inverse depth times the first: second
    inverse_depth = np.full(found.shape[1], np.nan)
    inverse_depth[found[far]] = np.where(
        inliers[:, 0] > 0, (along * across).sum(0) / np.maximum((along**2).sum(0), 1e-12), np.nan
    )
    inverse_depth[~(inverse_depth > 0)] = np.nan
    return far, np.asarray(rotation, np.float64), np.asarray(t, np.float64), inverse_depth


def _adjusted(
    tracks: _Tracks, K: Float64, far: int, rotation: Float64, translation: Float64, inverse_depth: Float64
) -> WindowMotion | None:
    """Gauss-Newton over the motion to all neighbours and the inverse depth of all points, which are eliminated."""
    usable = np.isfinite(inverse_depth) & (np.isfinite(tracks.seen[:, 0]).sum(0) >= 2)
    if usable.sum() < MIN_TRACKS:
        return None
    rays, rho = _rays(tracks.pixels[:, usable], K), inverse_depth[usable]
    seen = np.stack([_rays(view[:, usable], K)[:2] for view in tracks.seen])
    exists = np.isfinite(seen[:, 0])
    seen = np.where(exists[:, None], seen, 0.0)
    shares = np.array(tracks.offsets) / tracks.offsets[far]
    axis = cv2.Rodrigues(rotation)[0][:, 0]
    rotations = np.stack([cv2.Rodrigues(share * axis)[0] for share in shares])
    translations = shares[:, None] * translation
    focal = float(K[0, 0])
    for iteration in range(_ITERATIONS):
        alone = iteration < _ALONE  # first the motions, by the points as two views saw them
        linear = _linearized(rays, rho, seen, exists, rotations, translations, _NOISE_FLOOR / focal, alone)
        try:
            poses, points = _step(linear, alone)
        except np.linalg.LinAlgError:
            return None
        turn = np.stack([cv2.Rodrigues(step[:3])[0] for step in poses])
        rotations = turn @ rotations
        translations = np.einsum("mij,mj->mi", turn, translations) + poses[:, 3:]
        rho = np.maximum(rho + points, 1e-6)
        unit = float(np.linalg.norm(translations[far]))  # the unit of length is free: keep it
        if not np.isfinite(unit) or unit < 1e-9:
            return None
        translations, rho = translations / unit, rho * unit
        if not alone and np.abs(poses[:, :3]).max() * focal < 1e-3:
            break
    noise = _linearized(rays, rho, seen, exists, rotations, translations, _NOISE_FLOOR / focal).noise * focal
    motion = {}
    for offset, R, t in zip(tracks.offsets, rotations, translations, strict=True):
        motion[offset] = np.eye(4)
        motion[offset][:3, :3], motion[offset][:3, 3] = R, t
    return WindowMotion(motion, float(np.median(rho)) * focal, noise)


@dataclass(frozen=True)
class _Linear:
    """pose: [M, 2, 6, N] and depth: [M, 2, N], derivatives of what is seen; residuals [M, 2, N], weights [M, N]."""

    pose: Float64
    depth: Float64
    residuals: Float64
    weights: Float64
    noise: float


def _linearized(
    rays: Float64,
    rho: Float64,
    seen: Float64,
    exists: NDArray[np.bool_],
    R: Float64,
    t: Float64,
    floor: float,
    by_view: bool = False,
) -> _Linear:
    """Points P = R ray + rho t are seen at (Px, Py) / Pz; P -> exp(omega) P + rho tau.

    by_view: each view's noise is its own, and outliers have a say (Cauchy's weights), so that views find their motion
    from afar; else outliers have none (Tukey's).
    """
    points = R @ rays + t[:, :, None] * rho
    exists = exists & (points[:, 2] > 0.05)
    inverse_z = 1 / np.where(exists, points[:, 2], 1.0)
    plane = points[:, :2] * inverse_z[:, None]
    a, b = plane[:, 0], plane[:, 1]
    near = rho * inverse_z
    pose = np.zeros((len(R), 2, 6, rays.shape[1]))
    pose[:, 0, 0], pose[:, 0, 1], pose[:, 0, 2] = -a * b, 1 + a * a, -b
    pose[:, 1, 0], pose[:, 1, 1], pose[:, 1, 2] = -1 - b * b, a * b, a
    pose[:, 0, 3] = pose[:, 1, 4] = near
    pose[:, 0, 5], pose[:, 1, 5] = -a * near, -b * near
    depth = (t[:, :2, None] - plane * t[:, 2, None, None]) * inverse_z[:, None]
    residuals = np.where(exists[:, None], plane - seen, 0.0)
    squared = (residuals**2).sum(1)
    # The median squared length of a normal vector in the plane is 2 log 2 sigma^2.
    median = np.nanmedian(np.where(exists, squared, np.nan), axis=1 if by_view else None, keepdims=True)
    noise = np.maximum(floor, np.sqrt(median / (2 * np.log(2))))
    ratio = squared / noise**2
    weights = exists / (1 + ratio / _CAUCHY**2) if by_view else exists * np.clip(1 - ratio / _TUKEY**2, 0, None) ** 2
    return _Linear(pose, depth, residuals, weights, float(noise.max()))


def _step(linear: _Linear, motion_alone: bool) -> tuple[Float64, Float64]:
    """Changes of the poses [M, 6] and of the inverse depth [N]."""
    views, _, size, count = linear.pose.shape
    weighted = linear.pose * linear.weights[:, None, None]
    blocks = np.einsum("mdin,mdjn->mij", weighted, linear.pose)
    gradient = np.einsum("mdin,mdn->mi", weighted, linear.residuals)
    if motion_alone:
        return -np.linalg.solve(blocks + 1e-9 * np.eye(size), gradient[..., None])[..., 0], np.zeros(count)
    coupling = np.einsum("mdin,mdn->min", weighted, linear.depth).reshape(views * size, count)
    point = (linear.weights[:, None] * linear.depth**2).sum((0, 1))
    point_gradient = (linear.weights[:, None] * linear.depth * linear.residuals).sum((0, 1))
    known = point > 1e-9
    point = np.where(known, point * (1 + 1e-4), 1.0)
    coupling[:, ~known] = 0.0
    eliminated = coupling / point
    hessian = -eliminated @ coupling.T
    for m in range(views):
        own = slice(size * m, size * (m + 1))
        hessian[own, own] += blocks[m]
    hessian[np.diag_indices(len(hessian))] += 1e-9 * (1 + np.diag(hessian))
    poses = -np.linalg.solve(hessian, gradient.ravel() - eliminated @ point_gradient)
    points = np.where(known, -(point_gradient + poses @ coupling) / point, 0.0)
    return poses.reshape(views, size), points


def _rays(pixels: Float64, K: Float64) -> Float64:
    """[3, N] with z = 1, of pixels [2, N]."""
    x, y = pixels
    return np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)])
