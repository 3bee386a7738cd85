"""How long the point cloud of a depth image takes, from depth to message, without the middleware.

Times are p50 / p95 in milliseconds. An eighth of the depth is invalid, as sky is; the dense clouds leave it out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import cv2
import numpy as np
from common import report, smooth_image, time_in_turns
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera, backproject
from depth_node.clouds import dense_cloud, organized_cloud, voxel_filter
from depth_node.memory import keep_freed_memory

BAR_MS = 4.0  # of the full organised cloud
INTRINSICS = (0.58, 1.92, 0.49, 0.46)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(1242, 375), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--strides", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--voxel-size", type=float, default=0.2, help="metres")
    parser.add_argument("--rounds", type=int, default=10, help="turns of every candidate")
    parser.add_argument("--runs", type=int, default=10, help="clouds per turn")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the node does
    width, height = arguments.size
    camera = PinholeCamera.from_normalized(INTRINSICS, width, height)
    rgb: NDArray[np.uint8] = smooth_image(width, height)[0]
    depth = street_depth(width, height)
    header = Header(frame_id="camera")

    def organized(stride: int) -> PointCloud2:
        return organized_cloud(depth, camera, rgb, stride, header)

    def dense(stride: int) -> PointCloud2:
        return dense_cloud(backproject(depth, camera, stride), rgb[::stride, ::stride], header)

    def voxels(stride: int) -> PointCloud2:
        points = backproject(depth, camera, stride)
        return dense_cloud(*voxel_filter(points, rgb[::stride, ::stride], arguments.voxel_size), header)

    clouds: dict[str, Callable[[int], PointCloud2]] = {
        "organised": organized,
        "dense": dense,
        f"voxels of {arguments.voxel_size} m": voxels,
    }
    candidates = {(name, stride): (make, stride) for name, make in clouds.items() for stride in arguments.strides}
    seconds = time_in_turns(
        {
            f"{name} {stride}": lambda make=make, stride=stride: make(stride)
            for (name, _), (make, stride) in candidates.items()
        },
        arguments.rounds,
        arguments.runs,
    )
    rows = []
    for (name, stride), (make, _) in candidates.items():
        message = make(stride)
        p50, p95 = np.percentile(seconds[f"{name} {stride}"], [50, 95]) * 1e3
        bar = BAR_MS if (name, stride) == ("organised", 1) else None
        points = message.width * message.height
        rows.append({"cloud": name, "stride": stride, "points": points, "time": (float(p50), float(p95)), "bar": bar})
    report("clouds", rows, width=width, height=height, rounds=arguments.rounds, runs=arguments.runs)
    return 0


def street_depth(width: int, height: int) -> NDArray[np.float32]:
    """float32 [height, width]: road below the horizon, walls above it, and NaN in the topmost eighth."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)
    inverse = np.maximum(np.maximum(rows, np.abs(columns) / 2), 0.02) / 3
    depth: NDArray[np.float32] = cv2.divide(1.0, inverse)
    depth[: height // 8] = np.nan
    return depth


if __name__ == "__main__":
    sys.exit(main())
