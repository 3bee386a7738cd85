"""Procedural patterns that are functions of a surface point, band-limited by the pixel's footprint on the surface.

Without the band limit, detail finer than a pixel would alias: it would flicker from frame to frame, and no warp by
true depth could reproduce it. Arrays are stored axis first, [D, N] for N points in D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]

_AXIS_PRIMES = (np.uint32(0x9E3779B1), np.uint32(0x85EBCA77), np.uint32(0xC2B2AE3D))
_SEED_PRIME = np.uint32(0x27D4EB2F)


def hash_unit(key: NDArray[np.uint32]) -> Float:
    """Uniform numbers in [0, 1) from integers (the 32-bit finaliser `lowbias32` of C. Wellons)."""
    key = key ^ (key >> np.uint32(16))
    key = key * np.uint32(0x7FEB352D)
    key ^= key >> np.uint32(15)
    key *= np.uint32(0x846CA68B)
    key ^= key >> np.uint32(16)
    return (key >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def lattice_key(cells: NDArray[np.int32], seed: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash key of integer cells [D, N] under per-point seeds [N]."""
    key = seed * _SEED_PRIME
    for cell, prime in zip(cells.view(np.uint32), _AXIS_PRIMES, strict=False):
        key = key + cell * prime
    return key


def value_noise(coordinates: Float, seed: NDArray[np.uint32]) -> Float:
    """Smooth noise in [0, 1] on the integer lattice: coordinates [D, N] in cells, seed [N], returns [N]."""
    floor = np.floor(coordinates)
    fraction = coordinates - floor
    upper = fraction * fraction * (3 - 2 * fraction)
    key = lattice_key(floor.astype(np.int32), seed)
    total = np.zeros(coordinates.shape[1], np.float32)
    for corner in product((0, 1), repeat=len(coordinates)):
        corner_key, weight = key, np.ones_like(total)
        for axis, step in enumerate(corner):
            corner_key = corner_key + _AXIS_PRIMES[axis] if step else corner_key
            weight *= upper[axis] if step else 1 - upper[axis]
        total += weight * hash_unit(corner_key)
    return total


def fractal_noise(
    points: Float, footprint: Float, seed: NDArray[np.uint32], cell: Sequence[float], octaves: int, gain: float = 0.7
) -> Float:
    """Sum of octaves of value noise around 0, amplitude about 1. points, footprint: metres [D, N].

    `cell` is the coarsest cell per axis in metres; each octave halves it. An octave fades out where a pixel covers more
    than a fifth of its cell and is gone at half a cell (the sampling theorem's limit).
    """
    size = np.asarray(cell, np.float32)[:, None]
    ratio = np.max(footprint / size, axis=0)
    total = np.zeros(points.shape[1], np.float32)
    for octave in range(octaves):
        scale = np.float32(2**octave)
        weight = np.clip((0.5 - ratio * scale) / 0.3, 0, 1) * np.float32(gain**octave)
        seen = np.flatnonzero(weight)
        if seen.size == 0:
            break
        octave_seed = seed[seen] + np.uint32(octave * 101)
        total[seen] += weight[seen] * (2 * value_noise(points[:, seen] * (scale / size), octave_seed) - 1)
    return total


def edge(distance: Float, footprint: Float) -> Float:
    """0 to 1 as `distance` (metres) goes from below to above zero, smoothed over two pixels."""
    ramp = np.clip(distance / np.maximum(2 * footprint, 1e-3) + 0.5, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def stripe(position: Float, center: float, width: float, footprint: Float) -> Float:
    """Coverage in [0, 1] of one stripe, all in metres."""
    offset = position - center
    return edge(offset + width / 2, footprint) - edge(offset - width / 2, footprint)


def stripes(position: Float, period: Float | float, duty: Float | float, footprint: Float) -> Float:
    """Coverage in [0, 1] of stripes centred on multiples of `period` that fill `duty` of it; their mean where too fine.

    period in metres, duty in 0..1; each one number or one per point.
    """
    distance = np.abs(position - period * np.round(position / period))
    sharp = edge(duty * period / 2 - distance, footprint)
    return sharp + (duty - sharp) * np.clip(2 * (2 * footprint / period) - 1, 0, 1)
