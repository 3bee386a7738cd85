"""What a synthetic world is made of. World frame as REP 103: x forward, y left, z up, metres; the road is at z = 0."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["box", "ellipsoid", "cylinder"]
Material = Literal["facade", "plain", "foliage", "bark", "paint", "glass", "tyre"]
Color = tuple[float, float, float]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Primitive:
    """A solid with a pose, an appearance and a size.

    half_size: half extents along the object's axes (box), radii (ellipsoid), radii and half height along z (cylinder).
    color: albedo, RGB in 0..1. seed: which variant of the material's random pattern.
    """

    shape: Shape
    T_world_object: Float64
    half_size: tuple[float, float, float]
    material: Material
    color: Color
    seed: int = 0
    casts_shadow: bool = True


@dataclass(frozen=True)
class Street:
    """The ground: a road along a bending centre line y = f(x), with kerbs and pavements raised above it, then grass.

    bends: (amplitude m, wavelength m, phase rad) of the sines that f is the sum of, shifted to f(0) = 0.
    """

    bends: tuple[tuple[float, float, float], ...] = ()
    road_half_width: float = 5.5
    pavement_width: float = 3.0
    kerb_height: float = 0.12
    asphalt: Color = (0.32, 0.32, 0.33)
    pavement: Color = (0.52, 0.50, 0.47)
    grass: Color = (0.30, 0.38, 0.18)
    seed: int = 0

    def center(self, x: Float64) -> Float64:
        """y of the centre line at x, metres."""
        return sum((a * (np.sin(2 * np.pi * x / w + p) - np.sin(p)) for a, w, p in self.bends), 0.0 * x)

    def slope(self, x: Float64) -> Float64:
        """dy/dx of the centre line at x."""
        return sum((a * 2 * np.pi / w * np.cos(2 * np.pi * x / w + p) for a, w, p in self.bends), 0.0 * x)

    def lateral(self, x: Float64, y: Float64) -> Float64:
        """Distance to the left of the centre line, metres (exact to first order in distance times curvature)."""
        return (y - self.center(x)) / np.sqrt(1 + self.slope(x) ** 2)

    def pose(self, arc: float, lateral: float, height: float, yaw: float = 0.0) -> Float64:
        """T_world_object [4, 4] of an upright object: x along the road at `arc` metres, turned left by `yaw` radians.

        lateral: metres to the left of the centre line.

        Raises:
            ValueError: `arc` is off the street.
        """
        arcs, xs = _arc_table(self)
        if not arcs[0] <= arc <= arcs[-1]:
            raise ValueError(f"arc {arc} m is outside the street, which runs from {arcs[0]:.0f} m to {arcs[-1]:.0f} m")
        x = np.asarray(np.interp(arc, arcs, xs))
        heading = float(np.arctan(self.slope(x)))
        matrix = yaw_matrix(heading + yaw)
        matrix[:3, 3] = x - lateral * np.sin(heading), self.center(x) + lateral * np.cos(heading), height
        return matrix


@dataclass(frozen=True)
class World:
    """Primitives over an optional street, under a sun.

    sun: unit vector towards the sun, world frame. max_range: z-depth in metres beyond which nothing is seen.
    haze: metres over which contrast falls to 1/e. Colours are RGB in 0..1.
    """

    primitives: tuple[Primitive, ...] = ()
    street: Street | None = field(default_factory=Street)
    sun: tuple[float, float, float] = (0.36, 0.48, 0.8)
    sunlight: float = 0.75
    ambient: float = 0.45
    sky: Color = (0.42, 0.58, 0.82)
    horizon: Color = (0.80, 0.84, 0.88)
    haze: float = 400.0
    max_range: float = 200.0
    seed: int = 0


@lru_cache(maxsize=8)
def _arc_table(street: Street) -> tuple[Float64, Float64]:
    """Arc length along the centre line from x = 0, and x, at the same stations."""
    x = np.arange(-200, 2000, 0.1)
    arc = np.cumsum(np.hypot(np.diff(x, prepend=x[0]), np.diff(street.center(x), prepend=street.center(x[0]))))
    return arc - np.interp(0, x, arc), x


def yaw_matrix(yaw: float) -> Float64:
    """Rotation [4, 4] about z by `yaw` radians."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    return matrix
