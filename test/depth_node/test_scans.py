"""Scans of walls and floors whose ranges have closed forms, and of random depth against a rotation matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera
from depth_node.errors import ScanError
from depth_node.scans import ScanBand, laser_scan, scan_frame

HEADER = Header(frame_id="camera")
CAMERA = PinholeCamera(120, 60, 90.0, 80.0, 61.3, 28.7)
FISHEYE = PinholeCamera(121, 81, 60.0, 60.0, 60.0, 40.0, "equidistant", (-0.01, 0.02, -0.01, 0.003))
CAMERAS = pytest.mark.parametrize("camera", [CAMERA, FISHEYE], ids=["pinhole", "fisheye"])
PITCHES = pytest.mark.parametrize("pitch", [0.0, 0.25, -0.3])

pitches = st.floats(-0.6, 0.6)


def levelled(camera: PinholeCamera, pitch: float) -> np.ndarray:
    """Forward, left, up of each pixel's ray of depth 1: float64 [H, W, 3], by a rotation about the left axis."""
    rays = camera.rays().astype(np.float64)
    # x forward, y left, z up of the camera itself (REP 103), then its pitch about y: nose down is positive.
    body = np.stack([np.ones_like(rays[..., 0]), -rays[..., 0], -rays[..., 1]], axis=-1)
    cos, sin = math.cos(pitch), math.sin(pitch)
    return body @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T


def wall(camera: PinholeCamera, pitch: float, distance: float) -> np.ndarray:
    """Depth of an upright wall straight ahead, `distance` metres along the ground."""
    return (distance / levelled(camera, pitch)[..., 0]).astype(np.float32)


def floor(camera: PinholeCamera, pitch: float, camera_height: float) -> np.ndarray:
    """Depth of a level floor; NaN above the horizon."""
    up = levelled(camera, pitch)[..., 2]
    return np.where(up < 0, camera_height / -np.minimum(up, -1e-9), np.nan).astype(np.float32)


def scan(depth: np.ndarray, camera: PinholeCamera = CAMERA, **band: float) -> tuple[np.ndarray, np.ndarray]:
    """Angles and ranges of the beams."""
    defaults = {"min_height": -1e4, "max_height": 1e4, "pitch": 0.0, "min_range": 0.0, "max_range": 1000.0}
    message = laser_scan(depth, camera, ScanBand(**{**defaults, **band}), HEADER)
    angles = message.angle_min + message.angle_increment * np.arange(len(message.ranges))
    assert angles[-1] == pytest.approx(message.angle_max, abs=1e-6)
    return angles, np.array(message.ranges)


@CAMERAS
@PITCHES
@pytest.mark.parametrize("distance", [0.8, 7.0, 40.0])
def test_wall_is_as_far_as_its_bearing_says(camera: PinholeCamera, pitch: float, distance: float) -> None:
    angles, ranges = scan(wall(camera, pitch, distance), camera, pitch=pitch)
    seen = ~np.isnan(ranges)  # with a pitch, few rows see the outermost bearings
    assert seen[np.abs(angles) < 0.5].all()
    # A beam has the nearest of the pixels within half a beam of its angle.
    inner = np.maximum(np.abs(angles) - 0.5 / camera.fx, 0)
    tolerance = 1 + 1e-5
    assert (ranges[seen] >= distance / np.cos(inner[seen]) / tolerance).all()
    assert (ranges[seen] <= distance / np.cos(np.abs(angles[seen]) + 0.5 / camera.fx) * tolerance).all()


def test_every_column_of_a_level_camera_has_its_beam() -> None:
    angles, ranges = scan(wall(CAMERA, 0.0, 5.0))
    columns = np.array([0, CAMERA.width - 1])
    right, left = np.sort(np.arctan((CAMERA.cx - columns) / CAMERA.fx))
    assert angles[0] == pytest.approx(right)
    assert angles[-1] == pytest.approx(left, abs=0.5 / CAMERA.fx + 1e-6)
    assert np.diff(angles) == pytest.approx(1 / CAMERA.fx)  # one column at the principal point
    assert np.isfinite(ranges).all()


@given(st.integers(0, 2**32 - 1), pitches, st.floats(-3, 0), st.floats(0.1, 3), st.floats(0, 4), st.floats(5, 30))
def test_beams_have_the_nearest_of_their_points(
    seed: int, pitch: float, low: float, high: float, near: float, far: float
) -> None:
    """Point by point in float64, through a rotation matrix; values close to a limit may fall on either side."""
    rng = np.random.default_rng(seed)
    camera = PinholeCamera(17, 11, 14.0, 13.0, 8.2, 4.9)
    depth = rng.uniform(0.2, 40, (11, 17)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.5] = np.nan
    angles, ranges = scan(depth, camera, min_height=low, max_height=high, pitch=pitch, min_range=near, max_range=far)
    points = (levelled(camera, pitch) * depth[..., None]).reshape(-1, 3)
    bearings = np.arctan2(*levelled(camera, pitch).reshape(-1, 3)[:, 1::-1].T)
    distances, heights = np.hypot(points[:, 0], points[:, 1]), points[:, 2]
    for angle, value in zip(angles, ranges, strict=True):
        offset = np.abs(bearings - angle) * camera.fx
        if (np.abs(offset - 0.5) < 1e-3).any():
            continue
        members = offset < 0.5
        in_band = members & (heights > low) & (heights < high) & (distances < far)
        nearest = distances[in_band].min(initial=np.inf)
        edges = [*np.abs(heights[members] - low), *np.abs(heights[members] - high), *np.abs(distances[members] - far)]
        if min([abs(nearest - near), *edges], default=1.0) < 1e-3:
            continue
        if np.isnan(distances[members]).all():
            assert np.isnan(value)
        elif nearest < near:
            assert value == -np.inf
        else:
            assert value == pytest.approx(nearest, rel=1e-5)


@CAMERAS
@PITCHES
def test_floor_below_the_band_is_clear(camera: PinholeCamera, pitch: float) -> None:
    depth = floor(camera, pitch, camera_height=1.2)
    angles, ranges = scan(depth, camera, min_height=-1.1, max_height=0.5, pitch=pitch)
    assert np.isposinf(ranges[np.abs(angles) < 0.3]).all()
    assert not np.isfinite(ranges).any()


@PITCHES
def test_floor_in_the_band_begins_at_the_bottom_of_the_image(pitch: float) -> None:
    """Ahead, the lowest row looks down by atan((H - 1 - cy) / fy) + pitch, and meets the floor at h / tan of that."""
    angles, ranges = scan(floor(CAMERA, pitch, camera_height=1.2), min_height=-1.3, max_height=0.5, pitch=pitch)
    ahead = ranges[np.abs(angles).argmin()]
    down = math.atan((CAMERA.height - 1 - CAMERA.cy) / CAMERA.fy) + pitch
    assert ahead == pytest.approx(1.2 / math.tan(down), rel=1e-3)


@PITCHES
def test_wall_stands_out_of_the_floor(pitch: float) -> None:
    depth = np.fmin(wall(CAMERA, pitch, 4.0), floor(CAMERA, pitch, camera_height=1.2))
    angles, ranges = scan(depth, min_height=-1.1, max_height=0.0, pitch=pitch)
    ahead = np.abs(angles) < 0.3
    np.testing.assert_allclose(ranges[ahead], 4.0 / np.cos(angles[ahead]), rtol=0.01)


def test_left_of_the_image_is_left_of_the_robot() -> None:
    depth = np.full((CAMERA.height, CAMERA.width), np.nan, np.float32)
    depth[30, 5] = 2.0
    angles, ranges = scan(depth)
    (beam,) = np.flatnonzero(np.isfinite(ranges))
    assert angles[beam] == pytest.approx(math.atan2(CAMERA.cx - 5, CAMERA.fx), abs=0.51 / CAMERA.fx)
    assert angles[beam] > 0
    assert ranges[beam] == pytest.approx(2.0 * math.hypot(1, (CAMERA.cx - 5) / CAMERA.fx))


def test_special_values_say_too_near_clear_and_unknown() -> None:
    depth = np.full((CAMERA.height, CAMERA.width), np.nan, np.float32)
    depth[:, :30] = 0.2  # left: too near
    depth[:, 30:60] = 50.0  # beyond the range
    depth[:, 60:90] = 3.0
    angles, ranges = scan(depth, min_range=0.5, max_range=10.0)
    columns = CAMERA.cx - CAMERA.fx * np.tan(angles)
    assert np.isneginf(ranges[columns < 29]).all()
    assert np.isposinf(ranges[(columns > 30) & (columns < 59)]).all()
    assert np.isfinite(ranges[(columns > 60) & (columns < 89)]).all()
    assert np.isnan(ranges[columns > 91]).all()


def test_message_describes_one_instant_in_its_frame() -> None:
    band = ScanBand(-1.0, 1.0, 0.0, 0.5, 10.0)
    message = laser_scan(wall(CAMERA, 0.0, 3.0), CAMERA, band, HEADER)
    assert message.header == HEADER
    assert (message.range_min, message.range_max) == (0.5, 10.0)
    assert (message.time_increment, message.scan_time) == (0.0, 0.0)
    assert len(message.intensities) == 0


def test_scan_that_sees_nothing_ahead_is_refused() -> None:
    below = PinholeCamera(20, 20, 100.0, 100.0, 10.0, -500.0)  # its image lies far below the optical axis
    with pytest.raises(ScanError, match=r"looks ahead; check scan\.camera_pitch"):
        scan(np.ones((20, 20), np.float32), below, pitch=1.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_height": 1.0, "max_height": 1.0}, "of height; expected min < max"),
        ({"min_range": 5.0, "max_range": 5.0}, "of range; expected 0 <= min < max"),
        ({"min_range": -1.0}, "of range; expected 0 <= min < max"),
        ({"pitch": 30.0}, "expected less than a right angle, in radians"),
        ({"pitch": math.nan}, "nan rad"),
    ],
)
def test_band_that_can_see_nothing_is_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ScanError, match=said):
        scan(wall(CAMERA, 0.0, 3.0), **change)


@pytest.mark.parametrize(
    ("frame_id", "configured", "expected"),
    [
        ("front_camera_optical_frame", "", "front_camera_frame"),
        ("camera_optical", "", "camera"),
        ("camera_optical_frame", "base_scan", "base_scan"),
        ("camera", "camera_level", "camera_level"),
    ],
)
def test_frame_of_the_scan(frame_id: str, configured: str, expected: str) -> None:
    assert scan_frame(frame_id, configured) == expected


@pytest.mark.parametrize("frame_id", ["camera", "", "_optical", "camera_optical_link"])
def test_frame_that_cannot_be_told_is_refused(frame_id: str) -> None:
    with pytest.raises(ScanError, match=r"set the parameter scan\.frame"):
        scan_frame(frame_id, "")
