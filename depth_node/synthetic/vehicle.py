"""A camera on a vehicle as roads shake it: it brakes, turns into a side street, and pitches on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from depth_node.camera import PinholeCamera
from depth_node.synthetic.rolling_shutter import render_rolling
from depth_node.synthetic.street import T_BASE_CAMERA, SyntheticFrame, base_pose, street_world
from depth_node.synthetic.world import Float64, Primitive, Street, World, yaw_matrix

_STEP_S = 0.01  # of the integration of a path
_LANE = 3.5  # metres to either side of the path that stay free


@dataclass(frozen=True)
class VehicleMotion:
    """How a vehicle takes a junction, and how its suspension answers the road.

    The defaults are those of KITTI's odometry drives 00 and 03: turns of 80 to 93 degrees in 4 to 6 s at 4 to 5 m/s
    from 8 m/s; angular rates with a root mean square of 2.0 and 1.7 (pitch), 1.7 and 1.6 degrees per second (roll), two
    thirds of their power between 1 and 2 Hz and a fifth below; 0.08 m/s up and down.

    turn_radius in metres; ramp_s: from straight on to that radius. braking, acceleration: m/s^2.
    pitch_rate, roll_rate: root mean square, rad/s; heave_rate: m/s. dive: pitch by braking, rad per m/s^2.
    """

    cruise: float = 8.0
    corner: float = 4.5
    turn_radius: float = 9.0
    ramp_s: float = 0.8
    braking: float = 2.0
    acceleration: float = 1.5
    approach_s: float = 2.0
    pitch_rate: float = np.deg2rad(1.8)
    roll_rate: float = np.deg2rad(1.6)
    heave_rate: float = 0.08
    dive: float = np.deg2rad(0.3)


def junction_drive(
    camera: PinholeCamera,
    frames: int,
    seed: int = 0,
    motion: VehicleMotion | None = None,
    rate: float = 10.0,
    start: float = 40.0,
    start_stamp_ns: int = 1_700_000_000_000_000_000,
    readout: float = 0.0,
) -> Iterator[SyntheticFrame]:
    """Frames of a camera on a vehicle that brakes in a street, turns by 90 degrees into another one, and drives on.

    Streets, the side it turns to and the shaking are drawn from `seed`. rate in Hz, start in metres along the street,
    readout of a rolling shutter in seconds.
    """
    motion = motion or VehicleMotion()
    rng = np.random.default_rng(seed)
    side = 1.0 if rng.random() < 0.5 else -1.0
    first, second = street_world(seed), street_world(seed + 1_000_003)
    assert first.street is not None
    path = _path(first.street, motion, start, side, duration=frames / rate + 6.0)
    world = _joined(first, second, path)
    shaking = _Shaking.drawn(rng, motion)

    def T_world_camera(time: float) -> Float64:
        pose: Float64 = path.base(time) @ shaking.pose(time, path.acceleration(time)) @ T_BASE_CAMERA
        return pose

    for number in range(frames):
        time = number / rate
        rgb, depth = render_rolling(world, camera, T_world_camera, time, readout)
        still = np.zeros(depth.shape, np.uint8)
        yield SyntheticFrame(start_stamp_ns + round(time * 1e9), rgb, depth, camera, T_world_camera(time), still)


@dataclass(frozen=True)
class _Path:
    """Sampled every `_STEP_S` seconds: position on the ground x, y, heading, speed."""

    samples: Float64  # [4, S]

    def base(self, time: float) -> Float64:
        """T_world_base [4, 4]."""
        x, y, heading, _ = self._at(time)
        pose = yaw_matrix(heading)
        pose[:2, 3] = x, y
        return pose

    def acceleration(self, time: float) -> float:
        return float(self._at(time + 0.2)[3] - self._at(max(time - 0.2, 0.0))[3]) / 0.4

    def _at(self, time: float) -> Float64:
        times = _STEP_S * np.arange(self.samples.shape[1])
        return np.array([np.interp(time, times, row) for row in self.samples])


def _path(street: Street, motion: VehicleMotion, start: float, side: float, duration: float) -> _Path:
    """Along the street, slower towards the junction, by 90 degrees to `side` (1: left), and on straight."""
    steps = int(duration / _STEP_S)
    begin = base_pose(street, start)
    x, y, heading = begin[0, 3], begin[1, 3], float(np.arctan2(begin[1, 0], begin[0, 0]))
    arc, speed, curvature, turned = start, motion.cruise, 0.0, 0.0
    samples = np.empty((4, steps))
    for step in range(steps):
        samples[:, step] = x, y, heading, speed
        has_turned = turned >= np.pi / 2
        is_turning = not has_turned and step * _STEP_S >= motion.approach_s
        if is_turning:
            # Straight on again in time: a ramp of the curvature turns by half of what it would without.
            is_ending = np.pi / 2 - turned <= 0.5 * curvature * speed * motion.ramp_s
            change = _STEP_S / (motion.ramp_s * motion.turn_radius)
            curvature = max(curvature - change, 0.02 / motion.turn_radius) if is_ending else curvature + change
            curvature = min(curvature, 1 / motion.turn_radius)
            turned += curvature * speed * _STEP_S
            heading += side * curvature * speed * _STEP_S
        elif not has_turned:
            arc += speed * _STEP_S
            along = street.pose(arc, 0.0, 0.0)
            heading = float(np.arctan2(along[1, 0], along[0, 0]))
        if has_turned:
            speed = min(speed + motion.acceleration * _STEP_S, motion.cruise)
        else:
            speed = max(speed - motion.braking * _STEP_S, motion.corner)
        x, y = x + speed * _STEP_S * np.cos(heading), y + speed * _STEP_S * np.sin(heading)
    return _Path(samples)


@dataclass(frozen=True)
class _Shaking:
    """Pitch, roll and heave as sums of sines of 0.3 to 2 Hz, most of them of more than 1 Hz.

    amplitudes, frequencies, phases: [3, S]. dive: as in `VehicleMotion`.
    """

    amplitudes: Float64
    frequencies: Float64
    phases: Float64
    dive: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, motion: VehicleMotion) -> _Shaking:
        frequencies = np.concatenate([rng.uniform(0.3, 1.0, (3, 2)), rng.uniform(1.0, 2.0, (3, 6))], axis=1)
        rates = np.array([motion.pitch_rate, motion.roll_rate, motion.heave_rate])[:, None]
        # Each sine has an eighth of the rate's mean square, and a sine of amplitude A one of A^2 / 2.
        amplitudes = rates * np.sqrt(2 / 8) / (2 * np.pi * frequencies)
        return cls(amplitudes, frequencies, rng.uniform(0, 2 * np.pi, frequencies.shape), motion.dive)

    def pose(self, time: float, acceleration: float) -> Float64:
        """T_base_body [4, 4] of the body on its suspension: x forward, y left, z up."""
        waves = np.sin(2 * np.pi * self.frequencies * time + self.phases)
        pitch, roll, heave = np.sum(self.amplitudes * waves, axis=1)
        pitch -= self.dive * acceleration  # about y, which is to the left: braking lowers the nose
        (cp, cr), (sp, sr) = np.cos([pitch, roll]), np.sin([pitch, roll])
        pose = np.eye(4)
        about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        pose[:3, :3] = about_y @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        pose[2, 3] = heave
        return pose


def _joined(first: World, second: World, path: _Path) -> World:
    """The first world, and along the path's last part what lines the second one's street; the path itself is free."""
    assert first.street is not None
    assert second.street is not None
    x, y, heading, _ = path.samples[:, -1]
    T_first_lane = yaw_matrix(heading)
    T_first_lane[:2, 3] = x, y
    T_second_lane = base_pose(second.street, 40.0)
    T_first_second = T_first_lane @ np.linalg.inv(T_second_lane)
    moved = [replace(p, T_world_object=T_first_second @ p.T_world_object) for p in second.primitives]
    # What lines the side street must not stand on the first one.
    beside = [p for p in moved if abs(_lateral(first.street, p)) > first.street.road_half_width + _radius(p)]
    kept = [p for p in (*first.primitives, *beside) if _is_clear(p, path)]
    return replace(first, primitives=tuple(kept))


def _lateral(street: Street, primitive: Primitive) -> float:
    x, y = primitive.T_world_object[:2, 3]
    return float(street.lateral(np.asarray(x), np.asarray(y)))


def _radius(primitive: Primitive) -> float:
    """Metres around the centre that it takes up; a wheel goes with its car."""
    return 4.0 if primitive.material == "tyre" else float(np.hypot(*primitive.half_size[:2]))


def _is_clear(primitive: Primitive, path: _Path) -> bool:
    position = primitive.T_world_object[:2, 3, None]
    distance = np.linalg.norm(path.samples[:2, ::10] - position, axis=0).min()
    return bool(distance > _LANE + _radius(primitive))
