"""Scale from images against odometry: on streets with exact truth, and whatever odometry does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, distort_rays, undistort_pixels
from depth_node.scale import VisualOdometryScale, visual_odometry
from depth_node.scale.filter import NETWORK_SIGMA
from depth_node.scale.pyramid import Pyramid, make_pyramid
from depth_node.scale.visual_motion import VisualMotion, turn_between, visual_motion
from depth_node.scale.visual_odometry import MIN_SPEED
from depth_node.synthetic import SyntheticFrame, render, street_drive, street_world
from depth_node.synthetic.street import T_BASE_CAMERA, base_pose

CAMERA = PinholeCamera(320, 96, 186.0, 186.0, 157.0, 44.0)
IMAGE = np.zeros((96, 320, 3), np.uint8)
INVERSE_DEPTH = np.full((96, 320), 0.1, np.float32)
START_NS = 1_700_000_000_000_000_000
FRAME_NS = 200_000_000


@pytest.fixture(scope="module")
def drive() -> list[SyntheticFrame]:
    """14 frames at 5 Hz and 8 m/s along a bend."""
    return list(street_drive(street_world(3), CAMERA, 14, speed=8.0, rate=5.0, start=20.0))


def inverse(frame: SyntheticFrame, unit: float) -> NDArray[np.float32]:
    """Exact inverse depth in another unit; the sky is far."""
    return np.where(np.isfinite(frame.depth), np.float32(unit) / frame.depth, np.float32(1e-4)).astype(np.float32)


@pytest.mark.parametrize(("step", "metres"), [(1, None), (2, 3.2)])
def test_motion_between_images_of_a_street(drive: list[SyntheticFrame], step: int, metres: float | None) -> None:
    """Exact depth: how far the camera went, in its unit, and that in median depths. Long ways have to be expected."""
    expected_motion = None if metres is None else np.array([0.0, 0.0, -metres / 0.1])
    distances, expected = [], []
    for a, b in zip(drive, drive[step:], strict=False):
        views = [make_pyramid(frame.rgb, inverse(frame, 0.1), frame.stamp_ns) for frame in (a, b)]
        seen = visual_motion(views[0], views[1], CAMERA, expected_motion)
        distances.append(math.nan if seen.fault else seen.distance)
        expected.append(np.linalg.norm(b.T_world_camera[:3, 3] - a.T_world_camera[:3, 3]) / 0.1)
        assert seen.baseline == pytest.approx(seen.distance * 0.1 / 15, rel=0.9)  # a street is some 15 m deep
    ratios = np.array(distances) / expected
    assert np.isfinite(ratios).mean() > (0.8 if step == 1 else 0.6)
    assert np.nanmedian(ratios) == pytest.approx(1.0, abs=0.02)
    assert np.nanpercentile(np.abs(ratios - 1), 80) < 0.03


@pytest.mark.parametrize("degrees", [-5.0, 3.0])
def test_turns_are_found_before_alignment(degrees: float) -> None:
    """Turned to the right: T_b_a moves points to the left, about y downwards."""
    world = street_world(3)
    assert world.street is not None
    T_world_a = base_pose(world.street, 20.0) @ T_BASE_CAMERA
    angle = math.radians(degrees)
    T_a_b = np.eye(4)
    T_a_b[:3, :3] = cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0]
    frames = [render(world, CAMERA, pose) for pose in (T_world_a, T_world_a @ T_a_b)]
    views = [make_pyramid(rgb, INVERSE_DEPTH, number) for number, (rgb, _) in enumerate(frames)]
    np.testing.assert_allclose(turn_between(views[0], views[1], CAMERA), T_a_b[:3, :3].T, atol=0.01)


def test_images_that_have_nothing_in_common_are_refused(drive: list[SyntheticFrame]) -> None:
    view = make_pyramid(drive[0].rgb, inverse(drive[0], 1.0), 0)
    noise = np.random.default_rng(0).integers(0, 256, (12, 40, 3), np.uint8)
    other = make_pyramid(cv2.resize(noise, (320, 96), interpolation=cv2.INTER_CUBIC), INVERSE_DEPTH, 1)  # type: ignore[arg-type]
    assert visual_motion(view, other, CAMERA).fault
    assert visual_motion(other, view, CAMERA).fault
    assert visual_motion(make_pyramid(IMAGE, INVERSE_DEPTH, 0), view, CAMERA).fault == "too little to see"


@pytest.mark.parametrize("unit", [0.1, 5.0])
def test_scale_of_a_street(drive: list[SyntheticFrame], unit: float) -> None:
    """From images, with the poses of the vehicle that carries the camera."""
    scale = VisualOdometryScale()
    street = street_world(3).street
    assert street is not None
    for number in range(200):
        seconds = number * 0.02
        pose = base_pose(street, 20.0 + 8.0 * seconds)
        scale.odometry.add_pose(drive[0].stamp_ns + round(seconds * 1e9), pose[:3, 3], pose[:3, :3])
    for frame in drive:
        estimate = scale.add(frame.rgb, inverse(frame, unit), CAMERA.resized(1280, 384), frame.stamp_ns)
    assert estimate.source == "odometry"
    assert estimate.factor == pytest.approx(unit, rel=0.02)
    assert NETWORK_SIGMA <= estimate.relative_sigma < 0.1
    assert estimate == scale.estimate == scale.update(frame.depth, CAMERA)


@pytest.mark.parametrize("k1", [-0.12, 0.1])
def test_scale_through_a_lens_that_distorts(drive: list[SyntheticFrame], k1: float) -> None:
    """Images and depth of the street, bent; as of a pinhole camera, they give 1.10 and 0.98."""
    bent = replace(CAMERA, distortion=(k1, 0.0, 0.0, 0.0, 0.0))
    pixels = np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), axis=-1).astype(np.float64)
    x, y = np.moveaxis(distort_rays(CAMERA, undistort_pixels(bent, pixels)), -1, 0).astype(np.float32)
    assert np.isfinite(x).all()  # or OpenCV never ends
    scale = VisualOdometryScale()
    for stamp in range(drive[0].stamp_ns, drive[-1].stamp_ns + FRAME_NS, 20_000_000):
        scale.odometry.add_velocity(stamp, np.array([8.0, 0.0, 0.0]), np.zeros(3))
    for frame in drive:
        rgb = cv2.remap(frame.rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        depth = cv2.remap(inverse(frame, 1.0), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        estimate = scale.add(np.asarray(rgb, np.uint8), np.asarray(depth, np.float32), bent, frame.stamp_ns)
    assert estimate.is_known
    assert estimate.factor == pytest.approx(1.0, rel=0.04)


class Setting:
    """A scale whose images are replaced by what they would show: `units` of depth per metre, `baseline` a pair."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scale = VisualOdometryScale()
        self.units = 2.0
        self.depth = 10.0  # metres
        self.speed = 1.0
        self.fault = ""
        self.seen: list[tuple[int, int]] = []
        self.now = START_NS
        monkeypatch.setattr(visual_odometry, "visual_motion", self._look)

    def _look(
        self, a: Pyramid, b: Pyramid, camera: PinholeCamera, expected: NDArray[np.float64] | None
    ) -> VisualMotion:
        self.seen.append((a.stamp_ns, b.stamp_ns))
        metres = self.speed * (b.stamp_ns - a.stamp_ns) * 1e-9
        return VisualMotion(np.array([0.0, 0.0, -metres * self.units]), metres / self.depth, self.fault)

    def odometry(self, speed: float | None = None, turn_rate: float = 0.0, until: int | None = None) -> None:
        """Velocities at 50 Hz, up to a little later than now."""
        newest = self.scale.odometry.newest_ns or self.now - FRAME_NS
        for stamp in range(newest + 20_000_000, (until or self.now + 40_000_000) + 1, 20_000_000):
            velocity = np.array([self.speed if speed is None else speed, 0.0, 0.0])
            self.scale.odometry.add_velocity(stamp, velocity, np.array([0.0, 0.0, turn_rate]))

    def image(self) -> None:
        self.scale.add(IMAGE, INVERSE_DEPTH, CAMERA, self.now)
        self.now += FRAME_NS

    def drive(self, frames: int, **odometry: float) -> None:
        for _ in range(frames):
            self.odometry(**odometry)  # type: ignore[arg-type]
            self.image()


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def test_unknown_until_far_enough(setting: Setting) -> None:
    """1 m/s before a scene 10 m deep: pairs of 0.4 m, 0.04 depths each; one depth is enough."""
    known_after = None
    for number in range(100):
        setting.drive(1)
        if setting.scale.estimate.is_known:
            known_after = number * setting.speed * FRAME_NS * 1e-9
            break
        assert setting.scale.estimate.factor == 1.0
        assert math.isnan(setting.scale.estimate.relative_sigma)
    assert known_after == pytest.approx(setting.depth, rel=0.1)
    assert setting.scale.estimate.factor == pytest.approx(1 / setting.units, rel=1e-3)
    assert "pairs of images against odometry" in setting.scale.estimate.reason


def test_without_odometry_nothing_is_looked_at(setting: Setting) -> None:
    for _ in range(5):
        setting.image()
    assert not setting.seen
    assert setting.scale.estimate.reason == "no odometry"
    setting.odometry(until=setting.now)
    setting.now += 10**9
    setting.image()
    assert not setting.seen
    assert setting.scale.estimate.reason == "no odometry of the time of the images"


def test_standing_still_keeps_the_scale_and_costs_nothing(setting: Setting) -> None:
    setting.speed = 5.0
    setting.drive(30)
    before, looks = setting.scale.estimate, len(setting.seen)
    assert before.is_known
    setting.speed, setting.fault = 0.0, "must not be asked"
    setting.drive(30, speed=0.9 * MIN_SPEED)
    after = setting.scale.estimate
    assert len(setting.seen) - looks <= 1  # that of braking
    assert (after.source, after.factor, after.relative_sigma) == ("odometry", before.factor, before.relative_sigma)
    assert after.reason.endswith("standing still")
    setting.speed, setting.fault = 5.0, ""
    setting.drive(30)
    assert setting.scale.estimate.reason.endswith("against odometry")


def test_images_are_asked_for_only_where_they_teach_anything(setting: Setting) -> None:
    assert not setting.scale.needs_images()  # no odometry
    setting.speed = 5.0
    asked = []
    for _ in range(60):
        setting.odometry()
        asked.append(setting.scale.needs_images())
        if asked[-1]:
            setting.image()
        else:
            setting.now += FRAME_NS
    assert setting.scale.estimate.is_known
    assert 0.2 < np.mean(asked[-30:]) < 0.6  # two for a pair, one pair a second, 5 Hz
    setting.speed = 0.0
    asked.clear()
    for _ in range(20):
        setting.odometry()
        asked.append(setting.scale.needs_images())
        if asked[-1]:
            setting.image()
        else:
            setting.now += FRAME_NS
    assert sum(asked) <= 4
    assert setting.scale.estimate.reason.endswith("standing still")


def test_images_too_close_wait_for_later_ones(setting: Setting) -> None:
    """0.2 m/s before 10 m: 0.02 m between images; MIN_BASELINE takes 0.3 m, which is within 2 s."""
    setting.speed = 0.2
    setting.drive(60)
    lengths = {(b - a) // FRAME_NS for a, b in setting.seen}
    assert max(lengths) == 8
    setting.seen.clear()
    setting.speed = 0.1 + 1e-3  # now within 2 s never
    setting.drive(30)
    assert not setting.scale.estimate.is_known


def test_turns_are_left_out(setting: Setting) -> None:
    setting.drive(60, turn_rate=0.5)
    assert not setting.scale.estimate.is_known
    assert setting.scale.rejected["turning"] > 5
    assert setting.scale.estimate.reason.startswith(
        "driving, 0% of the way needed has been seen (pairs left out: turning:"
    )
    setting.drive(60)
    assert setting.scale.estimate.is_known


def test_late_odometry_still_counts(setting: Setting) -> None:
    """Each message comes 0.3 s after its stamp."""
    setting.speed = 4.0
    setting.odometry(until=START_NS)
    for _ in range(30):
        setting.odometry(until=setting.now - 300_000_000 if setting.now > START_NS + 300_000_000 else None)
        setting.image()
    assert setting.scale.estimate.factor == pytest.approx(1 / setting.units, rel=1e-6)


def test_pairs_over_a_gap_are_left_out(setting: Setting) -> None:
    setting.speed = 4.0
    for _ in range(20):
        setting.odometry(until=setting.now)
        setting.image()
    assert setting.scale.estimate.is_known
    rejected = dict(setting.scale.rejected)
    setting.now += 3_000_000_000
    setting.odometry(until=setting.now)
    setting.scale.odometry.clear()  # and nothing is known of the time before
    setting.speed = 8.0
    setting.drive(40)
    assert setting.scale.rejected == rejected
    assert setting.scale.estimate.factor == pytest.approx(1 / setting.units, rel=1e-3)


def test_stamps_that_jump_back_or_repeat(setting: Setting) -> None:
    setting.speed = 4.0
    setting.drive(20)
    known = setting.scale.estimate
    for stamp in (setting.now - FRAME_NS, setting.now - FRAME_NS, setting.now - 4 * FRAME_NS, START_NS - 10**12):
        setting.scale.add(IMAGE, INVERSE_DEPTH, CAMERA, stamp)
    assert all(a < b for a, b in setting.seen)
    assert setting.scale.estimate.factor == known.factor
    setting.scale.odometry.clear()
    setting.now = START_NS - 10**12  # a recording from the beginning
    setting.drive(30)
    assert setting.scale.estimate.reason == "31 pairs of images against odometry" or setting.scale.estimate.is_known
    assert setting.seen[-1][0] < START_NS


def test_a_known_scale_is_checked_seldom(setting: Setting) -> None:
    setting.speed = 10.0
    setting.drive(30)
    setting.seen.clear()
    setting.drive(50)  # 10 s
    assert 7 <= len(setting.seen) <= 11


def test_faults_and_outliers_do_not_get_in(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the pairs is off by a factor of three, every fifth does not match."""
    look, calls = setting._look, iter(range(10_000))

    def unreliable(*arguments: Any) -> VisualMotion:
        number, seen = next(calls), look(*arguments)
        if number % 5 == 4:
            return replace(seen, translation=np.full(3, 1e-3), fault="images that do not match")
        return replace(seen, translation=3 * seen.translation) if number % 3 == 2 else seen

    monkeypatch.setattr(visual_odometry, "visual_motion", unreliable)
    setting.speed = 4.0
    setting.drive(300)
    assert setting.scale.estimate.factor == pytest.approx(1 / setting.units, rel=1e-3)
    assert setting.scale.rejected["images that do not match"] > 5


def test_sigma_tells_how_much_pairs_disagree(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    look = setting._look

    def noisy(*arguments: Any) -> VisualMotion:
        seen = look(*arguments)
        return replace(seen, translation=seen.translation * math.exp(0.15 * rng.normal()))

    monkeypatch.setattr(visual_odometry, "visual_motion", noisy)
    setting.speed = 4.0
    setting.drive(300)
    assert 0.1 < setting.scale.estimate.relative_sigma < 0.24  # 0.15 and what a network adds, from 31 pairs
