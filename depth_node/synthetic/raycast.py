"""Which surface each pixel sees, and how far away it is: exact ray intersections, float64.

A pixel's ray is camera centre + z * d with d = R (x/z, y/z, 1), so that the ray's parameter is the z-depth itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.synthetic.world import Float64, Primitive, Street

NOTHING = -1
GROUND = -2
NEAR = 0.05  # metres; nothing nearer is seen

_CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))
_EDGES = np.array([(a, b) for a, b in product(range(8), repeat=2) if a < b and np.sum(_CORNERS[a] != _CORNERS[b]) == 1])


@dataclass(frozen=True)
class Rays:
    """Rays of an undistorted camera: columns x = x/z [W], rows y = y/z [H], pose T_world_camera [4, 4]."""

    x: Float64
    y: Float64
    T_world_camera: Float64

    @classmethod
    def of(cls, camera: PinholeCamera, T_world_camera: Float64) -> Rays:
        x = (np.arange(camera.width, dtype=np.float64) - camera.cx) / camera.fx
        y = (np.arange(camera.height, dtype=np.float64) - camera.cy) / camera.fy
        return cls(x, y, T_world_camera)

    def directions(self, matrix: Float64, rows: slice, columns: slice) -> Float64:
        """matrix [3, 3] applied to the rays (x/z, y/z, 1) of a rectangle of pixels: [3, h, w]."""
        along_row = matrix[:, 0, None] * self.x[columns]
        along_column = matrix[:, 1, None] * self.y[rows] + matrix[:, 2, None]
        return along_row[:, None, :] + along_column[:, :, None]


def cast(
    primitives: Sequence[Primitive], street: Street | None, rays: Rays, max_range: float
) -> tuple[Float64, NDArray[np.int32]]:
    """z-depth [H, W] in metres, inf where nothing is hit within max_range, and what is hit [H, W].

    What is hit is the index into `primitives`, GROUND or NOTHING.
    """
    shape = (len(rays.y), len(rays.x))
    depth = np.full(shape, max_range, np.float64)
    index = np.full(shape, NOTHING, np.int32)
    if street is not None:
        ground = _ground_depth(street, rays)
        index[ground < depth] = GROUND
        np.minimum(depth, ground, out=depth)
    for primitive, number, rows, columns in _in_view(primitives, rays, max_range):
        to_unit = np.linalg.inv(primitive.T_world_object)[:3] / np.array(primitive.half_size)[:, None]
        to_unit = to_unit @ rays.T_world_camera
        hit = _INTERSECT[primitive.shape](to_unit[:, 3], rays.directions(to_unit[:, :3], rows, columns))
        window = depth[rows, columns]
        closer = (hit > NEAR) & (hit < window)
        np.copyto(window, hit, where=closer)
        index[rows, columns][closer] = number
    depth[index == NOTHING] = np.inf
    return depth, index


def _in_view(
    primitives: Sequence[Primitive], rays: Rays, max_range: float
) -> Iterator[tuple[Primitive, int, slice, slice]]:
    """Primitives whose bounding boxes reach into the image: with index and rectangle of pixels (rows, columns)."""
    if not primitives:
        return
    poses = np.linalg.inv(rays.T_world_camera) @ np.stack([p.T_world_object for p in primitives])
    half_sizes = np.array([p.half_size for p in primitives])
    corners = np.einsum("pij,pkj->pki", poses[:, :3, :3], half_sizes[:, None] * _CORNERS) + poses[:, None, :3, 3]
    # A box that reaches behind the camera is cut at the near plane, along its edges.
    begin, end = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    crosses = (begin[..., 2] < NEAR) != (end[..., 2] < NEAR)
    share = np.where(crosses, (NEAR - begin[..., 2]) / np.where(crosses, end[..., 2] - begin[..., 2], 1), 0)
    cuts = begin + share[..., None] * (end - begin)
    points = np.concatenate([corners, cuts], axis=1)
    visible = np.concatenate([corners[..., 2] >= NEAR, crosses], axis=1)
    visible &= corners[..., 2].min(axis=1, keepdims=True) < max_range
    z = np.where(visible, points[..., 2], 1)
    bounds = []
    for axis, grid in ((0, rays.x), (1, rays.y)):
        position = points[..., axis] / z
        first = np.searchsorted(grid, np.where(visible, position, np.inf).min(axis=1), "left")
        last = np.searchsorted(grid, np.where(visible, position, -np.inf).max(axis=1), "right")
        bounds += [first, last]
    left, right, top, bottom = bounds
    for number in np.flatnonzero((left < right) & (top < bottom)).tolist():
        rows, columns = slice(int(top[number]), int(bottom[number])), slice(int(left[number]), int(right[number]))
        yield primitives[number], number, rows, columns


# Each takes the ray's origin [3] and directions [3, h, w] in the frame where the solid has half extents of 1,
# and returns the ray parameter [h, w] of the first crossing, inf where there is none in front of the origin.


def _intersect_box(origin: Float64, direction: Float64) -> Float64:
    near, far = _slab(origin[0], direction[0])
    for axis in (1, 2):
        enters, leaves = _slab(origin[axis], direction[axis])
        np.maximum(near, enters, out=near)
        np.minimum(far, leaves, out=far)
    return _first(near, far)


def _intersect_ellipsoid(origin: Float64, direction: Float64) -> Float64:
    return _first(*_quadratic(origin, direction, 3))


def _intersect_cylinder(origin: Float64, direction: Float64) -> Float64:
    near, far = _quadratic(origin, direction, 2)
    enters, leaves = _slab(origin[2], direction[2])
    return _first(np.maximum(near, enters), np.minimum(far, leaves))


def _slab(origin: float, direction: Float64) -> tuple[Float64, Float64]:
    """Where rays enter and leave the layer between -1 and 1 of one axis."""
    inverse = 1 / (direction + 1e-30)  # keeps rays that run along the layer finite
    center, reach = -origin * inverse, np.abs(inverse)
    return center - reach, center + reach


def _quadratic(origin: Float64, direction: Float64, axes: int) -> tuple[Float64, Float64]:
    """Both crossings with the unit sphere (3 axes) or the endless unit cylinder (2), (inf, -inf) where missed."""
    a = np.einsum("ihw,ihw->hw", direction[:axes], direction[:axes])
    b = np.einsum("ihw,i->hw", direction[:axes], origin[:axes])
    c = origin[:axes] @ origin[:axes] - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(b * b - a * c)
        return np.where(root >= 0, (-b - root) / a, np.inf), np.where(root >= 0, (-b + root) / a, -np.inf)


def _first(near: Float64, far: Float64) -> Float64:
    """Entry into the solid; its exit when the origin is inside."""
    return np.where(near <= far, np.where(near > 0, near, far), np.inf)


_INTERSECT = {"box": _intersect_box, "ellipsoid": _intersect_ellipsoid, "cylinder": _intersect_cylinder}


def _ground_depth(street: Street, rays: Rays) -> Float64:
    """z-depth [H, W] of road, kerb faces and pavement, inf above the horizon."""
    rotation, origin = rays.T_world_camera[:3, :3], rays.T_world_camera[:3, 3]
    depth = np.full((len(rays.y), len(rays.x)), np.inf)
    direction = rays.directions(rotation, slice(None), slice(None))
    down = direction[2] < -1e-6
    direction = direction[:, down]
    raised = (street.kerb_height - origin[2]) / direction[2]
    road = -origin[2] / direction[2]
    on_road = np.flatnonzero(np.abs(_lateral_at(street, origin, direction, raised)) < street.road_half_width)
    hit = raised
    hit[on_road] = _road_or_kerb(street, origin, direction[:, on_road], raised[on_road], road[on_road])
    depth[down] = hit
    return depth


def _road_or_kerb(street: Street, origin: Float64, direction: Float64, over: Float64, road: Float64) -> Float64:
    """Ray parameter at which rays hit that are over the road at parameter `over`, at the kerb's height.

    They reach z = 0 at parameter `road`. Those that leave the road's sides in between hit the kerb's face: found by
    false position, as the distance is almost linear in the ray parameter.
    """
    hit = road.copy()
    beyond = np.abs(_lateral_at(street, origin, direction, road)) - street.road_half_width
    face = np.flatnonzero(beyond > 0)
    near, far, outside, rays = over[face], road[face], beyond[face], direction[:, face]
    inside = np.abs(_lateral_at(street, origin, rays, near)) - street.road_half_width
    for _ in range(6):
        middle = near - inside * (far - near) / (outside - inside)
        distance = np.abs(_lateral_at(street, origin, rays, middle)) - street.road_half_width
        still = distance < 0
        near, inside = np.where(still, middle, near), np.where(still, distance, inside)
        far, outside = np.where(still, far, middle), np.where(still, outside, distance)
    hit[face] = middle
    return hit


def _lateral_at(street: Street, origin: Float64, direction: Float64, t: Float64) -> Float64:
    return street.lateral(origin[0] + t * direction[0], origin[1] + t * direction[1])
