"""One camera over time: when the estimate begins anew, what stored intrinsics do, how a calibration compares."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import turning_camera
from depth_node.backends.interface import MotionPrediction
from depth_node.camera import PinholeCamera
from depth_node.frames import NetworkView
from depth_node.intrinsics.estimate import IntrinsicsEstimate
from depth_node.intrinsics.observation import MotionObserver
from depth_node.intrinsics.store import StoredIntrinsics
from depth_node.intrinsics.tracker import IntrinsicsTracker, deviation
from depth_node.model_spec import MotionSpec
from turning_camera import HEIGHT, WIDTH

FOCAL_LENGTH = 0.8 * WIDTH
PRIOR = (0.58, 1.92, 0.5, 0.5)
STORED = StoredIntrinsics(WIDTH, HEIGHT, IntrinsicsEstimate((0.81, 1.62, 0.5, 0.5), 0.02, "converged", 1.5, 30))
STORED_CAMERA = PinholeCamera.from_normalized((0.81, 1.62, 0.5, 0.5), WIDTH, HEIGHT)
ANY_CAMERA = PinholeCamera(WIDTH, HEIGHT, 100.0, 100.0, 128.0, 64.0)


@pytest.fixture(scope="module")
def turning() -> list[NDArray[np.uint8]]:
    return turning_camera.images(FOCAL_LENGTH, 30)


def view(
    image: NDArray[np.uint8], number: int, camera: PinholeCamera = ANY_CAMERA, is_rectified: bool = False
) -> NetworkView:
    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    inverse_depth = (0.05 + 0.45 * image / 255).astype(np.float32)
    return NetworkView(number * 100_000_000, "camera", rgb, inverse_depth, camera, is_rectified)


def test_what_is_used_meanwhile_does_not_matter(turning: list[NDArray[np.uint8]]) -> None:
    tracker = IntrinsicsTracker(PRIOR)
    assert tracker.usable(WIDTH, HEIGHT) is None
    for number, image in enumerate(turning):
        used = PinholeCamera(WIDTH, HEIGHT, 100.0 + number, 100.0, 128.0, 64.0)
        tracked = tracker.add(view(image, number, used))
    assert tracked.camera.fx == pytest.approx(FOCAL_LENGTH, rel=0.01)
    assert tracked.camera.fy == pytest.approx(tracked.camera.fx, rel=1e-6)
    assert tracker.usable(WIDTH, HEIGHT) == tracked.camera
    assert tracker.usable(WIDTH, HEIGHT + 1) is None
    assert (tracked.stamp_ns, tracked.frame_id) == (2_900_000_000, "camera")


def test_stored_intrinsics_are_usable_before_the_first_image_and_after() -> None:
    tracker = IntrinsicsTracker(PRIOR, STORED)
    assert tracker.usable(WIDTH, HEIGHT) == STORED_CAMERA
    assert tracker.usable(WIDTH, 2 * HEIGHT) is None
    tracked = tracker.add(view(np.zeros((HEIGHT, WIDTH), np.uint8), 0))
    assert tracked.is_usable
    assert tracked.estimate.relative_sigma == pytest.approx(0.02, rel=0.05)
    camera = tracker.usable(WIDTH, HEIGHT)
    assert camera is not None
    assert camera.normalized() == pytest.approx(STORED.estimate.intrinsics)


def test_a_stored_lens_that_distorts_is_used_with_its_distortion() -> None:
    estimate = replace(STORED.estimate, distortion=-0.2, distortion_sigma=0.01)
    tracker = IntrinsicsTracker(PRIOR, replace(STORED, estimate=estimate))
    camera = tracker.usable(WIDTH, HEIGHT)
    assert camera is not None
    assert camera.radial_distortion == -0.2


def test_images_of_another_size_begin_anew_and_the_stored_ones_come_back(turning: list[NDArray[np.uint8]]) -> None:
    tracker = IntrinsicsTracker(PRIOR, STORED)
    tracker.add(view(turning[0], 0))
    other = PinholeCamera(2 * WIDTH, HEIGHT, 100.0, 100.0, 128.0, 64.0)
    tracked = tracker.add(view(turning[1], 1, other))
    assert (tracked.is_usable, tracked.estimate.pairs) == (False, 0)
    assert tracked.camera.fx == pytest.approx(PRIOR[0] * 2 * WIDTH)
    assert tracked.camera.fy == pytest.approx(tracked.camera.fx)
    assert tracker.usable(2 * WIDTH, HEIGHT) is None
    assert tracker.usable(WIDTH, HEIGHT) == STORED_CAMERA
    assert tracker.add(view(turning[2], 2)).is_usable


def test_rectified_images_are_another_camera(turning: list[NDArray[np.uint8]]) -> None:
    tracker = IntrinsicsTracker(PRIOR, STORED)
    tracker.add(view(turning[0], 0))
    for number, image in enumerate(turning[:25]):
        tracked = tracker.add(view(image, number, ANY_CAMERA, is_rectified=True))
    assert tracked.is_of(WIDTH, HEIGHT, True)
    assert not tracked.is_of(WIDTH, HEIGHT, False)
    assert tracked.estimate.pairs > 0
    assert tracked.estimate.relative_sigma < 0.1
    other = PinholeCamera(WIDTH, HEIGHT, 90.0, 90.0, 128.0, 64.0)  # another rectification has other images
    tracked = tracker.add(view(turning[25], 25, other, is_rectified=True))
    assert (tracked.estimate.pairs, tracked.is_usable) == (0, False)
    assert tracked.estimate.relative_sigma > 0.1


@pytest.mark.parametrize("sigmas", [-4.0, 0.0, 2.5])
def test_deviation_is_in_standard_deviations_of_the_focal_length(sigmas: float) -> None:
    estimate = STORED.estimate
    fx = 0.81 * WIDTH * math.exp(sigmas * 0.02)
    assert deviation(PinholeCamera(WIDTH, HEIGHT, fx, fx, 128.0, 64.0), estimate) == pytest.approx(sigmas)
    stretched = PinholeCamera(WIDTH, HEIGHT, fx * 1.1, fx / 1.1, 128.0, 64.0)
    assert deviation(stretched, estimate) == pytest.approx(sigmas)


class RecordingMotion:
    """A motion backend that keeps what it is shown."""

    name = device = precision = "none"

    def __init__(self) -> None:
        self.pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def infer(self, image_a: NDArray[np.uint8], image_b: NDArray[np.uint8]) -> MotionPrediction:
        self.pairs.append((image_a, image_b))
        return MotionPrediction(np.zeros(3), np.zeros(3), np.array(PRIOR))

    def close(self) -> None: ...


def test_the_motion_model_sees_each_view_and_the_one_before(turning: list[NDArray[np.uint8]]) -> None:
    backend = RecordingMotion()
    observer = MotionObserver(MotionSpec(64, 32, False, "none", "none", "none"), backend)
    views = [view(image, 10 * number) for number, image in enumerate(turning[:3])]  # a second apart
    assert observer.observe(views[0]) is None
    assert observer.observe(views[1]) is not None
    assert observer.observe(views[1]) is None  # repeated
    assert observer.observe(views[0]) is None  # back in time
    assert observer.observe(views[2]) is not None
    assert observer.observe(view(turning[3], 21)) is None  # too early
    observer.forget()
    assert observer.observe(views[2]) is None
    first, second = backend.pairs
    assert all(image.shape == (1, 32, 64, 3) for pair in backend.pairs for image in pair)
    shrunk = [cv2.resize(v.image, (64, 32), interpolation=cv2.INTER_AREA)[None] for v in views]
    np.testing.assert_array_equal(first, (shrunk[0], shrunk[1]))
    np.testing.assert_array_equal(second, (shrunk[0], shrunk[2]))
