"""The node's estimator of intrinsics over all images of a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from depth_node.bags import Bag, open_bag
from depth_node.camera import PinholeCamera
from depth_node.compressed_images import rgb_from_compressed
from depth_node.errors import BagError, ImageError
from depth_node.frames import Frame, stamp_ns
from depth_node.images import rgb_from_image
from depth_node.intrinsics.estimate import IntrinsicsEstimate
from depth_node.intrinsics.estimator import EstimatorOptions
from depth_node.intrinsics.observation import MotionObserver
from depth_node.intrinsics.tracker import IntrinsicsTracker, TrackedIntrinsics
from depth_node.pipeline import DepthPipeline
from depth_node.tools.demo.source import Drive


@dataclass(frozen=True)
class Calibration:
    """What was learned from a bag.

    width, height: of its images. estimate: at the end. images, damaged: how many were looked at, and could not be.
    seconds, focal_length, sigma, rotation: float64 [images] over time: since the first image, pixels, pixels, and
        radians of accepted pairs in all.
    """

    width: int
    height: int
    estimate: IntrinsicsEstimate
    damaged: int
    seconds: NDArray[np.float64]
    focal_length: NDArray[np.float64]
    sigma: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @property
    def images(self) -> int:
        """How many were looked at."""
        return len(self.seconds)

    @property
    def is_known(self) -> bool:
        """Whether the estimate has converged."""
        return self.estimate.state == "converged"

    @property
    def camera(self) -> PinholeCamera:
        """The estimate in pixels."""
        return PinholeCamera.from_normalized(self.estimate.intrinsics, self.width, self.height)


def calibrate(
    drive: Drive,
    pipeline: DepthPipeline,
    motion: MotionObserver | None,
    options: EstimatorOptions,
    console: Console,
) -> Calibration:
    """Learn from every image of the drive; console: for a progress bar.

    Raises:
        BagError: no image can be decoded, or their size changes.
    """
    tracker = IntrinsicsTracker(pipeline.model.spec.intrinsics_prior, motion=motion, options=options)
    history: list[TrackedIntrinsics] = []
    damaged = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with open_bag(drive.bag) as bag, Progress(*columns, console=console) as progress:
        task = progress.add_task("learning from images", total=drive.frames)
        for frame in _frames(bag, drive):
            if frame is None:
                damaged += 1
            else:
                pipeline.process(frame, None)
                history.append(tracker.add(pipeline.view()))
                _check_size(history[0], history[-1], drive)
                sigma = history[-1].estimate.relative_sigma
                progress.update(task, description=f"learning from images ({sigma:.1%})")
            progress.advance(task)
    if not history:
        raise BagError(f"none of the {damaged} images on {drive.image} of bag {drive.bag} can be decoded")
    return _calibration(history, damaged)


def first_camera_info(bag_path: Path, topic: str) -> Any:
    """The first message of a camera_info topic."""
    with open_bag(bag_path) as bag:
        return next(iter(bag.messages([topic])))[2]


def _frames(bag: Bag, drive: Drive) -> Iterator[Frame | None]:
    """The images of a drive; None for a damaged one."""
    for _, _, message in bag.messages([drive.image]):
        try:
            rgb = rgb_from_compressed(message) if drive.is_compressed else rgb_from_image(message)
        except ImageError:
            yield None
        else:
            yield Frame(stamp_ns(message), message.header.frame_id, rgb)


def _check_size(first: TrackedIntrinsics, last: TrackedIntrinsics, drive: Drive) -> None:
    if (first.width, first.height) != (last.width, last.height):
        sizes = f"{first.width}x{first.height} to {last.width}x{last.height}"
        raise BagError(f"the images on {drive.image} change from {sizes} pixels; calibrate one camera at a time")


def _calibration(history: list[TrackedIntrinsics], damaged: int) -> Calibration:
    last = history[-1]
    stamps = np.array([tracked.stamp_ns for tracked in history], np.int64)
    focal_length = np.array([tracked.camera.fx for tracked in history])
    relative_sigma = np.array([tracked.estimate.relative_sigma for tracked in history])
    return Calibration(
        last.width,
        last.height,
        last.estimate,
        damaged,
        seconds=(stamps - stamps[0]) * 1e-9,
        focal_length=focal_length,
        sigma=relative_sigma * focal_length,
        rotation=np.array([tracked.estimate.rotation for tracked in history]),
    )
