"""Lidar scans as sparse depth that is registered with an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, distort_rays, undistort_pixels
from depth_node.errors import CloudError
from training.data.records import Matrix

_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # sensor_msgs/PointField
_SAME_PIXEL = 0.5


def cloud_points(cloud: Any) -> Matrix:
    """Finite points, float64 [N, 3] metres, of a sensor_msgs/PointCloud2, organised or not.

    Raises:
        CloudError: it has no x, y and z, or fewer bytes than points.
    """
    fields = {field.name: field for field in cloud.fields}
    if not {"x", "y", "z"} <= set(fields):
        raise CloudError(f"point cloud with fields {', '.join(fields) or 'none'}; expected x, y and z")
    height, width, step, row_step = (int(v) for v in (cloud.height, cloud.width, cloud.point_step, cloud.row_step))
    order = ">" if cloud.is_bigendian else "<"
    columns = []
    for name in "xyz":
        code, offset = fields[name].datatype, int(fields[name].offset)
        if code not in _DATATYPES:
            raise CloudError(f"point cloud whose {name} is of type {code}; expected one of PointField's, 1 to 8")
        kind = np.dtype(order + _DATATYPES[code])
        if offset + kind.itemsize > step or width * step > row_step or height * row_step > len(cloud.data):
            raise CloudError(
                f"point cloud of {width}x{height} points with {len(cloud.data)} bytes in steps of {step} and {row_step}"
            )
        if width * height:
            values = np.ndarray((height, width), kind, np.asarray(cloud.data).data, offset, (row_step, step))
            columns.append(values.astype(np.float64).reshape(-1))
    points = np.stack(columns, axis=-1) if columns else np.zeros((0, 3))
    return np.asarray(points[np.isfinite(points).all(axis=1)])


def sparse_depth(points: Matrix, camera: PinholeCamera) -> NDArray[np.float32]:
    """Depth float32 [H, W] of points [N, 3] in the camera's optical frame, metres, 0 where none falls.

    The nearest point wins a pixel; what is behind the camera or outside of the image is left out. The depth of a
    distorted camera has the image's distortion.
    """
    points = points[points[:, 2] > 0]
    rays = points[:, :2] / points[:, 2:]
    pixels = distort_rays(camera, rays) if len(rays) else rays
    column, row = np.rint(pixels).T
    seen = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    if camera.is_distorted and seen.any():
        # Far outside of the image, lens models fold back into it: such points do not return to their own ray.
        focal = np.array([camera.fx, camera.fy])
        error = np.abs(undistort_pixels(camera, pixels[seen]) - rays[seen]) * focal
        seen[seen] = (error < _SAME_PIXEL).all(axis=1)
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(depth, (row[seen].astype(int), column[seen].astype(int)), points[seen, 2].astype(np.float32))
    depth[np.isinf(depth)] = 0
    return depth


def match_stamps(images: Sequence[int], scans: Sequence[int], tolerance_ns: int) -> dict[int, int]:
    """Position of the scan by position of the image: each the nearest to the other, and not further than that."""
    if not images or not scans:
        return {}
    nearest_scan = _nearest(np.array(scans, np.int64), np.array(images, np.int64))
    nearest_image = _nearest(np.array(images, np.int64), np.array(scans, np.int64))
    return {
        image: int(scan)
        for image, scan in enumerate(nearest_scan)
        if nearest_image[scan] == image and abs(images[image] - scans[scan]) <= tolerance_ns
    }


def _nearest(stamps: NDArray[np.int64], queries: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of the stamp nearest to each query, of equally near ones the earlier."""
    order = np.argsort(stamps, kind="stable")
    after = np.searchsorted(stamps[order], queries).clip(0, len(stamps) - 1)
    before = (after - 1).clip(0)
    is_before = np.abs(stamps[order][before] - queries) <= np.abs(stamps[order][after] - queries)
    return np.asarray(order[np.where(is_before, before, after)])
