"""The estimator on images with known cameras: accuracy, honesty, and whatever streams do."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import turning_camera
from depth_node.backends.interface import MotionPrediction
from depth_node.camera import PinholeCamera, distort_rays, undistort_pixels
from depth_node.intrinsics import EstimatorOptions, IntrinsicsEstimate, IntrinsicsEstimator
from depth_node.synthetic import handheld_walk, street_world
from turning_camera import HEIGHT, WIDTH

FOCAL_LENGTH = 200.0
TRUE = FOCAL_LENGTH / WIDTH
STEP_NS = 100_000_000

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Of a camera that turns, RGB."""
    return [cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) for grey in turning_camera.images(FOCAL_LENGTH, 40)]


@pytest.fixture(scope="module")
def walk() -> list[tuple[Image, NDArray[np.float32]]]:
    """A handheld camera in a street, fx/W 0.8, 320x160: images and true inverse depth."""
    return rendered(0.8, 320, 160, frames=20, seed=1)


def rendered(
    fx: float, width: int, height: int, frames: int, seed: int, turning: float = 1.0, speed: float = 0.8
) -> list[tuple[Image, NDArray[np.float32]]]:
    focal_length = fx * width
    camera = PinholeCamera(width, height, focal_length, focal_length, width / 2 - 0.5, height / 2 - 0.5)
    frames_of_walk = handheld_walk(street_world(seed), camera, frames, seed=seed, turning=turning, speed=speed)
    return [(frame.rgb, (1 / frame.depth).astype(np.float32)) for frame in frames_of_walk]


def like_a_network(inverse_depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """With errors of about 10 %, smooth over the image, new in every image."""
    coarse = rng.normal(0, 0.1, (6, 10)).astype(np.float32)
    height, width = inverse_depth.shape
    errors = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(inverse_depth * np.exp(errors), np.float32)


def estimator(fx: float, width: int = WIDTH, height: int = HEIGHT, **options: float) -> IntrinsicsEstimator:
    prior = (fx, fx * width / height, 0.5, 0.5)
    return IntrinsicsEstimator(prior, width, height, EstimatorOptions(**options))  # type: ignore[arg-type]


def feed(
    learner: IntrinsicsEstimator, images: list[Image], first_ns: int = 0, step_ns: int = STEP_NS
) -> IntrinsicsEstimate:
    """Images of a camera that turns on the spot; nothing moves by parallax, whatever the depth."""
    depth = some_depth(*images[0].shape[:2])
    for number, image in enumerate(images):
        estimate = learner.add(image, depth, first_ns + number * step_ns)
    return estimate


def some_depth(height: int, width: int) -> NDArray[np.float32]:
    """Inverse depth as of a street: from 2.5 below the camera to 0.15 at the horizon and above."""
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    return np.repeat(np.maximum(np.float32(0.15), 4.5 * (down - np.float32(0.45))), width, axis=1)


def error(estimate: IntrinsicsEstimate, fx: float) -> float:
    """Of log f."""
    return float(np.log(estimate.intrinsics[0] / fx))


def test_no_image_is_the_prior() -> None:
    estimate = estimator(0.9).estimate
    assert estimate.intrinsics == pytest.approx((0.9, 0.9 * WIDTH / HEIGHT, 0.5, 0.5))
    assert estimate.state == "waiting for rotation"
    assert estimate.relative_sigma == pytest.approx(0.3)


@pytest.mark.parametrize("start", [0.7, 1.3])
def test_a_turning_camera_is_found_from_afar(images: list[Image], start: float) -> None:
    estimate = feed(estimator(start * TRUE), images)
    assert estimate.state == "converged"
    assert abs(error(estimate, TRUE)) < 0.04
    assert abs(error(estimate, TRUE)) < 1.96 * estimate.relative_sigma
    assert estimate.rotation > 0.5
    fx, fy, _, _ = estimate.intrinsics
    assert fx * WIDTH == pytest.approx(fy * HEIGHT)  # square pixels


@pytest.mark.parametrize("zoom", [0.7, 1.4])
def test_zoomed_images_have_a_zoomed_focal_length(zoom: float) -> None:
    views = [cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) for grey in turning_camera.images(zoom * FOCAL_LENGTH, 24)]
    estimate = feed(estimator(TRUE), views)
    assert abs(error(estimate, zoom * TRUE)) < min(0.05, 1.96 * estimate.relative_sigma)


def test_true_depth_gives_half_a_percent(walk: list[tuple[Image, NDArray[np.float32]]]) -> None:
    learner = estimator(1.3 * 0.8, 320, 160)
    for number, (image, inverse_depth) in enumerate(walk):
        estimate = learner.add(image, inverse_depth, number * STEP_NS)
    assert abs(error(estimate, 0.8)) < 0.005


def test_depth_like_a_networks_gives_two_percent(walk: list[tuple[Image, NDArray[np.float32]]]) -> None:
    rng, learner = np.random.default_rng(0), estimator(0.75 * 0.8, 320, 160)
    for number, (image, inverse_depth) in enumerate(walk):
        estimate = learner.add(image, like_a_network(inverse_depth, rng), number * STEP_NS)
    assert abs(error(estimate, 0.8)) < 0.02
    assert abs(error(estimate, 0.8)) < 1.96 * estimate.relative_sigma


def test_intervals_contain_the_truth() -> None:
    """12 cameras with noise, starts up to 30 % off; 90 % of the intervals are 11."""
    inside = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        focal_length = rng.uniform(0.5, 1.4) * WIDTH
        views = [cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) for grey in turning_camera.images(focal_length, 20, seed=seed)]
        views = [np.clip(view + rng.normal(0, 3, view.shape), 0, 255).astype(np.uint8) for view in views]
        start = np.exp(rng.uniform(-0.3, 0.3)) * focal_length / WIDTH
        estimate = feed(estimator(start), views)
        inside += abs(error(estimate, focal_length / WIDTH)) < 1.96 * estimate.relative_sigma
    assert inside >= 11


def test_pure_translation_leaves_the_prior() -> None:
    learner = estimator(0.6, 320, 160)
    for number, (image, inverse_depth) in enumerate(rendered(0.8, 320, 160, frames=14, seed=2, turning=0, speed=6.0)):
        estimate = learner.add(image, inverse_depth, number * STEP_NS)
    assert estimate.relative_sigma > 0.5 * 0.3
    assert estimate.state != "converged"


def test_a_still_camera_says_nothing(images: list[Image]) -> None:
    estimate = feed(estimator(TRUE), [images[0]] * 20)
    assert estimate.state == "waiting for rotation"
    assert estimate.relative_sigma == pytest.approx(0.3)
    assert estimate.pairs == 0


def test_a_well_known_camera_is_converged_from_the_start(images: list[Image]) -> None:
    known = feed(estimator(1.2 * TRUE), images)
    again = IntrinsicsEstimator(known, WIDTH, HEIGHT)
    assert again.estimate.state == "converged"
    assert again.estimate.intrinsics == pytest.approx(known.intrinsics)
    assert again.estimate.relative_sigma == pytest.approx(known.relative_sigma)
    assert abs(error(feed(again, images), TRUE)) < 0.05


def test_a_camera_that_contradicts_what_is_known_is_learned_anew(
    walk: list[tuple[Image, NDArray[np.float32]]],
) -> None:
    known = IntrinsicsEstimate((1.25 * 0.8, 1.25 * 1.6, 0.5, 0.5), relative_sigma=0.02)
    learner = IntrinsicsEstimator(known, 320, 160)
    assert learner.estimate.state == "converged"
    for number, (image, inverse_depth) in enumerate((walk + walk[::-1]) * 2):
        estimate = learner.add(image, inverse_depth, number * STEP_NS)
    assert estimate.rejected["contradiction"] == 6
    assert abs(error(estimate, 0.8)) < 0.02


def test_a_window_that_cannot_be_adjusted_again_is_not_tried_with_every_image(
    images: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("depth_node.intrinsics.estimator.adjust", lambda *_, **__: calls.append(1))
    learner = estimator(1.25 * TRUE)
    feed(learner, images)
    still = [images[-1]] * 30
    feed(learner, still, first_ns=len(images) * STEP_NS)
    before = len(calls)
    feed(learner, still, first_ns=(len(images) + 30) * STEP_NS)
    assert len(calls) == before > 0


def test_repeated_and_older_stamps_are_refused(images: list[Image]) -> None:
    learner = estimator(TRUE)
    feed(learner, images[:10])
    before = learner.estimate
    depth = some_depth(HEIGHT, WIDTH)
    learner.add(images[0], depth, 9 * STEP_NS)
    after = learner.add(images[0], depth, 7 * STEP_NS)
    assert after.rejected["stamp not newer"] == 2
    assert after.intrinsics == before.intrinsics


def test_time_that_starts_over_ends_the_window(images: list[Image]) -> None:
    learner = estimator(TRUE)
    feed(learner, images[:10], first_ns=1_000_000_000_000)
    estimate = feed(learner, images)
    assert estimate.rejected["gap"] == 1
    assert abs(error(estimate, TRUE)) < 0.04


def test_gaps_do_not_join_what_is_apart(images: list[Image]) -> None:
    learner = estimator(TRUE)
    feed(learner, images[:5])
    estimate = feed(learner, images[20:], first_ns=3_000_000_000)
    assert estimate.rejected["gap"] == 1
    assert abs(error(estimate, TRUE)) < 0.05


def test_dropped_images_do_no_harm(images: list[Image]) -> None:
    learner, depth = estimator(1.2 * TRUE), some_depth(HEIGHT, WIDTH)
    kept = np.flatnonzero(np.random.default_rng(0).uniform(size=len(images)) > 0.3)
    for number in kept:
        estimate = learner.add(images[number], depth, int(number) * STEP_NS)
    assert abs(error(estimate, TRUE)) < 0.05


def test_images_that_come_too_fast_are_skipped(images: list[Image]) -> None:
    slow, fast = estimator(TRUE), estimator(TRUE)
    assert feed(slow, images).pairs > 0
    assert feed(fast, images, step_ns=1_000_000).pairs == 0  # 40 ms in all


def test_images_of_another_size_begin_another_window(images: list[Image]) -> None:
    learner = estimator(TRUE)
    feed(learner, images[:5])
    larger = [cv2.resize(image, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC) for image in images]
    estimate = feed(learner, larger, first_ns=5 * STEP_NS)
    assert abs(error(estimate, TRUE)) < 0.05


def test_images_without_texture_are_refused() -> None:
    ramp = np.linspace(0, 255, WIDTH).astype(np.uint8)
    blank = [np.repeat(np.roll(ramp, 9 * i)[None, :, None], HEIGHT, axis=0).repeat(3, axis=2) for i in range(20)]
    estimate = feed(estimator(TRUE), blank)
    assert estimate.pairs == 0
    assert estimate.intrinsics[0] == pytest.approx(TRUE)


def test_unknown_depth_is_no_window(images: list[Image]) -> None:
    learner = estimator(TRUE)
    for number, image in enumerate(images[:16]):
        estimate = learner.add(image, np.full((HEIGHT, WIDTH), np.nan, np.float32), number * STEP_NS)
    assert estimate.pairs == 0
    assert estimate.rejected["too little texture"] >= 1


def test_a_motion_network_is_a_weak_prior(images: list[Image]) -> None:
    """It moves what is not known yet, once for all images, and hardly what is."""
    fx = 1.2 * TRUE
    says = MotionPrediction(np.zeros(3), np.zeros(3), np.array([fx, fx * WIDTH / HEIGHT, 0.5, 0.5]))
    depth = some_depth(HEIGHT, WIDTH)
    ignorant = estimator(TRUE)
    for number in range(30):
        estimate = ignorant.add(images[0], depth, number * STEP_NS, says)
    weight = 0.25**-2 / (0.25**-2 + 0.3**-2)
    assert error(estimate, TRUE) == pytest.approx(weight * np.log(1.2), rel=1e-3)
    assert estimate.relative_sigma == pytest.approx((0.25**-2 + 0.3**-2) ** -0.5, rel=1e-3)
    learned = estimator(TRUE)
    for number, image in enumerate(images):
        estimate = learned.add(image, depth, number * STEP_NS, says)
    assert abs(error(estimate, TRUE)) < 0.05


@pytest.mark.parametrize("k", [-0.15, 0.04])
def test_a_lens_that_distorts_is_learned_and_the_focal_length_with_it(
    walk: list[tuple[Image, NDArray[np.float32]]], k: float
) -> None:
    """The walk, as OpenCV's own model of the lens would show it."""
    pinhole = PinholeCamera(320, 160, 256.0, 256.0, 159.5, 79.5)
    lens = replace(pinhole, distortion=(k, 0.0, 0.0, 0.0, 0.0))
    pixels = np.stack(np.meshgrid(np.arange(320), np.arange(160)), axis=-1).astype(np.float64)
    x, y = np.moveaxis(distort_rays(pinhole, undistort_pixels(lens, pixels)), -1, 0).astype(np.float32)
    learner = estimator(1.2 * 0.8, 320, 160)
    for number, (image, inverse_depth) in enumerate(walk):
        bent = cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        depth = cv2.remap(inverse_depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
        estimate = learner.add(np.asarray(bent, np.uint8), np.asarray(depth, np.float32), number * STEP_NS)
    assert estimate.is_distorted
    assert estimate.distortion == pytest.approx(k, abs=0.008)
    assert abs(error(estimate, 0.8)) < 0.015
    camera = estimate.camera(640, 320)
    assert camera.distortion == (estimate.distortion, 0.0, 0.0, 0.0, 0.0)
    known = IntrinsicsEstimator(estimate, 320, 160).estimate
    assert known.distortion == pytest.approx(estimate.distortion)


def test_a_pinhole_camera_has_no_distortion(walk: list[tuple[Image, NDArray[np.float32]]]) -> None:
    learner = estimator(0.8, 320, 160)
    for number, (image, inverse_depth) in enumerate(walk):
        estimate = learner.add(image, inverse_depth, number * STEP_NS)
    assert not estimate.is_distorted
    assert abs(estimate.distortion) < 0.002
    assert not estimate.camera(320, 160).is_distorted


@pytest.mark.parametrize("readout", [0.03, -0.02])
def test_a_rolling_shutter_is_learned_and_the_focal_length_with_it(readout: float) -> None:
    """Every row exposed at its own time, at 10 Hz."""
    greys = turning_camera.images(FOCAL_LENGTH, 40, readout=10 * readout)
    estimate = feed(estimator(1.2 * TRUE), [cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) for grey in greys])
    assert estimate.is_rolling
    assert estimate.readout == pytest.approx(readout, abs=0.002)
    assert abs(error(estimate, TRUE)) < 0.01
    known = IntrinsicsEstimator(estimate, WIDTH, HEIGHT).estimate
    assert known.readout == pytest.approx(estimate.readout)


def test_a_global_shutter_is_none_that_rolls(images: list[Image]) -> None:
    estimate = feed(estimator(TRUE), images)
    assert not estimate.is_rolling
    assert abs(estimate.readout) < 0.001


def test_stretched_images_need_pixels_that_are_not_square(images: list[Image]) -> None:
    """Images squeezed to 4/5 of their height: fy is 4/5 of fx in pixels, and the same in heights of the image."""
    height = HEIGHT * 4 // 5
    squeezed = [cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA) for image in images]
    prior = (1.1 * TRUE, 1.1 * TRUE * WIDTH / height, 0.5, 0.5)
    depth = some_depth(height, WIDTH)
    estimates = []
    for square_pixels in (False, True):
        learner = IntrinsicsEstimator(prior, WIDTH, height, EstimatorOptions(square_pixels=square_pixels))
        for number, image in enumerate(squeezed):
            estimate = learner.add(image, depth, number * STEP_NS)
        estimates.append(estimate)
    free, square = estimates
    assert free.intrinsics[0] == pytest.approx(TRUE, rel=0.05)
    assert free.intrinsics[1] == pytest.approx(FOCAL_LENGTH / HEIGHT, rel=0.05)
    assert abs(error(free, TRUE)) < 1.96 * free.relative_sigma
    fx, fy, _, _ = square.intrinsics
    assert fx * WIDTH == pytest.approx(fy * height, rel=1e-3)
