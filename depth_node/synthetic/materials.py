"""Appearance of surfaces: albedo as a function of the surface point, band-limited by the pixel's footprint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_node.synthetic.noise import Float, edge, fractal_noise, hash_unit, lattice_key, stripe, stripes
from depth_node.synthetic.world import Color, Street


@dataclass(frozen=True)
class Surface:
    """N surface points, all arrays axis first; positions, normals and footprints in the object's frame, metres.

    position, normal, footprint (extent of the pixel along each axis), color (albedo), half_size: [3, N].
    seed: uint32 [N].
    """

    position: Float
    normal: Float
    footprint: Float
    color: Float
    half_size: Float
    seed: NDArray[np.uint32]


def column(color: Color) -> Float:
    """[3, 1], to go with arrays [3, N]."""
    return np.array(color, np.float32)[:, None]


def mix(base: Float, color: Float, coverage: Float) -> Float:
    """Base albedo [3, N] with `color` [3, N] or [3, 1] painted over it by coverage [N]."""
    return base + coverage * (color - base)


def _facade(surface: Surface) -> Float:
    """Plaster with rows of windows, on the four vertical faces; storeys are about 3 m high."""
    along_x = np.abs(surface.normal[1]) > np.abs(surface.normal[0])
    across = np.where(along_x, surface.position[0], surface.position[1])
    across_footprint = np.where(along_x, surface.footprint[0], surface.footprint[1])
    width = 2 * np.where(along_x, surface.half_size[0], surface.half_size[1])
    up, up_footprint = surface.position[2] + surface.half_size[2], surface.footprint[2]
    pattern = hash_unit(surface.seed[None] + np.arange(4, dtype=np.uint32)[:, None] * np.uint32(7919))

    columns = np.maximum(np.round(width / (2.2 + 1.6 * pattern[0])), 1)
    column_width = width / columns
    storey = 2 * surface.half_size[2] / np.maximum(np.round(2 * surface.half_size[2] / (2.8 + 0.6 * pattern[1])), 1)
    shift_across = across - np.where(columns % 2 == 0, column_width / 2, 0)
    shift_up = up - 0.55 * storey
    duty_across, duty_up = 0.32 + 0.3 * pattern[2], 0.40 + 0.2 * pattern[3]

    def window(margin: float) -> Float:
        horizontal = stripes(shift_across, column_width, duty_across + margin / column_width, across_footprint)
        return horizontal * stripes(shift_up, storey, duty_up + margin / storey, up_footprint)

    cells = np.stack([np.round(shift_across / column_width), np.round(shift_up / storey)]).astype(np.int32)
    brightness = hash_unit(lattice_key(cells, surface.seed + along_x))
    blurred = np.maximum(across_footprint / column_width, up_footprint / storey)
    brightness = 0.35 + (brightness - 0.35) * np.clip(2 - 4 * blurred, 0, 1)
    glass = column((0.10, 0.13, 0.17)) + 0.45 * brightness**3 * column((0.9, 1.0, 1.1))

    grain = fractal_noise(surface.position, surface.footprint, surface.seed, (1.5, 1.5, 1.5), octaves=7, gain=0.8)
    wall = surface.color * np.clip(1 + 0.20 * grain, 0.2, None)
    wall = wall * (1 - 0.35 * edge(0.7 - up, up_footprint))  # plinth
    wall = wall * (1 - 0.25 * stripes(up, storey, 0.08, up_footprint))  # cornices
    frame = mix(wall, column((0.85, 0.84, 0.80)), 0.8 * window(0.22))
    return mix(frame, glass, window(0.0))


def _plain(surface: Surface) -> Float:
    grain = fractal_noise(surface.position, surface.footprint, surface.seed, (0.8, 0.8, 0.8), octaves=6)
    return surface.color * (1 + 0.25 * grain)


def _foliage(surface: Surface) -> Float:
    leaves = fractal_noise(surface.position, surface.footprint, surface.seed, (0.9, 0.9, 0.9), octaves=6, gain=0.9)
    underside = 0.75 + 0.25 * surface.normal[2]
    return surface.color * np.clip(1 + 0.65 * leaves, 0.15, None) * underside


def _bark(surface: Surface) -> Float:
    ridges = fractal_noise(surface.position, surface.footprint, surface.seed, (0.12, 0.12, 0.8), octaves=4)
    return surface.color * (1 + 0.4 * ridges)


def _paint(surface: Surface) -> Float:
    """Car body: a sheen on upward faces, lamps at both ends, a dark sill."""
    grain = fractal_noise(surface.position, surface.footprint, surface.seed, (0.7, 0.7, 0.5), octaves=3)
    body = surface.color * (1 + 0.10 * grain + 0.25 * surface.normal[2])
    x, y, z = surface.position / surface.half_size
    fx, fy, fz = surface.footprint / surface.half_size
    at_end = np.abs(surface.normal[0]) > 0.5
    lamp = at_end * stripe(np.abs(y), 0.78, 0.30, fy) * stripe(z, 0.25, 0.5, fz)
    body = mix(body, np.where(x > 0, column((0.9, 0.9, 0.85)), column((0.6, 0.06, 0.05))), lamp)
    plate = at_end * stripe(y, 0.0, 0.5, fy) * stripe(z, -0.3, 0.3, fz)
    body = mix(body, column((0.8, 0.8, 0.7)), plate)
    door = (np.abs(surface.normal[1]) > 0.5) * (stripe(np.abs(x - 0.05), 0.3, 0.02, fx))
    return mix(body, column((0.05, 0.05, 0.05)), np.maximum(0.7 * door, 0.7 * edge(-0.75 - z, fz)))


def _glass(surface: Surface) -> Float:
    """Car cabin: dark glass all round with pillars, a roof of the car's colour."""
    x, _, z = surface.position / surface.half_size
    fx, _, fz = surface.footprint / surface.half_size
    pane = stripe(z, 0.45, 0.55, fz) * (1 - stripe(x, 0.05, 0.10, fx))
    return mix(surface.color * (1 + 0.25 * surface.normal[2]), column((0.10, 0.13, 0.17)), pane)


def _tyre(surface: Surface) -> Float:
    radius = np.hypot(surface.position[0], surface.position[1]) / surface.half_size[0]
    footprint = np.hypot(surface.footprint[0], surface.footprint[1]) / surface.half_size[0]
    return mix(
        surface.color, column((0.55, 0.55, 0.57)), edge(0.62 - radius, footprint) * (np.abs(surface.normal[2]) > 0.5)
    )


ALBEDO: dict[str, Callable[[Surface], Float]] = {
    "facade": _facade,
    "plain": _plain,
    "foliage": _foliage,
    "bark": _bark,
    "paint": _paint,
    "glass": _glass,
    "tyre": _tyre,
}


def street_albedo(street: Street, position: Float, footprint: Float) -> Float:
    """Albedo [3, N] of road, markings, kerb, pavement and grass at world points [3, N]."""
    x, y = position[0].astype(np.float64), position[1].astype(np.float64)
    lateral = street.lateral(x, y).astype(np.float32)
    slope = street.slope(x)
    along = (x + slope * (y - street.center(x)) / (1 + slope**2)).astype(
        np.float32
    )  # x of the centre line's nearest point
    cosine = (1 / np.sqrt(1 + slope**2)).astype(np.float32)
    sine = np.abs(slope).astype(np.float32) * cosine
    lateral_footprint = sine * footprint[0] + cosine * footprint[1]
    along_footprint = cosine * footprint[0] + sine * footprint[1]
    seed = np.full(lateral.shape, street.seed, np.uint32)
    plane, extent = np.stack([along, lateral]), np.stack([along_footprint, lateral_footprint])

    wear = fractal_noise(plane, extent, seed, (6.0, 0.8), octaves=2)
    grain = fractal_noise(plane, extent, seed + np.uint32(1), (0.8, 0.4), octaves=6, gain=0.8)
    road = column(street.asphalt) * np.clip(1 + 0.16 * wear + 0.20 * grain, 0.2, None)
    dashes = stripes(along, 9.0, 1 / 3, along_footprint)
    line = stripe(lateral, 0.0, 0.15, lateral_footprint) * dashes
    side = stripe(np.abs(lateral), street.road_half_width - 2.2, 0.12, lateral_footprint)
    road = mix(road, column((0.86, 0.86, 0.82)), np.clip(line + side, 0, 1) * (0.85 + 0.15 * grain))

    beyond = np.abs(lateral) - street.road_half_width
    tiles = np.maximum(
        stripes(along - 0.3, 0.6, 0.04, along_footprint), stripes(lateral - 0.3, 0.6, 0.04, lateral_footprint)
    )
    pavement = column(street.pavement) * np.clip(1 + 0.15 * wear + 0.15 * grain - 0.35 * tiles, 0.2, None)
    pavement = mix(pavement, column((0.66, 0.65, 0.62)), 0.8 * edge(0.18 - beyond, lateral_footprint))  # kerbstone
    tufts = fractal_noise(plane, extent, seed + np.uint32(2), (1.6, 1.6), octaves=6, gain=0.85)
    grass = column(street.grass) * np.clip(1 + 0.45 * tufts, 0.1, None)
    ground = mix(road, pavement, edge(beyond, lateral_footprint))
    return mix(ground, grass, edge(beyond - street.pavement_width, lateral_footprint))
