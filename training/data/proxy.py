"""Proxy depth from classical geometry, for supervision where no sensor measured depth.

Two sources of parallax: a rectified stereo partner (semi-global matching, Hirschmüller 2008, as the "depth hints" of
Watson et al. 2019), and neighbouring frames with known camera poses (dense optical flow, Kroeger et al. 2016,
triangulated). Moving objects whose motion follows the epipolar lines pass every check here: proxies are good on
average, not everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Depth = NDArray[np.float32]
Flow = NDArray[np.float32]


@dataclass(frozen=True)
class ProxyOptions:
    """Checks that a pixel must pass.

    Args:
        consistency: largest difference in pixels between a match and its way back.
        residual: largest distance in pixels between a match and the epipolar geometry of the triangulated point.
        flow_error: assumed standard deviation of a match in pixels.
        relative_error: largest standard deviation of inverse depth, relative to it.
        min_depth: nearest depth kept, in metres.
        max_depth: farthest depth kept, in metres.
    """

    consistency: float = 1.0
    residual: float = 1.0
    flow_error: float = 0.25
    relative_error: float = 0.1
    min_depth: float = 1.5
    max_depth: float = 80.0


def stereo_depth(
    left: Gray, right: Gray, focal_baseline: float, options: ProxyOptions, right_partner: bool = True
) -> Depth:
    """Depth of `left` from a rectified partner.

    Args:
        left: uint8 [H, W], the image that gets depth.
        right: uint8 [H, W], the rectified partner.
        focal_baseline: focal length in pixels times baseline in metres.
        options: checks.
        right_partner: False when the partner is the left camera of the pair.

    Returns:
        float32 [H, W], metres, 0 where no match passed the checks.
    """
    if not right_partner:
        return stereo_depth(left[:, ::-1], right[:, ::-1], focal_baseline, options)[:, ::-1]
    disparity = _match(left, right)
    backward = _match(right[:, ::-1], left[:, ::-1])[:, ::-1]
    columns = np.arange(left.shape[1], dtype=np.float32)[None] - disparity
    rows = np.broadcast_to(np.arange(left.shape[0], dtype=np.float32)[:, None], columns.shape)
    there = cv2.remap(backward, columns, rows, cv2.INTER_NEAREST, borderValue=-1e3)
    sure = (disparity > 0) & (np.abs(there - disparity) <= options.consistency)
    sure &= disparity * options.relative_error > options.flow_error
    return _bounded(focal_baseline / np.where(sure, disparity, np.inf), options)


def motion_depth(
    matches: Sequence[Flow],
    K: NDArray[np.float64],
    T_source_target: Sequence[NDArray[np.float64]],
    options: ProxyOptions,
) -> Depth:
    """Depth of a target image triangulated from its matches in frames with known relative poses.

    For a pixel with ray r, a source with rotation R, translation t and a match (u, v) gives two equations linear in
    inverse depth q: q (u t_z - t_x) = (R r)_x - u (R r)_z, and the same for v. They are solved by least squares over
    all sources, weighted by what they say in pixels, so that a source without parallax does not matter.

    Args:
        matches: float32 [H, W, 2] each, pixels from the target to where a source shows the same, NaN where unknown
            (`consistent_flow`).
        K: float64 [3, 3], pixels.
        T_source_target: float64 [4, 4] each, metres.
        options: checks.

    Returns:
        float32 [H, W], metres, 0 where fewer than two sources or no parallax support a depth.
    """
    views = [_match_equations(flow, K, T) for flow, T in zip(matches, T_source_target, strict=True)]
    a = np.stack([v[0] for v in views])  # [N, 2, H, W]: q a = b, in pixels
    b = np.stack([v[1] for v in views])
    weight = np.stack([v[2] for v in views])[:, None]
    for _ in range(2):  # the second pass leaves out the views that disagree with the first
        information = (weight * a * a).sum((0, 1))
        q = (weight * a * b).sum((0, 1)) / np.maximum(information, 1e-12)
        residual = np.sqrt(((q * a - b) ** 2).sum(1, keepdims=True))
        weight = weight * (residual <= options.residual)
    sure = (weight.sum((0, 1)) >= 2) & (q > 0)
    sure &= options.flow_error < options.relative_error * q * np.sqrt(information)
    return _bounded(1.0 / np.where(sure, q, 0.0001), options)


def consistent_flow(forward: Flow, backward: Flow, options: ProxyOptions) -> Flow:
    """`forward` [H, W, 2], NaN where `backward`, the flow of the other image, does not lead back to the pixel."""
    height, width = forward.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    u, v = x + forward[..., 0], y + forward[..., 1]
    returned = cv2.remap(backward, u, v, cv2.INTER_LINEAR, borderValue=(1e3, 1e3))
    consistent = np.hypot(*np.moveaxis(forward + returned, -1, 0)) <= options.consistency
    return np.where(consistent[..., None], forward, np.float32(np.nan))


def optical_flow(a: Gray, b: Gray) -> Flow:
    """Dense optical flow from a to b, pixels [H, W, 2]; small images are doubled first for finer matches."""
    height, width = a.shape
    if width >= 800:
        return np.asarray(_dis().calc(a, b, np.zeros((height, width, 2), np.float32)), np.float32)
    larger_a, larger_b = (cv2.resize(g, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC) for g in (a, b))
    flow = _dis().calc(larger_a, larger_b, np.zeros((2 * height, 2 * width, 2), np.float32))
    return np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA), np.float32) / 2.0


def _match(left: Gray, right: Gray) -> NDArray[np.float32]:
    """Semi-global matching; disparity in pixels, negative where none."""
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=96 if left.shape[1] < 1000 else 144,
        blockSize=5,
        P1=16 * 25,
        P2=128 * 25,
        uniquenessRatio=8,
        speckleWindowSize=100,
        speckleRange=2,
        preFilterCap=31,
        mode=cv2.StereoSGBM_MODE_SGBM_3WAY,
    )
    # Matches may lie left of the partner's border: pad, so that the left margin gets disparities, too.
    padded = [cv2.copyMakeBorder(np.ascontiguousarray(g), 0, 0, 144, 0, cv2.BORDER_REPLICATE) for g in (left, right)]
    return matcher.compute(*padded)[:, 144:].astype(np.float32) / 16.0


def _match_equations(
    flow: Flow, K: NDArray[np.float64], T: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Coefficients a, b [2, H, W] of q a = b in pixels, and weight [H, W]: 1 where there is a match, else 0."""
    height, width = flow.shape[:2]
    known = np.isfinite(flow[..., 0])
    pixels = np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    focal = np.array([K[0, 0], K[1, 1]], np.float32)[:, None, None]
    center = np.array([K[0, 2], K[1, 2]], np.float32)[:, None, None]
    ray = np.concatenate([(pixels - center) / focal, np.ones((1, height, width), np.float32)])
    rotated = np.einsum("ij,jhw->ihw", T[:3, :3].astype(np.float32), ray)
    seen = (pixels + np.where(known, np.moveaxis(flow, -1, 0), 0) - center) / focal
    t = T[:3, 3].astype(np.float32)
    scale = focal / np.maximum(rotated[2:], 1e-3)
    a = (seen * t[2] - t[:2, None, None]) * scale
    b = (rotated[:2] - seen * rotated[2:]) * scale
    return a, b, known.astype(np.float32)


def _dis() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _bounded(depth: NDArray[np.floating], options: ProxyOptions) -> Depth:
    keep = (depth >= options.min_depth) & (depth <= options.max_depth)
    return np.where(keep, depth, 0.0).astype(np.float32)
