"""What the demo leaves to look at: an animation, frames, and a point cloud."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sensor_msgs.msg import PointCloud2

from depth_node.bags import open_bag
from depth_node.clouds import POINT_STEP
from depth_node.compressed_images import rgb_from_compressed
from depth_node.frames import stamp_ns
from depth_node.images import rgb_from_image
from depth_node.ply import optical_frame_comment, write_ply
from depth_node.tools.demo.source import Drive

GIF_BYTES = 8_000_000
GIF_WIDTH = 512  # pixels of each half, at most
GIF_COLORS = 256
MIN_GIF_HZ = 8.0  # slower does not look like motion
GAP = 4  # pixels between image and depth


def side_by_side(drive: Drive, previews: Mapping[int, NDArray[np.uint8]]) -> dict[int, NDArray[np.uint8]]:
    """Each preview right of the camera image of its stamp: uint8 [H, 2 W + GAP, 3] by stamp, in the order of time."""
    pairs = {}
    decode = rgb_from_compressed if drive.is_compressed else rgb_from_image
    with open_bag(drive.bag) as bag:
        for _, _, message in bag.messages([drive.image]):
            stamp = stamp_ns(message)
            if stamp in previews:
                preview = previews[stamp]
                height, width = preview.shape[:2]
                image = cv2.resize(decode(message), (width, height), interpolation=cv2.INTER_AREA)
                gap = np.full((height, GAP, 3), 255, np.uint8)
                pairs[stamp] = np.hstack([np.asarray(image, np.uint8), gap, preview])
    return pairs


def write_animation(pairs: Mapping[int, NDArray[np.uint8]], path: Path, rate: float) -> None:
    """An endless GIF of the pairs, made smaller until it is below GIF_BYTES.

    It runs at `rate` times their own speed, or faster where that leaves less than MIN_GIF_HZ.
    """
    stamps = list(pairs)
    recorded_ms = float(np.median(np.diff(stamps))) / 1e6 / rate if len(stamps) > 1 else np.inf
    period_ms = min(max(recorded_ms, 20), 1000 / MIN_GIF_HZ)  # viewers slow down what is faster than 50 Hz
    height, width = next(iter(pairs.values())).shape[:2]
    scale = min(1.0, 2 * GIF_WIDTH / width)
    while True:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = (Image.fromarray(pair).resize(size, Image.Resampling.BOX) for pair in pairs.values())
        # Without dithering, whose noise neither compresses nor pleases.
        frames = [image.quantize(GIF_COLORS, dither=Image.Dither.NONE) for image in small]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=round(period_ms), loop=0)
        excess = path.stat().st_size / GIF_BYTES
        if excess < 1:
            return
        scale *= 0.95 / excess**0.5


def write_frames(pairs: Mapping[int, NDArray[np.uint8]], folder: Path, count: int) -> None:
    """PNG files of `count` pairs, evenly spread over the drive: frame_000.png and so on, numbered by pair."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, count).round().astype(int))
    for number, pair in enumerate(pairs.values()):
        if number in chosen:
            Image.fromarray(pair).save(folder / f"frame_{number:03d}.png")


def write_cloud(cloud: PointCloud2, path: Path) -> None:
    """The valid points of an organised cloud of the node (x, y, z, rgb) as a PLY file with colours."""
    points = np.frombuffer(cloud.data, "<f4").reshape(-1, POINT_STEP // 4)
    points = points[np.isfinite(points[:, 2])]
    rgb = points.view("<u4")[:, 3:] >> np.array([16, 8, 0], np.uint32) & np.uint32(0xFF)
    write_ply(path, points[:, :3], rgb.astype(np.uint8), optical_frame_comment(cloud.header.frame_id))
