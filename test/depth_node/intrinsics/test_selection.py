"""Which camera is chosen, and how the learned one changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node.camera import PinholeCamera
from depth_node.intrinsics.selection import CameraSelector, SelectedCamera, approach, difference
from depth_node.rectification import Rectification

PRIOR = (0.58, 1.92, 0.49, 0.46)
SIZE = (640, 320)
LEARNED = PinholeCamera(640, 320, 512.0, 512.0, 319.5, 159.5)
CALIBRATED = PinholeCamera(640, 320, 500.0, 500.0, 320.0, 160.0)
SECOND_NS = 1_000_000_000

cameras = st.builds(
    lambda fx, fy, cx, cy, k1: bent(PinholeCamera(*SIZE, fx, fy, cx, cy), k1),
    st.floats(200, 2000),
    st.floats(200, 2000),
    st.floats(200, 440),
    st.floats(100, 220),
    st.just(0.0) | st.floats(-0.3, 0.3),
)


def bent(camera: PinholeCamera, k1: float) -> PinholeCamera:
    return replace(camera, distortion=(k1, 0.0, 0.0, 0.0, 0.0)) if k1 else camera


def select(
    selector: CameraSelector,
    wanted: str = "auto",
    *,
    calibrated: PinholeCamera | Rectification | None = None,
    learned: PinholeCamera | None = None,
    size: tuple[int, int] = SIZE,
    at_s: float = 0.0,
) -> SelectedCamera:
    return selector.select(wanted, calibrated, learned, size, round(at_s * 1e9), max_change=0.05)


@pytest.mark.parametrize(
    ("wanted", "has_info", "has_learned", "expected"),
    [
        ("auto", True, True, "camera_info"),
        ("auto", False, True, "learned"),
        ("auto", False, False, "prior"),
        ("camera_info", True, True, "camera_info"),
        ("camera_info", False, True, "prior"),
        ("learned", True, True, "learned"),
        ("learned", True, False, "prior"),
        ("prior", True, True, "prior"),
    ],
)
def test_source(wanted: str, has_info: bool, has_learned: bool, expected: str) -> None:
    chosen = select(
        CameraSelector(PRIOR),
        wanted,
        calibrated=CALIBRATED if has_info else None,
        learned=LEARNED if has_learned else None,
    )
    cameras = {
        "camera_info": CALIBRATED,
        "learned": LEARNED,
        "prior": PinholeCamera.from_prior(PRIOR, *SIZE),
    }
    assert (chosen.source, chosen.camera, chosen.generation) == (expected, cameras[expected], 1)


def test_learned_intrinsics_are_approached_from_the_camera_in_use() -> None:
    selector = CameraSelector(PRIOR)
    start = select(selector).pinhole
    distance = difference(start, LEARNED)
    assert distance > 0.3
    before, generations = start, []
    for tenth in range(1, 100):
        chosen = select(selector, learned=LEARNED, at_s=tenth / 10)
        now = chosen.pinhole
        assert difference(before, now) <= 0.005 + 1e-12
        generations.append(chosen.generation)
        before = now
    assert before == LEARNED
    steps = math.ceil(distance / 0.005)
    assert generations[steps:] == [steps + 1] * (99 - steps)  # and then stands still
    assert generations[: steps - 1] == list(range(2, steps + 1))


def test_stored_intrinsics_are_taken_at_once() -> None:
    assert select(CameraSelector(PRIOR), learned=LEARNED).pinhole == LEARNED


def test_a_calibration_is_taken_at_once() -> None:
    selector = CameraSelector(PRIOR)
    select(selector, learned=LEARNED)
    chosen = select(selector, calibrated=CALIBRATED, learned=LEARNED, at_s=0.1)
    assert (chosen.camera, chosen.generation, chosen.since_ns) == (CALIBRATED, 2, SECOND_NS // 10)


def test_when_the_calibration_is_put_aside_the_learned_is_approached_from_it() -> None:
    selector = CameraSelector(PRIOR)
    select(selector, calibrated=CALIBRATED, learned=LEARNED)
    chosen = select(selector, "learned", calibrated=CALIBRATED, learned=LEARNED, at_s=0.1)
    assert difference(CALIBRATED, chosen.pinhole) == pytest.approx(0.005)
    assert chosen.source == "learned"


def test_a_rectified_camera_is_approached_from_what_the_network_sees() -> None:
    raw = PinholeCamera(640, 320, 480.0, 480.0, 320.0, 160.0, "plumb_bob", (-0.2, 0.0, 0.0, 0.0, 0.0))
    selector = CameraSelector(PRIOR)
    select(selector, calibrated=Rectification(raw, CALIBRATED))
    chosen = select(selector, "learned", learned=LEARNED, at_s=0.1)
    assert difference(CALIBRATED, chosen.pinhole) == pytest.approx(0.005)


def test_small_changes_of_the_estimate_change_nothing() -> None:
    selector = CameraSelector(PRIOR)
    first = select(selector, learned=LEARNED)
    for percent in (0.1, -0.1, 0.15):
        nearly = bent(replace(LEARNED, fx=LEARNED.fx * (1 + percent / 100)), percent / 100)
        assert select(selector, learned=nearly, at_s=1.0) == first
    moved = select(selector, learned=replace(LEARNED, fx=LEARNED.fx * 1.01), at_s=2.0)
    assert moved.generation == 2
    assert moved.pinhole.fx == pytest.approx(1.01 * first.pinhole.fx)


def test_stamps_that_go_back_or_stand_still_change_nothing_and_pauses_little() -> None:
    selector = CameraSelector(PRIOR)
    select(selector, at_s=100.0)
    for at_s in (100.0, 50.0):
        chosen = select(selector, learned=LEARNED, at_s=at_s)
        assert chosen.generation == 1
    before = chosen.pinhole
    chosen = select(selector, learned=LEARNED, at_s=5000.0)
    assert difference(before, chosen.pinhole) == pytest.approx(0.05)


def test_images_of_another_size_have_another_camera_at_once() -> None:
    selector = CameraSelector(PRIOR)
    select(selector, learned=LEARNED)
    chosen = select(selector, size=(320, 320), at_s=0.1)
    assert (chosen.source, chosen.generation) == ("prior", 2)
    assert chosen.camera == PinholeCamera.from_prior(PRIOR, 320, 320)
    chosen = select(selector, learned=LEARNED, at_s=0.2)
    assert chosen.pinhole == LEARNED


def test_the_source_may_change_without_the_camera() -> None:
    selector = CameraSelector(PRIOR)
    prior = select(selector)
    same = select(selector, "learned", learned=prior.pinhole, at_s=3.0)
    assert (same.source, same.generation, same.since_ns) == ("learned", 1, 0)


def test_a_lens_that_distorts_is_approached_too() -> None:
    selector, goal = CameraSelector(PRIOR), bent(LEARNED, -0.2)
    select(selector, learned=LEARNED)
    found = [select(selector, learned=goal, at_s=tenth / 10).pinhole for tenth in range(1, 42)]
    assert found[0].radial_distortion == pytest.approx(-0.005)
    assert found[19].radial_distortion == pytest.approx(-0.1)
    assert found[-1] == goal


def test_a_fisheye_is_left_as_a_pinhole_camera() -> None:
    selector = CameraSelector(PRIOR)
    fisheye = replace(CALIBRATED, distortion_model="equidistant", distortion=(0.1, 0.0, 0.0, 0.0))
    select(selector, calibrated=fisheye)
    chosen = select(selector, "learned", calibrated=fisheye, learned=LEARNED, at_s=0.1)
    assert difference(CALIBRATED, chosen.pinhole) == pytest.approx(0.005)


@given(cameras, cameras, st.floats(1e-4, 1.0))
def test_an_approach_is_a_step_on_the_shortest_way(current: PinholeCamera, target: PinholeCamera, step: float) -> None:
    whole = difference(current, target)
    moved = approach(current, target, step)
    assert difference(current, moved) == pytest.approx(min(step, whole), abs=1e-9)
    assert difference(moved, target) == pytest.approx(max(whole - step, 0.0), abs=1e-9)
