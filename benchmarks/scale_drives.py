"""Drives for the benchmark of scale: streets of exact truth, and KITTI's, with the depth of a model or of the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from depth_node.frames import Frame
from depth_node.pipeline import DepthPipeline
from depth_node.synthetic import street_drive, street_world
from depth_node.synthetic.street import CAMERA_HEIGHT
from training.data.kitti_bag import oxts_velocities
from training.data.kitti_odometry import read_kitti_odometry
from training.data.kitti_raw import read_kitti_raw
from training.data.records import FrameRecord, MissingFiles

CAMERA = PinholeCamera(640, 192, 372.0, 372.0, 319.5, 95.5)
KITTI_HEIGHT = 1.65
UNIT = 0.1  # metres that a unit of exact depth is made to be

Depth = NDArray[np.float32]


@dataclass(frozen=True)
class Shot:
    """One frame. image and depth: of the network's size; truth: metres, of any size, None where it is not known.

    velocity: m/s in the camera's own axes, None where it is not known.
    """

    stamp_ns: int
    image: NDArray[np.uint8]
    depth: Depth
    camera: PinholeCamera
    truth: Depth | None
    velocity: NDArray[np.float64] | None


def drives(pipeline: DepthPipeline, arguments: argparse.Namespace) -> Iterator[tuple[str, Sequence[Shot], float]]:
    """Name, frames and camera height of each drive."""
    for seed in arguments.seeds:
        street = list(synthetic(seed, arguments.frames))
        yield f"street {seed}, exact depth", [with_depth(s, s.depth / UNIT) for s in street], CAMERA_HEIGHT
        rng = np.random.default_rng(seed)
        yield (
            f"street {seed}, errors of 10 %",
            [with_depth(s, distorted(s.depth, rng) / UNIT) for s in street],
            CAMERA_HEIGHT,
        )
        predicted = [with_depth(s, predict(pipeline, s.image, s.camera)) for s in street]
        yield f"street {seed}, {pipeline.model.path.stem}", predicted, CAMERA_HEIGHT
    if arguments.data is not None:
        yield from kitti_drives(pipeline, arguments.data, arguments.frames)


def synthetic(seed: int, frames: int) -> Iterator[Shot]:
    """A street at 8 m/s and 10 Hz, depth and truth exact; the sky is at 200 m."""
    drive = list(street_drive(street_world(seed), CAMERA, frames, speed=8.0, start=20.0))
    poses = [frame.T_world_camera for frame in drive]
    stamps = [frame.stamp_ns for frame in drive]
    for frame, velocity in zip(drive, velocities(poses, stamps), strict=True):
        depth = np.where(np.isfinite(frame.depth), frame.depth, np.float32(200))
        yield Shot(frame.stamp_ns, frame.rgb, depth, CAMERA, frame.depth, velocity)


def kitti_drives(pipeline: DepthPipeline, data: Path, frames: int) -> Iterator[tuple[str, Sequence[Shot], float]]:
    """A raw drive with lidar, and two odometry sequences without."""
    yield "KITTI raw 9001, lidar", raw_drive(pipeline, data, "9001", {}), KITTI_HEIGHT
    for sequence in ("03", "00_small"):
        records = read_kitti_odometry(data / "kitti_odometry", [sequence])[:frames]
        poses = [record.pose for record in records if record.pose is not None]
        speeds = velocities(poses, [record.stamp_ns for record in records])
        shots = [shot(pipeline, record, speed) for record, speed in zip(records, speeds, strict=True)]
        yield f"KITTI odometry {sequence}", shots, KITTI_HEIGHT


def raw_drive(
    pipeline: DepthPipeline, data: Path, number: str, speeds: Mapping[int, NDArray[np.float64]]
) -> list[Shot]:
    """The frames of a raw drive with lidar as truth; speeds: by frame number."""
    name = f"2011_09_26_drive_{number}_sync"
    records = read_kitti_raw(
        data / "kitti_raw", [name], depth_root=data / "kitti_depth", missing=MissingFiles("KITTI raw", data)
    )
    return [shot(pipeline, record, speeds.get(record.index)) for record in records]


def velocities(poses: Sequence[NDArray[np.float64]], stamps: Sequence[int]) -> list[NDArray[np.float64]]:
    """m/s in the camera's axes at each of T_world_camera [4, 4], by central differences; one-sided at the ends."""
    last = len(poses) - 1
    spans = [(max(0, i - 1), min(last, i + 1)) for i in range(len(poses))]
    return [
        (np.linalg.inv(poses[i])[:3, :3] @ (poses[b][:3, 3] - poses[a][:3, 3])) / ((stamps[b] - stamps[a]) * 1e-9)
        for i, (a, b) in enumerate(spans)
    ]


def shot(pipeline: DepthPipeline, record: FrameRecord, velocity: NDArray[np.float64] | None) -> Shot:
    """A frame of a data set, with the model's depth."""
    bgr = cv2.imread(str(record.image))
    assert bgr is not None
    rgb: NDArray[np.uint8] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
    assert record.intrinsics is not None
    camera = PinholeCamera.from_normalized(record.intrinsics, rgb.shape[1], rgb.shape[0])
    spec = pipeline.model.spec
    result = pipeline.process(Frame(record.stamp_ns, "", rgb), camera)
    truth = None
    if record.depth is not None:
        truth = record.depth.read()
        truth[truth <= 0] = np.nan
    small = camera.resized(spec.input_width, spec.input_height)
    return Shot(record.stamp_ns, pipeline.view().image, result.depth, small, truth, velocity)


def predict(pipeline: DepthPipeline, rgb: NDArray[np.uint8], camera: PinholeCamera) -> Depth:
    return pipeline.process(Frame(0, "", rgb), camera).depth


def with_depth(shot: Shot, depth: Depth) -> Shot:
    return Shot(shot.stamp_ns, shot.image, depth.astype(np.float32), shot.camera, shot.truth, shot.velocity)


def distorted(depth: Depth, rng: np.random.Generator) -> Depth:
    """Depth with smooth multiplicative errors of 10 %, correlated over an eighth of the image."""
    noise = cv2.resize(rng.normal(size=(8, 12)).astype(np.float32), depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return (depth * np.exp(0.1 * noise / noise.std())).astype(np.float32)


def oxts_speeds(drive: Path) -> Mapping[int, NDArray[np.float64]]:
    """Velocity of the GPS/IMU unit by frame number. Its axes are not the camera's, which its length does not mind."""
    files = sorted((drive / "oxts" / "data").glob("*.txt"))
    speeds = oxts_velocities(np.array([np.loadtxt(file) for file in files]))
    return {int(file.stem): speed for file, speed in zip(files, speeds, strict=True)}
