"""A decoded frame at the prepared resolution: rectified, resized, encoded."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera, undistort_pixels
from depth_node.rectification import Rectification
from training.data.depth_files import KITTI_PNG_SCALE
from training.errors import DataError
from training.prepare.frames import PrepareOptions

JPEG_SAMPLING = {"444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420}


def rectified(rgb: NDArray[np.uint8], camera: PinholeCamera | None) -> NDArray[np.uint8]:
    """The image without its camera's lens distortion, for the same K; black where the camera did not look."""
    if camera is None or not camera.is_distorted:
        return rgb
    return Rectification(camera, undistorted(camera)).apply(rgb)


def undistorted(camera: PinholeCamera) -> PinholeCamera:
    """The same camera with an ideal lens."""
    return replace(camera, distortion_model="plumb_bob", distortion=())


def resized(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3], by the mean over each pixel's area; linear where the image must grow."""
    shrinks = rgb.shape[1] >= width and rgb.shape[0] >= height
    filter_ = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=filter_), np.uint8)


def resized_depth(
    depth: NDArray[np.float32], width: int, height: int, distorted: PinholeCamera | None = None
) -> NDArray[np.float32]:
    """Depth [h, w] at another resolution, float32 [height, width] metres, 0 where there is none.

    Nothing is interpolated: each measurement goes to the pixel that its ray falls into, and the nearest wins a pixel.

    Args:
        distorted: the camera of the image that the depth belongs to, where its lens distortion is to be undone.
    """
    if depth.shape == (height, width) and distorted is None:
        return depth
    rows, columns = np.nonzero(depth > 0)
    metres = depth[rows, columns]
    x, y = (columns + 0.5) / depth.shape[1], (rows + 0.5) / depth.shape[0]  # shares of the image
    if distorted is not None:
        x, y = _undistorted_shares(x, y, distorted)
    column, row = np.floor(x * width), np.floor(y * height)
    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # NaN is not
    result = np.full((height, width), np.inf, np.float32)
    np.minimum.at(result, (row[seen].astype(int), column[seen].astype(int)), metres[seen])
    result[np.isinf(result)] = 0
    return result


def encoded_image(rgb: NDArray[np.uint8], options: PrepareOptions) -> bytes:
    """A JPEG or PNG file of an image uint8 [H, W, 3]."""
    if options.format == "png":
        return _encoded(".png", np.ascontiguousarray(rgb[..., ::-1]), [])
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, JPEG_SAMPLING[options.chroma]]
    quality = [cv2.IMWRITE_JPEG_QUALITY, options.quality]
    return _encoded(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [*quality, *sampling])


def encoded_depth(depth: NDArray[np.float32]) -> bytes:
    """KITTI's depth PNG, uint16, metres times 256; farther than that can say (256 m) is left out."""
    scaled = np.rint(depth * np.float32(KITTI_PNG_SCALE))
    return _encoded(".png", np.where(scaled <= np.iinfo(np.uint16).max, scaled, 0).astype(np.uint16), [])


def _undistorted_shares(
    x: NDArray[np.float64], y: NDArray[np.float64], camera: PinholeCamera
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pixels = np.stack([x * camera.width - 0.5, y * camera.height - 0.5], axis=-1)
    rays = undistort_pixels(camera, pixels).reshape(pixels.shape)
    u, v = rays[..., 0] * camera.fx + camera.cx, rays[..., 1] * camera.fy + camera.cy
    return (u + 0.5) / camera.width, (v + 0.5) / camera.height


def _encoded(suffix: str, image: NDArray[np.uint8] | NDArray[np.uint16], parameters: list[int]) -> bytes:
    succeeded, content = cv2.imencode(suffix, image, parameters)
    if not succeeded:
        raise DataError(f"an image {list(image.shape)} cannot be encoded as {suffix}")
    return content.tobytes()
