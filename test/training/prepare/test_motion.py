"""Stand-still and gaps: a synthetic image of known shift, and real drives that move or stand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.prepare.motion import STILL_MOTION, image_motion, is_gap, motion_thumbnail


def texture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 8) * 4)


def read(path: Path) -> np.ndarray:
    return motion_thumbnail(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def test_motion_of_a_shift_is_its_length_in_image_widths() -> None:
    world = texture(300, 1000)
    shifted = image_motion(motion_thumbnail(world[:, 100:900]), motion_thumbnail(world[:, 112:912]))
    assert shifted == pytest.approx(12 / 800, rel=0.1)


def test_noise_is_no_motion_and_neither_is_traffic_ahead() -> None:
    random = np.random.default_rng(1)
    still = texture(300, 800)
    noisy = np.clip(still + random.normal(0, 4, still.shape), 0, 255).astype(np.uint8)
    passed = noisy.copy()
    passed[100:260, 200:500] = texture(300, 1000)[:160, 600:900]
    for current in (noisy, passed):
        assert image_motion(motion_thumbnail(still), motion_thumbnail(current)) < STILL_MOTION


@pytest.mark.parametrize("shape", [(40, 1600, 3), (1600, 400, 3), (24, 32, 3)])
def test_images_of_any_shape_have_a_motion(shape: tuple[int, int, int]) -> None:
    thumbnail = motion_thumbnail(texture(*shape[:2]))
    assert image_motion(thumbnail, thumbnail) == 0


def test_image_of_another_shape_counts_as_moved() -> None:
    assert image_motion(motion_thumbnail(texture(100, 200)), motion_thumbnail(texture(100, 100))) > STILL_MOTION


def test_real_drives(shared_data: Path) -> None:
    day = shared_data / "kitti_raw" / "2011_09_26"
    standing = sorted((day / "2011_09_26_drive_9001_sync" / "image_02" / "data").iterdir())
    moving = sorted((day / "2011_09_26_drive_0095_sync" / "image_02" / "data").iterdir())

    def motions(files: list[Path]) -> list[float]:
        thumbnails = [read(path) for path in files]
        return [image_motion(a, b) for a, b in pairwise(thumbnails)]

    assert max(motions(standing[-7:])) < STILL_MOTION / 2  # the end of the drive, standing in traffic
    assert min(motions(standing[:10])) > 4 * STILL_MOTION
    assert min(motions(moving[::40] + moving[-5:])) > 8 * STILL_MOTION


@pytest.mark.parametrize(
    ("step_ms", "expected"), [(100, False), (500, False), (501, True), (0, True), (-100, True), (60_000, True)]
)
def test_gaps(step_ms: int, expected: bool) -> None:
    stamp = 1_317_042_145_961_661_696
    assert is_gap(stamp, stamp + step_ms * 1_000_000, 0.5) is expected
