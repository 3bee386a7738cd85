"""Motion that a video tells itself: against the poses that it was rendered with, and units that are known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.synthetic import SyntheticFrame, street_drive, street_world
from depth_node.synthetic.street import CAMERA_HEIGHT
from training.data.records import translation
from training.data.video_motion import WindowMotion, window_motion
from training.data.video_poses import metric_motions, metric_units

CAMERA = PinholeCamera(width=416, height=160, fx=240, fy=240, cx=207.5, cy=66)
FRAMES = 7


@pytest.fixture(scope="module")
def drive() -> list[SyntheticFrame]:
    """0.8 m apart."""
    return list(street_drive(street_world(seed=5), CAMERA, frames=FRAMES, speed=8.0, start=30.0))


def gray(frame: SyntheticFrame) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def enlarged(frame: SyntheticFrame) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(gray(frame), (832, 320), interpolation=cv2.INTER_CUBIC), np.uint8)


def relative(drive: list[SyntheticFrame], index: int, offset: int) -> NDArray[np.float64]:
    return np.asarray(np.linalg.inv(drive[index + offset].T_world_camera) @ drive[index].T_world_camera)


def test_motion_to_the_neighbours_of_a_rendered_frame(drive: list[SyntheticFrame]) -> None:
    images = {k: enlarged(drive[3 + k]) for k in range(-3, 4)}
    motion = window_motion(images, CAMERA.resized(832, 320).matrix())
    assert motion is not None
    assert set(motion.T_neighbour_reference) == {-3, -2, -1, 1, 2, 3}
    assert motion.parallax > 10
    assert motion.noise < 0.5
    lengths = []
    for offset, T in motion.T_neighbour_reference.items():
        truth = relative(drive, 3, offset)
        turn = cv2.Rodrigues(T[:3, :3] @ truth[:3, :3].T)[0]
        assert np.degrees(np.linalg.norm(turn)) < 0.1
        t, t_true = T[:3, 3], truth[:3, 3]
        cosine = t @ t_true / np.linalg.norm(t) / np.linalg.norm(t_true)
        assert np.degrees(np.arccos(min(1.0, cosine))) < 2.0
        lengths.append(np.linalg.norm(t) / np.linalg.norm(t_true))
    np.testing.assert_allclose(lengths, np.mean(lengths), rtol=0.02)  # one unit of length for all neighbours


def test_no_texture_no_motion() -> None:
    blank = np.full((120, 400), 90, np.uint8)
    assert window_motion(dict.fromkeys(range(-2, 3), blank), np.diag([300.0, 300.0, 1.0])) is None


def test_still_camera_has_no_metric_motion(drive: list[SyntheticFrame]) -> None:
    with ThreadPoolExecutor(1) as pool:
        still = metric_motions(range(6), lambda _: gray(drive[3]), CAMERA.matrix(), CAMERA_HEIGHT, pool)
    assert still == {}


def test_motion_in_metres_by_the_height_over_the_road(drive: list[SyntheticFrame]) -> None:
    images = [gray(frame) for frame in drive]
    with ThreadPoolExecutor(1) as pool:
        motions = metric_motions(range(FRAMES), images.__getitem__, CAMERA.matrix(), CAMERA_HEIGHT, pool)
        assert set(motions) == set(range(FRAMES))
        for index, neighbours in motions.items():
            for offset, T in neighbours.items():
                assert np.linalg.norm(T[:3, 3]) == pytest.approx(0.8 * abs(offset), rel=0.05), (index, offset)


@pytest.fixture
def straight() -> tuple[dict[int, WindowMotion], dict[int, float], dict[int, float]]:
    """40 frames 1 m apart, each with a unit of its own: motions, heights of 1.5 m in that unit, metres per unit."""
    rng = np.random.default_rng(0)
    units = {index: float(np.exp(rng.normal(0, 0.5))) for index in range(40)}
    motions = {
        index: _forward(1.0 / unit, range(max(-3, -index), min(3, 39 - index) + 1)) for index, unit in units.items()
    }
    heights = {index: 1.5 / unit * float(np.exp(rng.normal(0, 0.03))) for index, unit in units.items()}
    return motions, heights, units


def _forward(step: float, offsets: range) -> WindowMotion:
    return WindowMotion({k: translation(0, 0, -step * k) for k in offsets if k}, parallax=20.0, noise=0.2)


def test_units_follow_each_other_and_the_road(
    straight: tuple[dict[int, WindowMotion], dict[int, float], dict[int, float]],
) -> None:
    """Noise of 3 % a frame is averaged, and heights that are wrong, or missing, do not matter."""
    motions, heights, units = straight
    heights |= {index: 3 * heights[index] for index in (4, 5, 21)}
    for index in range(28, 36):
        del heights[index]
    found = metric_units(motions, heights, 1.5)
    assert set(found) == set(range(40))
    errors = np.array([np.log(found[index] / units[index]) for index in range(40)])
    assert np.abs(errors).max() < 0.03
    assert np.std(errors) < 0.01
    twice = metric_units(motions, heights, 3.0)
    np.testing.assert_allclose([twice[i] / found[i] for i in found], 2.0, rtol=1e-9)


def test_stretches_without_enough_road_have_no_scale(
    straight: tuple[dict[int, WindowMotion], dict[int, float], dict[int, float]],
) -> None:
    """Frames 0 to 9 and 20 to 39 share no neighbours; the first stretch saw the road four times."""
    motions, heights, _ = straight
    apart = {index: motion for index, motion in motions.items() if index < 10 or index >= 20}
    few = {index: height for index, height in heights.items() if index < 4 or index >= 20}
    assert set(metric_units(apart, few, 1.5)) == set(range(20, 40))
    assert metric_units({}, {}, 1.5) == {}
