"""Images of a camera that turns on the spot in front of a textured world at infinity: exact for every focal length.

Pure rotation moves pixels by K R K^-1 whatever their depth, so that a network's depth does not matter.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, distort_rays, undistort_pixels

WIDTH, HEIGHT = 256, 128


def images(
    focal_length: float, count: int, *, seed: int = 0, degrees: float = 1.2, readout: float = 0.0
) -> list[NDArray[np.uint8]]:
    """`count` grey images uint8 [HEIGHT, WIDTH], each turned against the one before by about so many degrees.

    focal_length: pixels; the principal point is the middle of the image. readout: of a rolling shutter, in images'
    distances: 0.3 is 30 ms at 10 Hz.
    """
    texture = _texture(np.random.default_rng(seed))
    camera = np.array([[focal_length, 0, (WIDTH - 1) / 2], [0, focal_length, (HEIGHT - 1) / 2], [0, 0, 1.0]])
    # The texture's own plane, at z = 1, seen with twice the pixels of this camera.
    plane = np.array([[2 * focal_length, 0, 0], [0, 2 * focal_length, 0], [0, 0, 1.0]])
    plane[:2, 2] = np.array(texture.shape[::-1]) / 2
    if readout:
        late = readout * ((np.arange(2 * HEIGHT) + 0.5) / (2 * HEIGHT) - 0.5)
        return [
            _turned_by_rows(texture, plane, camera, _rotations(number + late, np.radians(degrees)))
            for number in range(count)
        ]
    rotations = _rotations(np.arange(count), np.radians(degrees))
    return [_turned(texture, plane, camera, rotation) for rotation in rotations]


def images_through_a_lens(focal_length: float, k1: float, count: int) -> list[NDArray[np.uint8]]:
    """The same, bent by a lens whose rays are 1 + k1 (x^2 + y^2) times as long (OpenCV's own inverse of that)."""
    pinhole = PinholeCamera(WIDTH, HEIGHT, focal_length, focal_length, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    bent = replace(pinhole, distortion=(k1, 0.0, 0.0, 0.0, 0.0))
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(np.float64)
    x, y = np.moveaxis(distort_rays(pinhole, undistort_pixels(bent, pixels)), -1, 0).astype(np.float32)
    return [
        np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.uint8)
        for image in images(focal_length, count)
    ]


def _turned(
    texture: NDArray[np.float32], plane: NDArray[np.float64], camera: NDArray[np.float64], rotation: NDArray[np.float64]
) -> NDArray[np.uint8]:
    to_texture = plane @ rotation @ np.linalg.inv(camera)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # Twice the size and then means of 2 x 2, as a sensor integrates.
    finer = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1.0]])
    fine = cv2.warpPerspective(
        texture, to_texture @ finer, (2 * WIDTH, 2 * HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    return cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _turned_by_rows(
    texture: NDArray[np.float32],
    plane: NDArray[np.float64],
    camera: NDArray[np.float64],
    rotations: list[NDArray[np.float64]],
) -> NDArray[np.uint8]:
    """As `_turned`, with a rotation for each row of an image of twice the size."""
    columns, rows = np.meshgrid(np.arange(2 * WIDTH), np.arange(2 * HEIGHT))
    rays = (
        np.linalg.inv(camera) @ np.stack([columns / 2 - 0.25, rows / 2 - 0.25, np.ones(rows.shape)], axis=-1)[..., None]
    )
    there = plane @ np.array(rotations)[:, None] @ rays
    x, y = (there[..., :2, 0] / there[..., 2:, 0]).astype(np.float32).transpose(2, 0, 1)
    fine = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _rotations(times: NDArray[np.float64] | NDArray[np.int64], step: float) -> list[NDArray[np.float64]]:
    """Swaying in yaw, pitch and roll, so that no axis stands still for long; times are in images."""
    phase = times / 7
    yaw, pitch, roll = 7 * step * np.sin(phase), 5 * step * np.sin(1.3 * phase + 1), 4 * step * np.sin(0.7 * phase)
    return [cv2.Rodrigues(np.array(angles))[0] for angles in zip(pitch, yaw, roll, strict=True)]


def _texture(random: np.random.Generator) -> NDArray[np.float32]:
    """Smooth random blobs of several sizes, 0 to 255."""
    height, width = 12 * HEIGHT, 8 * WIDTH
    total = np.zeros((height, width), np.float32)
    for cells in (16, 32, 64, 128):
        noise = random.standard_normal((cells * height // width, cells)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.normalize(total, None, 20, 235, cv2.NORM_MINMAX), np.float32)
