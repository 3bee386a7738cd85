"""Messages of the node -> Rerun archetypes. Reads any object with a message's fields; no ROS, no connection."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import rerun as rr
from numpy.typing import NDArray

from depth_node.errors import DepthNodeError, ImageError

MILLIMETERS_PER_METER = 1000.0
FRUSTUM_LENGTH = 2.0  # metres: how far from the camera the 3D view shows the image
POINT_RADIUS = 1.5  # pixels of the screen, at any distance

VALID, INVALID = 0, 1
VALIDITY_CLASSES = ((VALID, "depth", (0, 0, 0, 0)), (INVALID, "no depth", (0, 0, 0, 255)))  # transparent, black

# sensor_msgs/PointField
_POINT_FIELD_FLOAT32 = 7


def encoded_image(rgb: NDArray[np.uint8], jpeg_quality: int) -> rr.EncodedImage:
    """JPEG of rgb: uint8 [H, W, 3]. `jpeg_quality` is 1 to 100."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    return rr.EncodedImage(contents=encoded.tobytes(), media_type=rr.components.MediaType.JPEG)


def depth_image(message: Any, color_max_depth: float, is_compact: bool = False) -> rr.DepthImage:
    """Depth of a 32FC1 image (metres, NaN invalid) or a 16UC1 image (millimetres, 0 invalid), as REP 118 has them.

    color_max_depth: metres at the end of the colour scale, which is the same for every frame.
    is_compact: metres as float16, of 9 significant bits, which compress to a quarter; 16UC1 stays as it is.

    Raises:
        ImageError: another encoding, or data that does not fit the size.
    """
    depth = depth_pixels(message)
    meter = MILLIMETERS_PER_METER if depth.dtype == np.uint16 else 1.0
    if is_compact and depth.dtype == np.float32:
        depth = _compact(depth)
    return rr.DepthImage(
        depth, meter=meter, colormap=rr.components.Colormap.Turbo, depth_range=(0.0, color_max_depth * meter)
    )


def invalid_pixels(message: Any) -> rr.SegmentationImage:
    """`INVALID` where a depth image has no depth, else `VALID`: classes of `VALIDITY_CLASSES`.

    To be drawn over the depth image: Rerun gives NaN the colour of the farthest depth.

    Raises:
        ImageError: as for `depth_image`.
    """
    depth = depth_pixels(message)
    is_invalid = depth == 0 if depth.dtype == np.uint16 else np.isnan(depth)
    return rr.SegmentationImage(np.where(is_invalid, INVALID, VALID).astype(np.uint8), opacity=1.0)


def _compact(depth: NDArray[np.float32]) -> NDArray[np.float16]:
    """Rounded to multiples of 2^-8 of the power of two below, at most 0.2 % off; LZ4 finds the zeros."""
    bits = depth.view(np.uint32)
    rounded = ((bits + np.uint32(1 << 14)) & np.uint32(0xFFFF8000)).view(np.float32)
    with np.errstate(over="ignore"):  # beyond 65 km: infinite
        return np.where(np.isnan(depth), np.float32(np.nan), rounded).astype(np.float16)


def confidence_image(message: Any) -> rr.Image:
    """Grey picture, black at 0 and white at 1, of a 32FC1 image of confidences; NaN is black.

    Raises:
        ImageError: another encoding, or data that does not fit the size.
    """
    confidence = depth_pixels(message, ("32FC1",))
    grey = np.nan_to_num(confidence, nan=0.0).clip(0.0, 1.0) * np.float32(255)
    return rr.Image(grey.round().astype(np.uint8), rr.ColorModel.L)


def depth_pixels(message: Any, encodings: tuple[str, ...] = ("32FC1", "16UC1")) -> NDArray[Any]:
    """The pixels of a sensor_msgs/Image with one float32 or uint16 channel: [H, W], native byte order.

    Raises:
        ImageError: an encoding that is not in `encodings`, or data that does not fit the size.
    """
    if message.encoding not in encodings:
        raise ImageError("encoding", f"encoding '{message.encoding}'; expected {' or '.join(encodings)}")
    dtype = np.dtype(np.float32 if message.encoding == "32FC1" else np.uint16)
    height, width, step = message.height, message.width, message.step
    if height <= 0 or width <= 0 or step < width * dtype.itemsize or len(message.data) != height * step:
        raise ImageError(
            "data", f"{len(message.data)} bytes in rows of {step} for {width}x{height} pixels of '{message.encoding}'"
        )
    stored: NDArray[Any] = np.ndarray(
        (height, width),
        dtype.newbyteorder(">" if message.is_bigendian else "<"),
        np.frombuffer(message.data, np.uint8),
        strides=(step, dtype.itemsize),
    )
    return stored.astype(dtype, copy=False)


def pinhole(info: Any) -> rr.Pinhole:
    """K and size of a CameraInfo, in the optical frame: x right, y down, z forward (REP 103)."""
    return rr.Pinhole(
        image_from_camera=np.array(info.k, np.float64).reshape(3, 3),
        resolution=[info.width, info.height],
        camera_xyz=rr.ViewCoordinates.RDF,
        image_plane_distance=FRUSTUM_LENGTH,
    )


def points(cloud: Any, max_points: int) -> rr.Points3D:
    """The valid points of a PointCloud2, with colours where it has a field `rgb` (0x00RRGGBB).

    Of a larger organised cloud every n-th row and column, of another every n-th point, so that no more than
    `max_points` remain.

    Raises:
        DepthNodeError: no float32 fields x, y, z, or data that does not fit the size.
    """
    cells = _thinned(_cloud_cells(cloud), max_points).reshape(-1)
    xyz = np.column_stack([cells[name] for name in "xyz"])
    is_valid = np.isfinite(xyz).all(axis=1)
    colors = None
    if "rgb" in (cells.dtype.names or ()):
        packed = np.ascontiguousarray(cells["rgb"][is_valid]).view(np.uint32)
        colors = packed << np.uint32(8) | np.uint32(0xFF)  # Rerun's 0xRRGGBBAA, opaque
    return rr.Points3D(xyz[is_valid], colors=colors, radii=rr.components.Radius.ui_points(POINT_RADIUS))


def scan_points(scan: Any) -> rr.Points2D:
    """A LaserScan from above, in metres: the robot at the origin, its front (x of the scan) up, its left (y) left."""
    ranges = np.asarray(scan.ranges, np.float32)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(ranges))
    is_hit = np.isfinite(ranges) & (ranges >= scan.range_min) & (ranges <= scan.range_max)
    x, y = ranges * np.cos(angles), ranges * np.sin(angles)
    return rr.Points2D(np.column_stack([-y, -x])[is_hit], radii=rr.components.Radius.ui_points(2 * POINT_RADIUS))


def _cloud_cells(cloud: Any) -> NDArray[Any]:
    """Structured array [H, W] of the cloud's float32 fields, a view of its data."""
    offsets = {field.name: field.offset for field in cloud.fields if field.datatype == _POINT_FIELD_FLOAT32}
    if not {"x", "y", "z"} <= set(offsets) or cloud.is_bigendian:
        names = ", ".join(field.name for field in cloud.fields)
        raise DepthNodeError(f"cloud with the fields {names or '(none)'}; expected little-endian float32 x, y, z")
    size = cloud.height * cloud.row_step
    if cloud.row_step < cloud.width * cloud.point_step or len(cloud.data) != size:
        raise DepthNodeError(
            f"cloud of {len(cloud.data)} bytes, with {cloud.height} rows of {cloud.row_step} bytes for {cloud.width} "
            f"points of {cloud.point_step} bytes"
        )
    cell = np.dtype(
        {
            "names": list(offsets),
            "formats": ["<f4"] * len(offsets),
            "offsets": list(offsets.values()),
            "itemsize": cloud.point_step,
        }
    )
    strides = (cloud.row_step, cloud.point_step)
    cells: NDArray[Any] = np.ndarray(
        (cloud.height, cloud.width), cell, np.frombuffer(cloud.data, np.uint8), strides=strides
    )
    return cells


def _thinned(cells: NDArray[Any], max_points: int) -> NDArray[Any]:
    if cells.size <= max_points:
        return cells
    if cells.shape[0] == 1:
        return cells[:, :: -(-cells.size // max_points)]
    stride = int(np.ceil(np.sqrt(cells.size / max_points)))
    while cells[::stride, ::stride].size > max_points:  # rows and columns are rounded up
        stride += 1
    return cells[::stride, ::stride]
