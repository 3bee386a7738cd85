"""Height over a road whose images are warped by the plane's exact homography."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.road_plane import road_plane

K = np.array([[480.0, 0, 415.5], [0, 480.0, 120], [0, 0, 1]])
WIDTH, HEIGHT = 832, 256


def transform(ahead: float, yaw: float = 0.0) -> NDArray[np.float64]:
    """T_neighbour_reference of a camera that went ahead and turned."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.0, -yaw, 0.0]))[0]
    T[:3, 3] = T[:3, :3] @ [0, 0, -ahead]
    return T


def texture(seed: int) -> NDArray[np.uint8]:
    """Weak and fine, as asphalt."""
    noise = np.random.default_rng(seed).normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
    return np.clip(110 + 25 * cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def seen_from(image: NDArray[np.uint8], T: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.uint8]:
    """What a neighbour shows of a reference image of nothing but the plane m . X = 1."""
    homography = K @ (T[:3, :3] + np.outer(T[:3, 3], m)) @ np.linalg.inv(K)
    return np.asarray(cv2.warpPerspective(image, homography, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT), np.uint8)


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.02, -0.03)])
def test_height_of_a_tilted_camera_over_a_plane(pitch: float, roll: float) -> None:
    normal = cv2.Rodrigues(np.array([pitch, 0.0, roll]))[0] @ [0.0, 1.0, 0.0]
    m = normal / 1.5
    poses = {-1: transform(-0.9), 1: transform(0.9, 0.01), 2: transform(1.8, 0.02)}
    reference = texture(1)
    images = {0: reference} | {k: seen_from(reference, T, m) for k, T in poses.items()}
    found = road_plane(images, poses, K, (0.3, 6.0))
    assert found is not None
    assert found.height == pytest.approx(1.5, rel=0.01)
    assert np.degrees(np.arccos(-found.normal @ normal)) < 0.3
    assert found.correlation > 0.8


def test_the_unit_of_length_is_that_of_the_motion() -> None:
    m = np.array([0.0, 1.0, 0.0]) / 1.5
    poses = {-1: transform(-0.9), 1: transform(0.9)}
    reference = texture(2)
    images = {0: reference} | {k: seen_from(reference, T, m) for k, T in poses.items()}
    for pose in poses.values():
        pose[:3, 3] /= 10
    found = road_plane(images, poses, K, (0.03, 0.6))
    assert found is not None
    assert found.height == pytest.approx(0.15, rel=0.01)


def test_no_road_no_height() -> None:
    images = {k: texture(k + 5) for k in (-1, 0, 1)}  # nothing in common
    assert road_plane(images, {-1: transform(-0.9), 1: transform(0.9)}, K, (0.3, 6.0)) is None


def test_a_camera_that_sees_no_ground_has_no_height() -> None:
    looking_up = K.copy()
    looking_up[1, 2] = HEIGHT + 100.0  # the horizon is below the image
    images = {k: texture(0) for k in (0, 1)}
    assert road_plane(images, {1: transform(0.9)}, looking_up, (0.3, 6.0)) is None
