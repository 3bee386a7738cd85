"""When the node learns, and what it says of a camera_info, without DDS: a fake node, real images and estimates."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy")

import turning_camera
from depth_node.camera import PinholeCamera
from depth_node.frames import NetworkView
from depth_node.online_intrinsics import LOOK_S, REST_S, OnlineIntrinsics
from depth_node.parameters import Settings
from depth_node.rectification import Rectification
from turning_camera import HEIGHT, WIDTH

FOCAL_LENGTH = 0.8 * WIDTH
TRUTH = PinholeCamera(WIDTH, HEIGHT, FOCAL_LENGTH, FOCAL_LENGTH, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
WRONG = PinholeCamera(WIDTH, HEIGHT, 1.3 * FOCAL_LENGTH, 1.3 * FOCAL_LENGTH, TRUTH.cx, TRUTH.cy)
DISTORTED = PinholeCamera(WIDTH, HEIGHT, 250.0, 250.0, TRUTH.cx, TRUTH.cy, "plumb_bob", (-0.2, 0.0, 0.0, 0.0, 0.0))
BENT = replace(TRUTH, distortion=DISTORTED.distortion)
PRIOR = (0.58, 1.92, 0.5, 0.5)


class Setting:
    """The node's side of learned intrinsics, with subscribers, a log and a clock of its own."""

    def __init__(self, tmp_path: Any, **settings: Any) -> None:
        self.subscribers = 0
        self.now = 1000.0
        self.log: list[str] = []
        logger = SimpleNamespace(info=self.log.append, warning=self.log.append, error=self.log.append)
        publisher = SimpleNamespace(get_subscription_count=lambda: self.subscribers, publish=lambda message: None)
        node: Any = SimpleNamespace(
            get_logger=lambda: logger,
            resolve_topic_name=lambda name, only_expand=False: f"/front/{name}",
            get_fully_qualified_name=lambda: "/front/depth_node",
            create_lifecycle_publisher=lambda *_, **__: publisher,
        )
        values = Settings(intrinsics_directory=str(tmp_path), **settings)
        self.intrinsics = OnlineIntrinsics(node, PRIOR, None, values, clock=lambda: self.now)
        self._number = 0

    def show(
        self, images: list[NDArray[np.uint8]], calibrated: PinholeCamera | Rectification | None = None
    ) -> list[bool]:
        """As the frame handler does; whether each image was learned from."""
        learned = []
        for image in images:
            stamp = self._number * 100_000_000
            self._number += 1
            selected = self.intrinsics.camera_of(calibrated, WIDTH, HEIGHT, stamp)
            learned.append(self.intrinsics.needs_views())
            if learned[-1]:
                rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
                inverse_depth = (0.05 + 0.45 * image / 255).astype(np.float32)
                is_rectified = isinstance(selected.camera, Rectification)
                view = NetworkView(stamp, "camera", rgb, inverse_depth, selected.pinhole, is_rectified)
                self.intrinsics.add(view)
        return learned


@pytest.fixture(scope="module")
def turning() -> list[NDArray[np.uint8]]:
    return turning_camera.images(FOCAL_LENGTH, 60)


def test_what_is_known_is_looked_at_now_and_then(turning: list[NDArray[np.uint8]], tmp_path: Any) -> None:
    setting = Setting(tmp_path)
    assert all(setting.show(turning[:45]))
    assert setting.intrinsics.facts()["intrinsics_source"] == "learned"
    setting.now += LOOK_S - 0.1
    assert setting.show(turning[45:46]) == [True]
    setting.now += 0.2
    assert setting.show(turning[46:47]) == [False]
    setting.now += REST_S - 0.2
    assert setting.show(turning[47:48]) == [False]
    setting.subscribers = 1
    assert setting.show(turning[48:49]) == [True]  # somebody wants to know
    setting.subscribers = 0
    setting.now += 0.2
    assert setting.show(turning[49:50]) == [True]
    setting.now += LOOK_S + 0.1
    assert setting.show(turning[50:51]) == [False]


def test_what_is_not_known_is_always_looked_at(turning: list[NDArray[np.uint8]], tmp_path: Any) -> None:
    setting = Setting(tmp_path)
    for _ in range(5):
        setting.now += LOOK_S + 0.5 * REST_S
        assert setting.show(turning[:1]) == [True]


@pytest.mark.parametrize(
    ("source", "calibrated", "needed"),
    [
        ("auto", None, True),
        ("learned", None, True),
        ("learned", TRUTH, True),
        ("auto", TRUTH, True),  # to verify it
        ("camera_info", TRUTH, True),
        ("camera_info", None, False),
        ("prior", TRUTH, False),
        ("auto", DISTORTED, False),
        ("auto", Rectification(DISTORTED, TRUTH), True),
    ],
)
def test_need(source: str, calibrated: Any, needed: bool, turning: list[NDArray[np.uint8]], tmp_path: Any) -> None:
    setting = Setting(tmp_path, intrinsics_source=source)
    assert setting.show(turning[:1], calibrated) == [needed]
    setting.subscribers = 1
    assert setting.show(turning[:1], calibrated) == [True]


def test_verification_is_left_out_if_so_wanted(turning: list[NDArray[np.uint8]], tmp_path: Any) -> None:
    setting = Setting(tmp_path, intrinsics_verify=False)
    assert setting.show(turning[:1], TRUTH) == [False]


def test_a_confirmed_camera_info_ends_the_learning_until_it_changes(
    turning: list[NDArray[np.uint8]], tmp_path: Any
) -> None:
    setting = Setting(tmp_path)
    learned = setting.show(turning, TRUTH)
    assert learned[:10] == [True] * 10
    assert learned[-1] is False
    assert [line for line in setting.log if "fits the images" in line] == setting.log[-1:]
    assert setting.intrinsics.warning == ""
    assert setting.show(turning[:1], WRONG) == [True]
    assert "does not fit the images: its focal length is 266.2" in setting.log[-1]
    assert "does not fit the images" in setting.intrinsics.warning
    assert float(setting.intrinsics.facts()["intrinsics_camera_info_deviation"]) > 3
    assert setting.show(turning[1:2], WRONG) == [True]  # it goes on learning


def test_a_rectified_camera_is_verified_as_what_it_became(turning: list[NDArray[np.uint8]], tmp_path: Any) -> None:
    setting = Setting(tmp_path)
    assert setting.show(turning, Rectification(DISTORTED, TRUTH))[-1] is False
    assert "fits the images" in setting.log[-1]


def test_while_the_prior_is_in_use_the_warning_says_what_is_being_learned(
    turning: list[NDArray[np.uint8]], tmp_path: Any
) -> None:
    setting = Setting(tmp_path)
    setting.show(turning[:2])
    assert setting.intrinsics.warning.startswith("no usable camera_info: the intrinsics are the model's prior")
    assert "(learning: waiting for rotation: focal length 148.5 pixels" in setting.intrinsics.warning


@pytest.mark.parametrize(
    ("source", "why"), [("prior", "intrinsics.source is prior"), ("learned", "no intrinsics learned yet")]
)
def test_why_the_prior_is_in_use_is_said(
    source: str, why: str, turning: list[NDArray[np.uint8]], tmp_path: Any
) -> None:
    setting = Setting(tmp_path, intrinsics_source=source)
    setting.show(turning[:2], TRUTH)
    assert setting.log[-1].startswith(f"{why}: taking the model's intrinsics prior")
    assert setting.intrinsics.warning.startswith(f"{why}: ")
    assert ("(learning: " in setting.intrinsics.warning) == (source == "learned")


@pytest.fixture(scope="module")
def through_a_lens() -> list[NDArray[np.uint8]]:
    return turning_camera.images_through_a_lens(FOCAL_LENGTH, -0.2, 60)


def test_rays_of_the_camera_in_use_are_those_of_a_lens_that_distorts(
    through_a_lens: list[NDArray[np.uint8]], tmp_path: Any
) -> None:
    setting = Setting(tmp_path, intrinsics_max_change=1.0)
    setting.subscribers = 1
    setting.show(through_a_lens)
    selected = setting.intrinsics.camera_of(None, WIDTH, HEIGHT, 10**12)
    assert selected.source == "learned"
    facts = setting.intrinsics.facts()
    assert float(facts["intrinsics_distortion_k1"]) == pytest.approx(-0.2, abs=0.03)
    assert setting.intrinsics.warning == ""
    found, expected = selected.pinhole.rays(), BENT.rays()
    off, off_without = (np.abs(rays - expected).max() for rays in (found, TRUTH.rays()))
    assert off < 0.02
    assert off_without > 0.05


def test_a_camera_info_that_knows_of_no_distortion_is_a_warning(
    through_a_lens: list[NDArray[np.uint8]], tmp_path: Any
) -> None:
    setting = Setting(tmp_path)
    setting.subscribers = 1
    setting.show(through_a_lens, TRUTH)
    assert "the lens distorts" in setting.intrinsics.warning
