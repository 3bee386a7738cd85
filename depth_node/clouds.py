"""Depth and points -> PointCloud2: organised like the image, or dense; and the voxel filter of dense clouds.

The bytes are those of sensor_msgs_py's `create_cloud`, written where the message keeps them: `create_cloud` wants the
points packed in a structured array first.
"""

from __future__ import annotations

import array
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera, directions
from depth_node.errors import CloudError
from depth_node.images import adopt_data

POINT_STEP = 16
FIELD_OFFSETS = {"x": 0, "y": 4, "z": 8, "rgb": 12}

# Rows of points made at a time: their coordinates stay in the cache, and no large temporary is mapped in per cloud.
_BAND_ROWS = 64


def organized_cloud(
    depth: NDArray[np.float32], camera: PinholeCamera, rgb: NDArray[np.uint8], stride: int, header: Header
) -> PointCloud2:
    """Cloud of every `stride`-th pixel of both axes, in the camera's optical frame (REP 103), organised like the image.

    depth: float32 [H, W] metres, of the camera's size; NaN where invalid, and so are the points there.
    rgb: uint8 [H, W, 3]; packed as PCL and RViz expect it, 0x00RRGGBB in the bits of a float32.
    The cloud has ceil(H / stride) rows, ceil(W / stride) columns and the fields of `FIELD_OFFSETS`, all float32.
    """
    rays = directions(camera, stride)
    _, height, width = rays.shape
    data, cells = _allocate(height * width)
    cells = cells.reshape(height, width, 4)
    for first in range(0, height, _BAND_ROWS):
        band = slice(first, first + _BAND_ROWS)
        pixel_rows = slice(first * stride, (first + _BAND_ROWS) * stride, stride)
        xyz = rays[:, band] * depth[pixel_rows, ::stride]
        cv2.merge((*xyz, _packed_rgb(rgb[pixel_rows])[:, ::stride]), dst=cells[band])
    return _cloud_message(data, height, width, False, header)


def dense_cloud(points: NDArray[np.float32], rgb: NDArray[np.uint8], header: Header) -> PointCloud2:
    """Cloud of the valid points alone: one row, the fields of `FIELD_OFFSETS`, `is_dense`.

    points: float32 [H, W, 3] or [N, 3], metres in the frame of `header`; a point with a NaN z is left out.
    rgb: uint8 [H, W, 3] or [N, 3].
    """
    valid = np.flatnonzero(np.isfinite(points[..., 2]))
    if not len(valid):  # OpenCV takes no empty arrays
        return _cloud_message(array.array("B"), 1, 0, True, header)
    if points.ndim == 2:
        points, rgb = points[None], rgb[None]
    cells = np.empty((*points.shape[:2], 4), np.float32)
    cv2.mixChannels([points, _packed_rgb(rgb)], [cells], [0, 0, 1, 1, 2, 2, 3, 3])
    data, valid_cells = _allocate(len(valid))
    # As complex128, numpy's widest number, a cell of 16 bytes is moved at once.
    cells.view(np.complex128).ravel().take(valid, out=valid_cells.view(np.complex128).ravel(), mode="clip")
    return _cloud_message(data, 1, len(valid), True, header)


def voxel_filter(
    points: NDArray[np.float32], rgb: NDArray[np.uint8], size: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """One point per occupied voxel: the centroid and the mean colour of its points, as pcl::VoxelGrid has them.

    points: float32 [H, W, 3] or [N, 3] metres; points with a NaN z are left out. rgb: uint8, of the same shape.
    size: edge of a voxel in metres; voxels are cubes, aligned with the origin.
    Returns float32 [M, 3] and uint8 [M, 3], ordered by voxel: x fastest, then y, then z.

    Raises:
        CloudError: the size is not positive, or the voxels from one corner of the cloud to the other are too many
            to be numbered (for 2^18 points, 2^43: 20 thousand along each axis).
    """
    valid = np.isfinite(points[..., 2])
    xyz = [np.ascontiguousarray(points[..., axis])[valid] for axis in range(3)]
    voxels, counts = _voxel_numbers(xyz, size)
    centroids = np.empty((len(counts), 3), np.float32)
    colors = np.empty((len(counts), 3), np.uint8)
    for axis, values in enumerate(xyz):
        centroids[:, axis] = np.bincount(voxels, values) / counts
    for channel in range(3):
        levels = np.ascontiguousarray(rgb[..., channel])[valid]
        colors[:, channel] = np.rint(np.bincount(voxels, levels) / counts)
    return centroids, colors


def _voxel_numbers(xyz: Sequence[NDArray[np.float32]], size: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The number of each point's voxel, [N], and the points in each voxel, [M]; x, y, z: float32 [N] metres."""
    if not size > 0:
        raise CloudError(f"voxels of {size} m; expected more than 0 m")
    points = xyz[0].size
    if points == 0:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    # In float64, whole numbers are exact up to 2^53.
    cells = (np.floor(np.multiply(values, 1.0 / size, dtype=np.float64)) for values in xyz)
    x, y, z = (axis - axis.min() for axis in cells)
    extents = [float(axis.max()) + 1 for axis in (x, y, z)]
    index_bits = points.bit_length()
    if not math.prod(extents) < 2.0 ** (62 - index_bits):
        grid = " x ".join(f"{extent:.4g}" for extent in extents)
        raise CloudError(f"voxels of {size} m make a grid of {grid} around {points} points; choose larger voxels")
    # Voxel and index in one integer: sorting those takes a third of the time of argsort, and is stable.
    keys = (x + extents[0] * (y + extents[1] * z)).astype(np.int64)
    keys <<= index_bits
    keys |= np.arange(points)
    keys.sort()
    order = keys & ((1 << index_bits) - 1)
    keys >>= index_bits
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(first, append=points)
    voxels = np.empty(points, np.intp)
    voxels[order] = np.repeat(np.arange(len(first)), counts)
    return voxels, counts


def _allocate(points: int) -> tuple[array.array[int], NDArray[np.float32]]:
    """Zeros for a cloud's data, and float32 [points, 4] on the same memory."""
    data = array.array("B", b"\0") * (points * POINT_STEP)
    return data, np.frombuffer(data, np.float32).reshape(points, 4)


def _cloud_message(data: array.array[int], height: int, width: int, is_dense: bool, header: Header) -> PointCloud2:
    fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
        for name, offset in FIELD_OFFSETS.items()
    ]
    message = PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=fields,
        is_bigendian=False,
        point_step=POINT_STEP,
        row_step=POINT_STEP * width,
        is_dense=is_dense,
    )
    adopt_data(message, data)
    return message


def _packed_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [h, w] whose bits are 0x00RRGGBB. The top byte is not alpha: with 255 there, red would make a NaN."""
    packed = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0]
    packed &= np.uint32(0x00FFFFFF)
    return packed.view(np.float32)
