"""A street drawn at random from a seed, and a drive along it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.synthetic.render import render, seen_primitives
from depth_node.synthetic.world import Color, Float64, Material, Primitive, Shape, Street, World

CAMERA_HEIGHT = 1.65  # metres over the road, as KITTI's

# Camera axes (x right, y down, z forward) in the vehicle's (x forward, y left, z up, on the ground); REP 103.
T_BASE_CAMERA = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, CAMERA_HEIGHT], [0, 0, 0, 1]])

_WALLS: tuple[Color, ...] = (
    (0.78, 0.72, 0.60),
    (0.68, 0.50, 0.40),
    (0.55, 0.33, 0.27),
    (0.75, 0.75, 0.73),
    (0.62, 0.66, 0.70),
    (0.80, 0.66, 0.45),
    (0.50, 0.50, 0.48),
)
_PAINTS: tuple[Color, ...] = (
    (0.72, 0.73, 0.75),
    (0.08, 0.08, 0.09),
    (0.35, 0.36, 0.38),
    (0.55, 0.06, 0.07),
    (0.10, 0.16, 0.38),
    (0.80, 0.80, 0.78),
    (0.20, 0.30, 0.22),
    (0.62, 0.52, 0.30),
)


@dataclass(frozen=True)
class SyntheticFrame:
    """One frame of a drive.

    rgb: uint8 [H, W, 3]; depth: float32 [H, W], metres along z, NaN for the sky; moving: uint8 [H, W], the number of
    the moving car, counting from 1, that a pixel sees; 0 for all that stands.
    """

    stamp_ns: int
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    camera: PinholeCamera
    T_world_camera: Float64
    moving: NDArray[np.uint8]


@dataclass(frozen=True)
class MovingCar:
    """A car that drives along a street, turning with its bends.

    arc: metres along the street at the drive's first frame. lateral: metres to the left of its centre line.
    speed: m/s along the street; negative for a car that comes the other way, which it also faces.
    """

    arc: float
    speed: float
    lateral: float = 1.7
    color: Color = (0.55, 0.06, 0.07)
    seed: int = 0

    def primitives(self, street: Street, time: float) -> list[Primitive]:
        """Its parts, `time` seconds after the first frame."""
        heading = np.pi if self.speed < 0 else 0.0
        pose = street.pose(self.arc + self.speed * time, self.lateral, 0.0, heading)
        return car(pose, self.color, self.seed)


def street_world(seed: int, length: float = 400.0) -> World:
    """A street of `length` metres with houses, trees, lamp posts, signs, hedges and parked cars, drawn from `seed`."""
    rng = np.random.default_rng(seed)
    street = Street(
        bends=((rng.uniform(4, 12), rng.uniform(110, 170), rng.uniform(0, 6.28)), (1.0, 47.0, rng.uniform(0, 6.28))),
        road_half_width=rng.uniform(5.0, 6.5),
        pavement_width=rng.uniform(2.0, 4.0),
        kerb_height=rng.uniform(0.08, 0.15),
        asphalt=_vary(rng, (0.33, 0.33, 0.34), 0.25),
        pavement=_vary(rng, (0.52, 0.50, 0.47), 0.2),
        grass=_vary(rng, (0.30, 0.38, 0.18), 0.2),
        seed=int(rng.integers(1 << 30)),
    )
    primitives: list[Primitive] = []
    density = rng.uniform(0.2, 0.9, 4)  # of houses, trees, parked cars, furniture
    for side in (-1.0, 1.0):
        primitives += _houses(rng, street, side, length, density[0])
        primitives += _trees(rng, street, side, length, density[1])
        primitives += _furniture(rng, street, side, length, density[3])
        primitives += _parked_cars(rng, street, side, length, density[2])
    elevation, azimuth = rng.uniform(0.4, 1.1), rng.uniform(0, 2 * np.pi)
    horizontal = np.cos(elevation)
    haze = rng.uniform(0.75, 0.9)
    return World(
        primitives=tuple(primitives),
        street=street,
        sun=(float(horizontal * np.cos(azimuth)), float(horizontal * np.sin(azimuth)), float(np.sin(elevation))),
        sunlight=rng.uniform(0.4, 0.9),
        ambient=rng.uniform(0.4, 0.6),
        sky=_vary(rng, (0.42, 0.58, 0.82), 0.15),
        horizon=(haze - 0.02, haze, haze + 0.04),
        haze=rng.uniform(250, 800),
        seed=int(rng.integers(1 << 30)),
    )


def street_drive(
    world: World,
    camera: PinholeCamera,
    frames: int,
    speed: float = 8.0,
    rate: float = 10.0,
    start: float = 0.0,
    start_stamp_ns: int = 1_700_000_000_000_000_000,
    traffic: Sequence[MovingCar] = (),
) -> Iterator[SyntheticFrame]:
    """Frames of a camera driven along the world's street, in the right-hand lane, turning with its bends.

    speed in m/s, rate in Hz, start in metres along the street; traffic: cars that move meanwhile.

    Raises:
        ValueError: the world has no street.
    """
    if world.street is None:
        raise ValueError("a drive needs a world with a street")
    for number in range(frames):
        T_world_camera = base_pose(world.street, start + number * speed / rate) @ T_BASE_CAMERA
        cars = [moving.primitives(world.street, number / rate) for moving in traffic]
        now = replace(world, primitives=(*world.primitives, *(part for parts in cars for part in parts)))
        rgb, depth = render(now, camera, T_world_camera)
        yield SyntheticFrame(
            start_stamp_ns + round(number * 1e9 / rate),
            rgb,
            depth,
            camera,
            T_world_camera,
            _moving(now, camera, T_world_camera, first=len(world.primitives), sizes=[len(parts) for parts in cars]),
        )


def _moving(
    world: World, camera: PinholeCamera, T_world_camera: Float64, first: int, sizes: Sequence[int]
) -> NDArray[np.uint8]:
    """Numbers uint8 [H, W] of moving things, whose parts are the world's primitives from `first` on."""
    if not sizes:
        return np.zeros((camera.height, camera.width), np.uint8)
    number_of = np.concatenate([np.zeros(first), np.repeat(np.arange(len(sizes)) + 1, sizes), [0]]).astype(np.uint8)
    seen = seen_primitives(world, camera, T_world_camera)
    return np.asarray(number_of[np.maximum(seen, -1)])


def base_pose(street: Street, arc: float) -> Float64:
    """T_world_base [4, 4] of the vehicle (x forward, y left, z up, on the ground) `arc` metres along its lane."""
    return street.pose(arc, lateral=-1.7, height=0.0)


def car(T_world_ground: Float64, color: Color, seed: int, scale: float = 1.0) -> list[Primitive]:
    """A car on the ground, x forward: body, cabin and four wheels."""

    def part(
        shape: Shape, position: tuple[float, float, float], half: tuple[float, float, float], material: Material
    ) -> Primitive:
        T_world_part = T_world_ground.copy()
        T_world_part[:3, 3] += T_world_ground[:3, :3] @ (np.array(position) * scale)
        if material == "tyre":
            T_world_part[:3, :3] = T_world_ground[:3, :3] @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        half = (half[0] * scale, half[1] * scale, half[2] * scale)
        paint = (0.06, 0.06, 0.06) if material == "tyre" else color
        return Primitive(shape, T_world_part, half, material, paint, seed, casts_shadow=material == "paint")

    wheels = [part("cylinder", (x, y, 0.32), (0.32, 0.32, 0.11), "tyre") for x in (-1.3, 1.35) for y in (-0.78, 0.78)]
    body = part("box", (0.0, 0.0, 0.60), (2.1, 0.86, 0.36), "paint")
    bonnet = part("ellipsoid", (0.0, 0.0, 0.72), (2.14, 0.84, 0.34), "paint")
    cabin = part("ellipsoid", (-0.25, 0.0, 0.90), (1.55, 0.80, 0.62), "glass")
    return [body, bonnet, cabin, *wheels]


def _houses(rng: np.random.Generator, street: Street, side: float, length: float, density: float) -> list[Primitive]:
    houses = []
    setback = rng.uniform(0.5, 6.0)
    arc = -30.0
    while arc < length + 150:
        width, depth, height = rng.uniform(8, 22), rng.uniform(8, 14), rng.uniform(5, 16)
        edge = street.road_half_width + street.pavement_width + setback * rng.uniform(0.6, 1.4)
        if rng.random() < 0.35 + 0.65 * density:
            pose = street.pose(arc + width / 2, side * (edge + depth / 2), height / 2 - 0.1, rng.uniform(-0.03, 0.03))
            color = _vary(rng, _WALLS[rng.integers(len(_WALLS))], 0.12)
            half = (width / 2, depth / 2, height / 2)
            houses.append(Primitive("box", pose, half, "facade", color, _seed(rng), casts_shadow=False))
        else:
            hedge = (width / 2, rng.uniform(0.4, 0.8), rng.uniform(0.5, 1.2))
            pose = street.pose(arc + width / 2, side * edge, hedge[2])
            houses.append(Primitive("box", pose, hedge, "foliage", _vary(rng, (0.20, 0.30, 0.12), 0.3), _seed(rng)))
        arc += width + (rng.uniform(0.5, 6) if rng.random() < 0.5 else 0.05)
    return houses


def _trees(rng: np.random.Generator, street: Street, side: float, length: float, density: float) -> list[Primitive]:
    trees: list[Primitive] = []
    arc = -10 + rng.uniform(0, 10)
    while arc < length + 120:
        lateral = side * (street.road_half_width + street.pavement_width * rng.uniform(0.3, 1.0))
        trunk, radius = rng.uniform(2.0, 4.5), rng.uniform(0.10, 0.25)
        base = street.pose(arc, lateral, 0.0, rng.uniform(0, 6.28))
        bark = _vary(rng, (0.28, 0.22, 0.17), 0.3)
        trees.append(
            Primitive("cylinder", _raised(base, trunk / 2), (radius, radius, trunk / 2 + 0.3), "bark", bark, _seed(rng))
        )
        leaf = _vary(rng, (0.24, 0.36, 0.13), 0.3)
        for _ in range(rng.integers(2, 5)):
            size = rng.uniform(0.9, 2.0, 3)
            offset = rng.uniform(-0.9, 0.9, 2)
            crown = _raised(base, trunk + size[2] * 0.7 + rng.uniform(-0.3, 0.6))
            crown[:2, 3] += offset
            half = (float(size[0]), float(size[1]), float(size[2]))
            trees.append(Primitive("ellipsoid", crown, half, "foliage", _vary(rng, leaf, 0.1), _seed(rng)))
        arc += rng.uniform(6, 12) / density
    return trees


def _furniture(rng: np.random.Generator, street: Street, side: float, length: float, density: float) -> list[Primitive]:
    """Lamp posts, signs, bollards and bins on the pavement."""
    things: list[Primitive] = []
    arc = rng.uniform(-5, 15)
    while arc < length + 100:
        base = street.pose(arc, side * (street.road_half_width + rng.uniform(0.4, 0.9)), 0.0)
        grey = _vary(rng, (0.35, 0.36, 0.36), 0.3)
        kind = rng.integers(4)
        if kind == 0:  # lamp post with its arm
            things.append(Primitive("cylinder", _raised(base, 3.2), (0.07, 0.07, 3.2), "plain", grey, _seed(rng)))
            arm = _raised(base, 6.35)
            arm[:3, 3] -= side * 0.7 * arm[:3, 1]
            things.append(Primitive("box", arm, (0.12, 0.8, 0.05), "plain", grey, _seed(rng), casts_shadow=False))
        elif kind == 1:  # sign
            things.append(Primitive("cylinder", _raised(base, 1.3), (0.03, 0.03, 1.3), "plain", grey, _seed(rng)))
            sign = ((0.75, 0.08, 0.08), (0.1, 0.2, 0.6), (0.85, 0.75, 0.1))[rng.integers(3)]
            pose = _raised(base, 2.4)
            things.append(Primitive("box", pose, (0.02, 0.3, 0.3), "plain", sign, _seed(rng), casts_shadow=False))
        elif kind == 2:  # bin
            color = _vary(rng, (0.25, 0.35, 0.3), 0.4)
            things.append(Primitive("box", _raised(base, 0.6), (0.3, 0.3, 0.6), "plain", color, _seed(rng)))
        else:  # bollard
            color = _vary(rng, (0.5, 0.45, 0.4), 0.3)
            things.append(Primitive("cylinder", _raised(base, 0.5), (0.09, 0.09, 0.5), "plain", color, _seed(rng)))
        arc += rng.uniform(5, 12) / density
    return things


def _parked_cars(
    rng: np.random.Generator, street: Street, side: float, length: float, density: float
) -> list[Primitive]:
    cars: list[Primitive] = []
    arc = rng.uniform(4, 12)
    while arc < length + 100:
        heading = 0.0 if side < 0 else np.pi
        lateral = side * (street.road_half_width - rng.uniform(1.0, 1.15))
        pose = street.pose(arc, lateral, 0.0, heading + rng.normal(0, 0.02))
        color = _vary(rng, _PAINTS[rng.integers(len(_PAINTS))], 0.1)
        cars += car(pose, color, _seed(rng), scale=rng.uniform(0.92, 1.15))
        arc += rng.uniform(5.5, 7.0) + (rng.exponential(8) / density if rng.random() > density else 0.0)
    return cars


def _raised(pose: Float64, height: float) -> Float64:
    moved = pose.copy()
    moved[2, 3] += height
    return moved


def _vary(rng: np.random.Generator, color: Color, amount: float) -> Color:
    """The colour, brighter or darker as a whole and a little in hue."""
    red, green, blue = np.clip(np.array(color) * rng.uniform(1 - amount, 1 + amount) * rng.uniform(0.95, 1.05, 3), 0, 1)
    return float(red), float(green), float(blue)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 30))
