"""`python -m training kitti_to_bag`: a KITTI raw drive as a ROS 2 bag."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.command_line import run_function
from training.data import kitti_bag


def kitti_to_bag(drive: Path, output: Path, camera: int = 2, compressed: bool = False) -> int:
    """Write a KITTI raw drive as an mcap bag: images, camera_info, and scans, odometry and tf where they are there.

    Play it with `python -m depth_node replay OUTPUT`, or run `make demo BAG=OUTPUT`.

    Args:
        drive: folder `DATE/DATE_drive_NNNN_sync`; the calibration files are in `DATE`.
        output: one file if it ends in .mcap, otherwise a directory.
        camera: 0 and 1 are grey, 2 and 3 colour.
        compressed: CompressedImage messages on /camera/image_raw/compressed instead of Image on /camera/image_raw.
    """
    kitti_bag.kitti_to_bag(drive, output, camera, compressed)
    print(f"{output}: written; play it with `python -m depth_node replay {output}`")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command-line entry."""
    return run_function(kitti_to_bag, arguments)
