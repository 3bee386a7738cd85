"""What the viewer says of a node, and which of its frames it shows."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")
pytest.importorskip("rerun")

from diagnostic_msgs.msg import DiagnosticStatus

from depth_node.tools.view import status
from depth_node.tools.view.frame_selector import FrameSelector
from viewing import camera_info, diagnostics


def test_prior_is_called_uncalibrated() -> None:
    text = status.status_markdown(None, camera_info(distortion_model="uncalibrated"))
    assert "4x3 px, fx 500.0, fy 510.0, cx 3.2, cy 1.5 (uncalibrated: the model's prior)" in text
    assert "no diagnostics yet" in text
    assert "(calibrated)" in status.status_markdown(None, camera_info())


def test_status_begins_with_the_level_and_what_matters() -> None:
    warning = diagnostics(DiagnosticStatus.WARN, "no images come in", model="a|b", output_hz="0.00", state="active")
    lines = status.status_markdown(warning, None).splitlines()
    assert lines[0] == "**WARNING** no images come in"
    assert "no depth/camera_info yet" in lines[2]
    assert lines[-3:] == ["| state | active |", "| output_hz | 0.00 |", "| model | a\\|b |"]


@pytest.mark.parametrize(
    ("name", "namespace", "is_ours"),
    [
        ("/depth_node: depth", "/", True),
        ("depth_node: depth", "/", True),
        ("/front/depth_node: depth", "/front", True),
        ("depth_node: depth", "/front", True),
        ("/front/depth_node: depth", "/", False),
        ("/rear/depth_node: depth", "/front", False),
        ("/front/camera: driver", "/front", False),
        ("depth", "/", False),
    ],
)
def test_diagnostics_of_others_are_left_out(name: str, namespace: str, is_ours: bool) -> None:
    assert status.is_of_depth_node(name, namespace) == is_ours


def admitted(times: list[float], max_rate: float) -> list[float]:
    now = [0.0]
    selector = FrameSelector(max_rate, lambda: now[0])
    result = []
    for stamp, moment in enumerate(times):
        now[0] = moment
        if selector.admits("depth/image", stamp):
            result.append(moment)
    return result


def test_rate_is_limited_evenly() -> None:
    thirty_hz = [index / 30 for index in range(300)]
    assert admitted(thirty_hz, 10) == thirty_hz[::3]
    assert len(admitted(thirty_hz, 20)) == 200
    assert admitted(thirty_hz, 0) == thirty_hz


def test_jitter_does_not_halve_the_rate() -> None:
    jitter = np.random.default_rng(0).uniform(-0.015, 0.015, 200)
    assert len(admitted(list(np.arange(200) / 10 + jitter), 10)) == 200


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=200), st.floats(0.5, 30.0))
def test_rate_is_never_above_the_limit(gaps: list[float], max_rate: float) -> None:
    times = list(np.cumsum(gaps))
    assert len(admitted(times, max_rate)) <= (times[-1] - times[0]) * max_rate + 1 + 0.2 + 1e-6


def test_topics_show_the_same_frames() -> None:
    now = [0.0]
    selector = FrameSelector(5.0, lambda: now[0])
    shown = defaultdict(list)
    for stamp in range(20):
        for delay, topic in ((0.0, "image"), (0.05, "depth"), (0.09, "points")):
            now[0] = stamp * 0.1 + delay
            if selector.admits(topic, stamp):
                shown[topic].append(stamp)
    assert shown["image"] == shown["depth"] == shown["points"] == list(range(0, 20, 2))


def test_a_stamp_that_comes_again_is_a_new_frame() -> None:
    now = [0.0]
    selector = FrameSelector(1.0, lambda: now[0])
    decisions = []
    for second in (0.0, 0.5, 1.0, 1.5, 2.0):
        now[0] = second
        decisions.append(selector.admits("depth", 0))
    assert decisions == [True, False, True, False, True]
