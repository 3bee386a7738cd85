"""Colour and z-depth of a synthetic world, seen by a pinhole camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError
from depth_node.synthetic.materials import ALBEDO, Surface, street_albedo
from depth_node.synthetic.noise import Float, fractal_noise
from depth_node.synthetic.raycast import GROUND, NOTHING, Rays, cast
from depth_node.synthetic.world import Float64, Primitive, Street, World

_SHADOW_REACH = 6.0  # metres; a higher caster's shadow is drawn as if it were this high


def render(
    world: World, camera: PinholeCamera, T_world_camera: Float64
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Image and exact depth of `world` from the camera pose T_world_camera [4, 4] (optical frame, REP 103).

    Returns rgb uint8 [H, W, 3] and depth float32 [H, W], metres along z at pixel centres, NaN for the sky.

    Raises:
        CameraError: the camera has lens distortion; its rays would not be those of a pinhole.
    """
    if camera.is_distorted:
        raise CameraError("rendering takes an undistorted camera; got one with lens distortion")
    rays = Rays.of(camera, T_world_camera)
    depth, index = cast(world.primitives, world.street, rays, world.max_range)
    directions = rays.directions(T_world_camera[:3, :3], slice(None), slice(None))

    color = np.empty((3, *depth.shape), np.float32)
    sky = index == NOTHING
    color[:, sky] = _sky(world, directions[:, sky])
    ground = index == GROUND
    if world.street is not None and ground.any():
        color[:, ground] = _ground(world, world.street, camera, rays, directions[:, ground], depth[ground])
    solid = index >= 0
    if solid.any():
        color[:, solid] = _solids(world, camera, rays, directions[:, solid], depth[solid], index[solid])
    haze = np.exp(depth[~sky] / -world.haze).astype(np.float32)
    color[:, ~sky] = _column(world.horizon) + haze * (color[:, ~sky] - _column(world.horizon))

    rgb = (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(rgb), np.where(sky, np.nan, depth).astype(np.float32)


def _sky(world: World, directions: Float64) -> Float:
    """A gradient with clouds; a function of the direction alone, since the sky is at infinity."""
    unit = directions / np.linalg.norm(directions, axis=0)
    elevation = np.clip(unit[2], 0, 1).astype(np.float32)
    color = _column(world.horizon) + elevation**0.5 * (_column(world.sky) - _column(world.horizon))
    on_layer = (unit[:2] / (elevation + 0.15)).astype(np.float32)
    seed = np.full(elevation.shape, world.seed, np.uint32)
    clouds = fractal_noise(on_layer, np.full_like(on_layer, 0.02), seed, (1.2, 1.2), octaves=4)
    return color + np.clip(clouds, 0, 1) * 0.5 * (np.float32(0.95) - color)


def _ground(
    world: World, street: Street, camera: PinholeCamera, rays: Rays, directions: Float64, depth: Float64
) -> Float:
    position = rays.T_world_camera[:3, 3, None] + depth * directions
    normal = np.zeros_like(position)
    normal[2] = 1
    face = np.flatnonzero((position[2] > 1e-6) & (position[2] < street.kerb_height - 1e-6))
    if face.size:
        slope = street.slope(position[0, face])
        towards_road = -np.sign(street.lateral(position[0, face], position[1, face])) / np.hypot(1, slope)
        normal[:, face] = np.stack([-slope * towards_road, towards_road, 0 * slope])
    footprint = _footprint(camera, rays.T_world_camera[:3, :3, None], directions, normal, depth)
    position32 = position.astype(np.float32)
    albedo = street_albedo(street, position32, footprint)
    return albedo * _light(world, normal.astype(np.float32)) * _shadows(world, position32[:2])


def _solids(
    world: World, camera: PinholeCamera, rays: Rays, directions: Float64, depth: Float64, index: NDArray[np.int32]
) -> Float:
    seen, index = np.unique(index, return_inverse=True)
    primitives = [world.primitives[i] for i in seen]
    rotation = np.stack([p.T_world_object[:3, :3] for p in primitives])  # object to world
    center = np.stack([p.T_world_object[:3, 3] for p in primitives])
    half_size = np.array([p.half_size for p in primitives]).T[:, index]
    to_object = np.ascontiguousarray(rotation.transpose(2, 1, 0)[..., index])  # [3, 3, N]

    offset = rays.T_world_camera[:3, 3, None] + depth * directions - center.T[:, index]
    position = np.einsum("ijn,jn->in", to_object, offset)
    normal = _normals(np.array([p.shape for p in primitives])[index], position / half_size)
    normal /= half_size
    normal /= np.linalg.norm(normal, axis=0)
    camera_to_object = np.stack([r.T @ rays.T_world_camera[:3, :3] for r in rotation]).transpose(1, 2, 0)[..., index]
    local_directions = np.einsum("ijn,jn->in", to_object, directions)
    footprint = _footprint(camera, camera_to_object, local_directions, normal, depth)
    surface = Surface(
        position=position.astype(np.float32),
        normal=normal.astype(np.float32),
        footprint=footprint,
        color=np.array([p.color for p in primitives], np.float32).T[:, index],
        half_size=half_size.astype(np.float32),
        seed=np.array([p.seed for p in primitives], np.uint32)[index],
    )
    albedo = np.empty_like(surface.color)
    materials = np.array([p.material for p in primitives])[index]
    for material in np.unique(materials):
        chosen = np.flatnonzero(materials == material)
        albedo[:, chosen] = ALBEDO[material](_select(surface, chosen))
    world_normal = np.einsum("ijn,in->jn", to_object, normal).astype(np.float32)
    return albedo * _light(world, world_normal)


def _select(surface: Surface, chosen: NDArray[np.int64]) -> Surface:
    return Surface(
        position=surface.position[:, chosen],
        normal=surface.normal[:, chosen],
        footprint=surface.footprint[:, chosen],
        color=surface.color[:, chosen],
        half_size=surface.half_size[:, chosen],
        seed=surface.seed[chosen],
    )


def _normals(shapes: NDArray[np.str_], unit: Float64) -> Float64:
    """Outward normals [3, N] at surface points of the unit solids, still to be divided by the half sizes."""
    normal = unit.copy()
    box = shapes == "box"
    largest = np.argmax(np.abs(unit), axis=0)
    normal[:, box] *= np.arange(3)[:, None] == largest[box]
    cylinder = shapes == "cylinder"
    cap = cylinder & (np.abs(unit[2]) > np.hypot(unit[0], unit[1]))
    normal[:2, cap] = 0
    normal[2, cylinder & ~cap] = 0
    return normal


def _footprint(
    camera: PinholeCamera, rotation: Float64, directions: Float64, normal: Float64, depth: Float64
) -> Float:
    """Extent [3, N] of one pixel on the surface along each axis, metres (ray differentials, Igehy 1999).

    rotation: camera to the frame of directions and normals, [3, 3, N] or [3, 3, 1]; directions have a z-depth of 1.
    """
    facing = np.einsum("in,in->n", normal, directions)
    facing = np.where(np.abs(facing) < 1e-3, 1e-3, facing)
    total = np.zeros_like(directions)
    for axis, focal in ((0, camera.fx), (1, camera.fy)):
        step = rotation[:, axis] / focal
        total += np.abs(step - np.sum(normal * step, axis=0) / facing * directions)
    return (depth * total).astype(np.float32)


def _light(world: World, normal: Float) -> Float:
    """Ambient light, stronger from above, and sunlight by Lambert's cosine law: [N]."""
    sun = np.asarray(world.sun, np.float32)
    return world.ambient * (0.8 + 0.2 * normal[2]) + world.sunlight * np.clip(sun @ normal, 0, None)


def _shadows(world: World, position: Float) -> Float:
    """Share of light [N] left on the ground at world points [2, N]: one soft blot per caster, along the sun's direction."""
    light = np.ones(position.shape[1], np.float32)
    lean = np.array(world.sun[:2]) / world.sun[2]
    near = position.min(axis=1) - 10, position.max(axis=1) + 10
    for caster in (p for p in world.primitives if p.casts_shadow):
        center = caster.T_world_object[:2, 3] - lean * min(caster.T_world_object[2, 3], _SHADOW_REACH)
        if (center < near[0]).any() or (center > near[1]).any():
            continue
        _darken(light, position, center, caster)
    return light


def _darken(light: Float, position: Float, center: Float64, caster: Primitive) -> None:
    rotation, half_size = caster.T_world_object[:3, :3], np.array(caster.half_size)
    along = rotation[:2, 0] / np.hypot(*rotation[:2, 0])
    reach = np.abs(rotation.T[:, :2] @ np.array([along, [-along[1], along[0]]]).T * half_size[:, None]).sum(axis=0)
    softness = 0.25 + 0.25 * min(caster.T_world_object[2, 3], _SHADOW_REACH)
    radius = float(np.hypot(*reach) + softness)
    close = np.flatnonzero((np.abs(position[0] - center[0]) < radius) & (np.abs(position[1] - center[1]) < radius))
    if close.size == 0:
        return
    offset = position[:, close] - center.astype(np.float32)[:, None]
    ahead = np.abs(along[0] * offset[0] + along[1] * offset[1])
    aside = np.abs(along[0] * offset[1] - along[1] * offset[0])
    cover = np.ones(close.size)
    for distance, size in ((ahead, reach[0]), (aside, reach[1])):
        ramp = np.clip((size + softness / 2 - distance) / softness, 0, 1)
        cover = cover * ramp * ramp * (3 - 2 * ramp)
    light[close] *= 1 - 0.5 * cover


def _column(color: tuple[float, float, float]) -> Float:
    return np.array(color, np.float32)[:, None]
