"""What is said of learned intrinsics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from depth_node.camera import PinholeCamera
from depth_node.intrinsics.description import distortion_warning, state_sentence, tracked_values
from depth_node.intrinsics.estimate import IntrinsicsEstimate
from depth_node.intrinsics.selection import SelectedCamera
from depth_node.intrinsics.tracker import TrackedIntrinsics
from depth_node.rectification import Rectification

PINHOLE = PinholeCamera(640, 480, 500.0, 500.0, 319.5, 239.5)
BENT = PinholeCamera(640, 480, 500.0, 500.0, 319.5, 239.5, "plumb_bob", (-0.2, 0.0, 0.0, 0.0, 0.0))
CALIBRATED = SelectedCamera(PINHOLE, "camera_info", 1, 0)


def tracked(k: float, sigma: float = 0.003, *, is_rectified: bool = False) -> TrackedIntrinsics:
    estimate = IntrinsicsEstimate((0.8, 1.07, 0.5, 0.5), 0.02, "converged", 1.0, 30, {}, k, sigma)
    return TrackedIntrinsics(estimate, 640, 480, is_rectified, True, 0, "camera")


def test_a_lens_that_distorts_is_said_with_what_to_do() -> None:
    warning = distortion_warning(CALIBRATED, tracked(-0.2))
    assert "k1 -0.20" in warning
    assert "camera_info" in warning
    assert "intrinsics.source to learned" in warning
    assert "lens distortion k1 -0.200" in state_sentence(tracked(-0.2))


@pytest.mark.parametrize(
    ("selected", "known"),
    [
        (CALIBRATED, tracked(0.01)),  # hardly visible
        (CALIBRATED, tracked(-0.2, sigma=0.1)),  # not sure
        (CALIBRATED, tracked(-0.2, is_rectified=True)),
        (SelectedCamera(BENT, "camera_info", 1, 0), tracked(-0.2)),
        (SelectedCamera(PINHOLE, "learned", 1, 0), tracked(-0.2)),  # and about to be approached
        (SelectedCamera(Rectification(BENT, PINHOLE), "camera_info", 1, 0), tracked(-0.2)),
    ],
)
def test_where_points_are_right_nothing_is_said(selected: SelectedCamera, known: TrackedIntrinsics) -> None:
    assert distortion_warning(selected, known) == ""


def test_a_rolling_shutter_is_said() -> None:
    known = tracked(0.0)
    rolling = replace(known, estimate=replace(known.estimate, readout=0.0251, readout_sigma=0.0005))
    assert state_sentence(rolling).count("rolling shutter of 25.1 ms") == 1
    assert "shutter" not in state_sentence(known)
    values = tracked_values(rolling, None)
    assert (values["readout"], values["readout_sigma"]) == ("0.02510", "0.00050")


def test_the_status_has_the_distortion_and_its_sigma() -> None:
    values = tracked_values(tracked(-0.2), None)
    assert (values["distortion_k1"], values["distortion_sigma"]) == ("-0.20000", "0.00300")
