"""Depth -> LaserScan for 2D navigation: the nearest thing in a band of heights, by direction."""

from __future__ import annotations

import array
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera, directions
from depth_node.errors import ScanError


@dataclass(frozen=True)
class ScanBand:
    """What a scan sees.

    min_height, max_height: metres above the camera, in the levelled camera frame; below it is negative.
    pitch: how far the camera looks down, in radians; up is negative.
    min_range, max_range: metres from the camera, along the ground.

    Raises:
        ScanError: a band without heights or ranges, or a camera that looks straight down or up.
    """

    min_height: float
    max_height: float
    pitch: float
    min_range: float
    max_range: float

    def __post_init__(self) -> None:
        if not self.min_height < self.max_height:
            raise ScanError(f"scan from {self.min_height} m to {self.max_height} m of height; expected min < max")
        if not 0 <= self.min_range < self.max_range:
            raise ScanError(f"scan from {self.min_range} m to {self.max_range} m of range; expected 0 <= min < max")
        if not abs(self.pitch) < math.pi / 2:
            raise ScanError(f"camera pitch of {self.pitch} rad; expected less than a right angle, in radians")


@dataclass(frozen=True)
class _Beams:
    """Which pixels lie in which beam, and what a metre of their depth is in the levelled camera.

    pixels: [P] flat indices, sorted by beam. starts: [M] where each beam that has pixels starts among them.
    indices: [M] those beams. ranges, heights: float32 [P], metres along the ground and upwards per metre of depth.
    """

    angle_min: float
    increment: float
    count: int
    pixels: NDArray[np.intp]
    starts: NDArray[np.intp]
    indices: NDArray[np.intp]
    ranges: NDArray[np.float32]
    heights: NDArray[np.float32]


def laser_scan(depth: NDArray[np.float32], camera: PinholeCamera, band: ScanBand, header: Header) -> LaserScan:
    """Scan of the points whose height lies in the band; each beam has the nearest of its pixels.

    depth: float32 [H, W] metres along z, of the camera's size, NaN where invalid.
    header: the image's stamp, and the frame that `scan_frame` gives: at the camera, x forward, y left, z up (REP 103),
    levelled. With a pitch, a URDF's own camera frame is tilted, and a levelled one has to be named.

    Beams are as far apart as columns are at the principal point, 1 / fx. Their values, as REP 117 has them:
      a range: the nearest thing in the band.
      +inf: valid depth in this direction, none of it in the band up to `max_range`. A costmap clears such a beam
        where `inf_is_valid` is set for the source. No obstacle was seen; what lies behind the last floor that was
        seen is not measured.
      -inf: something in the band, nearer than `min_range`.
      NaN: no valid depth in this direction, so nothing is known. Costmaps neither mark nor clear it, nor -inf.
    All pixels are of one instant: `time_increment` and `scan_time` are 0.

    Raises:
        ScanError: no pixel looks ahead.
    """
    beams = _beams(camera, band.pitch)
    z = depth.ravel().take(beams.pixels)
    heights, ranges = z * beams.heights, z * beams.ranges
    ranges[(heights < band.min_height) | (heights > band.max_height) | (ranges > band.max_range)] = np.inf
    nearest = np.fmin.reduceat(ranges, beams.starts)  # NaN only where all are
    nearest[nearest < band.min_range] = -np.inf
    values = np.full(beams.count, np.nan, np.float32)
    values[beams.indices] = nearest
    scan = LaserScan(
        header=header,
        angle_min=beams.angle_min,
        angle_max=beams.angle_min + (beams.count - 1) * beams.increment,
        angle_increment=beams.increment,
        range_min=float(band.min_range),
        range_max=float(band.max_range),
    )
    scan.ranges = array.array("f", values.tobytes())
    return scan


def scan_frame(frame_id: str, configured: str) -> str:
    """Frame of the scan: the configured one, or the image's without the suffix of an optical frame (REP 103).

    `camera_optical_frame` becomes `camera_frame`, and `camera_optical` becomes `camera`.

    Raises:
        ScanError: none is configured, and the image's frame has no such suffix.
    """
    if configured:
        return configured
    for suffix, body in (("_optical_frame", "_frame"), ("_optical", "")):
        if frame_id.endswith(suffix) and frame_id != suffix:
            return frame_id.removesuffix(suffix) + body
    raise ScanError(
        f"the image's frame '{frame_id}' does not end in _optical_frame or _optical, so the scan's frame is not known; "
        "set the parameter scan.frame to a frame at the camera with x forward, y left, z up"
    )


@lru_cache(maxsize=4)
def _beams(camera: PinholeCamera, pitch: float) -> _Beams:
    x, y, _ = directions(camera).astype(np.float64)
    # Of a point at depth 1 in the levelled frame. The optical axes there are z = (cos, 0, -sin), y = (-sin, 0, -cos).
    forward = math.cos(pitch) - y * math.sin(pitch)
    left = -x
    height = -math.sin(pitch) - y * math.cos(pitch)
    # A steep camera sees the ground behind it, too; a scan is of what lies ahead.
    pixels = np.flatnonzero(forward > 0)  # NaN, a pixel without a ray, compares false
    if not len(pixels):
        raise ScanError(f"no pixel of a camera that looks down by {pitch} rad looks ahead; check scan.camera_pitch")
    forward, left, height = (values.ravel()[pixels] for values in (forward, left, height))
    bearings = np.arctan2(left, forward)
    angle_min, increment = float(bearings.min()), 1.0 / camera.fx
    indices = np.rint((bearings - angle_min) / increment).astype(np.intp)
    order = np.argsort(indices, kind="stable")
    indices = indices[order]
    starts = np.flatnonzero(np.diff(indices, prepend=-1))
    return _Beams(
        angle_min=angle_min,
        increment=increment,
        count=int(indices[-1]) + 1,
        pixels=pixels[order],
        starts=starts,
        indices=indices[starts],
        ranges=np.hypot(forward, left)[order].astype(np.float32),
        heights=height[order].astype(np.float32),
    )
