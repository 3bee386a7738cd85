"""Colour and z-depth of a synthetic world, seen by a pinhole camera."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.errors import CameraError
from depth_node.synthetic.materials import ALBEDO, Surface, column, street_albedo
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
    color, normal = _shade(world, camera, rays, directions.reshape(3, -1), depth.ravel(), index.ravel())
    color, normal = color.reshape(3, *depth.shape), normal.reshape(3, *depth.shape)
    _smooth_outlines(color, world, camera, T_world_camera, index, normal)
    rgb = (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(rgb), np.where(index == NOTHING, np.nan, depth).astype(np.float32)


def seen_primitives(world: World, camera: PinholeCamera, T_world_camera: Float64) -> NDArray[np.int32]:
    """Index into `world.primitives` of what each pixel sees, int32 [H, W]; negative for the ground and the sky."""
    return cast(world.primitives, world.street, Rays.of(camera, T_world_camera), world.max_range)[1]


def _smooth_outlines(
    color: Float, world: World, camera: PinholeCamera, T_world_camera: Float64, index: NDArray[np.int32], normal: Float
) -> None:
    """Replaces the colour [3, H, W] of pixels on outlines and creases by the mean of four samples around the centre."""
    height, width = index.shape
    rays = Rays.of(camera.resized(2 * width, 2 * height), T_world_camera)
    fine_depth, fine_index = cast(world.primitives, world.street, rays, world.max_range)
    outline = np.zeros(index.shape, bool)
    for right, down in product((0, 1), repeat=2):
        outline |= fine_index[down::2, right::2] != index
    bend_down = np.sum(normal[:, :-1] * normal[:, 1:], axis=0) < 0.8
    bend_right = np.sum(normal[:, :, :-1] * normal[:, :, 1:], axis=0) < 0.8
    outline[:-1] |= bend_down
    outline[1:] |= bend_down
    outline[:, :-1] |= bend_right
    outline[:, 1:] |= bend_right
    rows, columns = np.nonzero(outline)
    fine_rows = (2 * rows + np.array([[0], [0], [1], [1]])).ravel()
    fine_columns = (2 * columns + np.array([[0], [1], [0], [1]])).ravel()
    rotation = T_world_camera[:3, :3]
    rays_there = np.stack([rays.x[fine_columns], rays.y[fine_rows], np.ones(len(fine_rows))])
    samples, _ = _shade(
        world,
        camera,
        rays,
        rotation @ rays_there,
        fine_depth[fine_rows, fine_columns],
        fine_index[fine_rows, fine_columns],
    )
    color[:, rows, columns] = samples.reshape(3, 4, -1).mean(axis=1)


def _shade(
    world: World, camera: PinholeCamera, rays: Rays, directions: Float64, depth: Float64, index: NDArray[np.int32]
) -> tuple[Float, Float]:
    """Colour and world normal [3, N] (of the sky: up) of what rays of world directions [3, N] (of z-depth 1) hit."""
    color = np.empty(directions.shape, np.float32)
    normal = np.zeros(directions.shape, np.float32)
    normal[2] = 1
    sky, ground, solid = (np.flatnonzero(which) for which in (index == NOTHING, index == GROUND, index >= 0))
    color[:, sky] = _sky(world, directions[:, sky])
    if world.street is not None and ground.size:
        color[:, ground], normal[:, ground] = _ground(
            world, world.street, camera, rays, directions[:, ground], depth[ground]
        )
    if solid.size:
        color[:, solid], normal[:, solid] = _solids(
            world, camera, rays, directions[:, solid], depth[solid], index[solid]
        )
    seen = np.flatnonzero(index != NOTHING)
    clear = np.exp(depth[seen] / -world.haze).astype(np.float32)
    color[:, seen] = column(world.horizon) + clear * (color[:, seen] - column(world.horizon))
    return color, normal


def _sky(world: World, directions: Float64) -> Float:
    """A gradient with clouds; a function of the direction alone, since the sky is at infinity."""
    unit = directions / np.linalg.norm(directions, axis=0)
    elevation = np.clip(unit[2], 0, 1).astype(np.float32)
    color = column(world.horizon) + elevation**0.5 * (column(world.sky) - column(world.horizon))
    on_layer = (unit[:2] / (elevation + 0.15)).astype(np.float32)
    seed = np.full(elevation.shape, world.seed, np.uint32)
    clouds = fractal_noise(on_layer, np.full_like(on_layer, 0.02), seed, (1.2, 1.2), octaves=4)
    return color + np.clip(clouds, 0, 1) * 0.5 * (np.float32(0.95) - color)


def _ground(
    world: World, street: Street, camera: PinholeCamera, rays: Rays, directions: Float64, depth: Float64
) -> tuple[Float, Float]:
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
    normal32 = normal.astype(np.float32)
    return albedo * _light(world, normal32) * _shadows(world, position32[:2]), normal32


def _solids(
    world: World, camera: PinholeCamera, rays: Rays, directions: Float64, depth: Float64, index: NDArray[np.int32]
) -> tuple[Float, Float]:
    seen, which = np.unique(index, return_inverse=True)
    primitives = [world.primitives[i] for i in seen]
    rotation = np.stack([p.T_world_object[:3, :3] for p in primitives])  # object to world
    center = np.stack([p.T_world_object[:3, 3] for p in primitives])
    half_size = np.array([p.half_size for p in primitives]).T[:, which]
    to_object = np.ascontiguousarray(rotation.transpose(2, 1, 0)[..., which])  # [3, 3, N]

    offset = rays.T_world_camera[:3, 3, None] + depth * directions - center.T[:, which]
    position = np.einsum("ijn,jn->in", to_object, offset)
    normal = _normals(np.array([p.shape for p in primitives])[which], position / half_size)
    normal /= half_size
    normal /= np.linalg.norm(normal, axis=0)
    camera_to_object = np.stack([r.T @ rays.T_world_camera[:3, :3] for r in rotation]).transpose(1, 2, 0)[..., which]
    local_directions = np.einsum("ijn,jn->in", to_object, directions)
    footprint = _footprint(camera, camera_to_object, local_directions, normal, depth)
    surface = Surface(
        position=position.astype(np.float32),
        normal=normal.astype(np.float32),
        footprint=footprint,
        color=np.array([p.color for p in primitives], np.float32).T[:, which],
        half_size=half_size.astype(np.float32),
        seed=np.array([p.seed for p in primitives], np.uint32)[which],
    )
    albedo = np.empty_like(surface.color)
    materials = np.array([p.material for p in primitives])[which]
    for material in np.unique(materials):
        chosen = np.flatnonzero(materials == material)
        albedo[:, chosen] = ALBEDO[material](_select(surface, chosen))
    world_normal = np.einsum("ijn,in->jn", to_object, normal).astype(np.float32)
    return albedo * _light(world, world_normal), world_normal


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


def _footprint(camera: PinholeCamera, rotation: Float64, directions: Float64, normal: Float64, depth: Float64) -> Float:
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
    """Share of light [N] left on the ground at world points [2, N]: a soft blot per caster, away from the sun."""
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
