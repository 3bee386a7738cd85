"""A camera in somebody's hand: it looks around while it is carried along the street."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from depth_node.camera import PinholeCamera
from depth_node.synthetic.rolling_shutter import render_rolling
from depth_node.synthetic.street import T_BASE_CAMERA, SyntheticFrame
from depth_node.synthetic.world import Float64, World

# Amplitudes of turning about the camera's x (pitch), y (yaw) and z axes, radians, and of swaying along them, metres.
_TURNS = np.deg2rad([4.0, 14.0, 3.0])
_SWAYS = np.array([0.08, 0.05, 0.05])


def handheld_walk(
    world: World,
    camera: PinholeCamera,
    frames: int,
    seed: int = 0,
    turning: float = 1.0,
    speed: float = 0.8,
    rate: float = 10.0,
    start: float = 0.0,
    start_stamp_ns: int = 1_700_000_000_000_000_000,
    readout: float = 0.0,
) -> Iterator[SyntheticFrame]:
    """Frames of a camera carried along the world's street, which turns and sways as slow sines drawn from `seed`.

    turning: amplitude of its turns, 1 for 14 degrees to either side; 0 for pure translation.
    speed in m/s, rate in Hz, start in metres along the street, readout of a rolling shutter in seconds.

    Raises:
        ValueError: the world has no street.
    """
    if world.street is None:
        raise ValueError("a walk needs a world with a street")
    rng = np.random.default_rng(seed)
    frequencies, phases = rng.uniform(0.25, 0.6, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))
    T_world_start = world.street.pose(start, lateral=-1.7, height=0.0) @ T_BASE_CAMERA

    def T_world_camera(time: float) -> Float64:
        turn, sway = np.sin(2 * np.pi * frequencies * time + phases)
        T_start_camera = np.eye(4)
        T_start_camera[:3, :3] = _rotation(turning * _TURNS * turn)
        T_start_camera[:3, 3] = _SWAYS * sway + [0, 0, speed * time]
        pose: Float64 = T_world_start @ T_start_camera
        return pose

    for number in range(frames):
        time = number / rate
        rgb, depth = render_rolling(world, camera, T_world_camera, time, readout)
        still = np.zeros(depth.shape, bool)
        stamp_ns = start_stamp_ns + round(number * 1e9 / rate)
        yield SyntheticFrame(stamp_ns, rgb, depth, camera, T_world_camera(time), still)


def _rotation(angles: Float64) -> Float64:
    """Rotation [3, 3] about y, then x, then z of the camera."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: Float64 = about_y @ about_x @ about_z
    return rotation
