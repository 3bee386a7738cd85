"""Synthetic drives on disk: rendered frames with exact depth, intrinsics and poses.

ROOT/street_SEED/frames.csv          index, stamp_ns, fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H, T_world_camera row by row
ROOT/street_SEED/image/INDEX.jpg     uint8 RGB
ROOT/street_SEED/depth/INDEX.png     uint16, metres times 256; the sky is at SKY_DEPTH, 0 is unknown
ROOT/street_SEED/instances/INDEX.png moving cars (`training.data.instance_files`), where there are some
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_node.camera import PinholeCamera
from depth_node.synthetic import MovingCar, SyntheticFrame, handheld_walk, street_drive, street_world
from training.data.depth_files import KITTI_PNG_SCALE, DepthPng
from training.data.records import FrameRecord
from training.errors import DataError, RecipeError

SKY_DEPTH = 255.0  # metres: farther than any street, nearer than a uint16 can say
JPEG_QUALITY = 95
NEAREST_ONCOMING = 12.0  # metres ahead of the first frame's camera
INDEX_FILE = "frames.csv"


@dataclass(frozen=True)
class DriveOptions:
    """What is drawn for a synthetic drive.

    Args:
        width: image width in pixels.
        height: image height in pixels.
        frames: frames of a drive.
        step: metres between two frames.
        focal: least and largest fx/W; pixels are square.
        oncoming: cars that come the other way and are met during the drive.
        oncoming_speed: their speed as a share of the camera's own.
        handheld: the camera is carried by hand, and looks around, instead of being driven; it meets no cars.

    Raises:
        RecipeError: cars would come towards a camera that is carried by hand.
    """

    width: int = 640
    height: int = 192
    frames: int = 10
    step: float = 5.0
    focal: tuple[float, float] = (0.5, 0.7)
    oncoming: int = 0
    oncoming_speed: float = 1.0
    handheld: bool = False

    def __post_init__(self) -> None:
        if self.handheld and self.oncoming:
            raise RecipeError(
                f"options.oncoming is {self.oncoming}: a camera carried by hand meets no cars; leave it out"
            )


def write_street_drive(folder: Path, seed: int, options: DriveOptions) -> None:
    """Render one drive with the world, the camera and the place on the street drawn from `seed`."""
    rng = np.random.default_rng(seed)
    fx = float(rng.uniform(*options.focal)) * options.width
    camera = PinholeCamera(
        options.width,
        options.height,
        fx,
        fx,
        (options.width - 1) / 2,
        (options.height - 1) * float(rng.uniform(0.4, 0.6)),
    )
    start, speed = float(rng.uniform(0, 100)), options.step * 10.0
    traffic = oncoming_cars(rng, start, speed, options)
    if options.handheld:
        drive = handheld_walk(street_world(seed), camera, options.frames, seed=seed, speed=speed, start=start)
    else:
        drive = street_drive(street_world(seed), camera, options.frames, speed=speed, start=start, traffic=traffic)
    rows = [_write_frame(folder, index, frame, bool(traffic)) for index, frame in enumerate(drive)]
    (folder / INDEX_FILE).write_text("\n".join(rows) + "\n")  # last: a drive without it was cut off


def oncoming_cars(rng: np.random.Generator, start: float, speed: float, options: DriveOptions) -> list[MovingCar]:
    """Cars that a camera meets which drives at `speed` m/s from `start` metres along its street."""
    closing = options.step * (1 + options.oncoming_speed)
    gap = closing * options.frames / max(options.oncoming, 1)
    return [
        MovingCar(
            arc=start + NEAREST_ONCOMING + (number + float(rng.uniform(0, 1))) * gap,
            speed=-options.oncoming_speed * speed,
            color=(float(rng.uniform(0.1, 0.8)), float(rng.uniform(0.1, 0.8)), float(rng.uniform(0.1, 0.8))),
            seed=int(rng.integers(1 << 30)),
        )
        for number in range(options.oncoming)
    ]


def read_synthetic(root: Path, drives: Sequence[str] | None = None) -> list[FrameRecord]:
    """Records of the drives below `root`.

    Raises:
        DataError: there is no drive, or not the one asked for, or its list of frames is damaged.
    """
    found = {path.parent.name: path for path in sorted(root.glob(f"*/{INDEX_FILE}"))}
    if not found:
        raise DataError(
            f"{root} has no synthetic drives (NAME/{INDEX_FILE}): write some with `python -m training synthesize`"
        )
    unknown = sorted(set(drives or []) - set(found))
    if unknown:
        raise DataError(f"{root} has no synthetic drive {', '.join(unknown)}; it has {', '.join(found)}")
    return [record for name in drives or found for record in _read_drive(found[name])]


def _write_frame(folder: Path, index: int, frame: SyntheticFrame, with_instances: bool) -> str:
    depth = np.where(np.isfinite(frame.depth), np.minimum(frame.depth, SKY_DEPTH), SKY_DEPTH)
    _write(folder / "image" / f"{index:010d}.jpg", frame.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    _write(folder / "depth" / f"{index:010d}.png", np.round(depth * KITTI_PNG_SCALE).astype(np.uint16), [])
    if with_instances:
        _write(folder / "instances" / f"{index:010d}.png", frame.moving, [])
    numbers = [*frame.camera.normalized(), *np.asarray(frame.T_world_camera)[:3].ravel()]
    return ",".join([str(index), str(frame.stamp_ns), *(repr(float(v)) for v in numbers)])


def _write(path: Path, image: np.ndarray, options: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, options):
        raise DataError(f"{path} could not be written: is the disk full?")


def _read_drive(index_file: Path) -> list[FrameRecord]:
    try:
        return [_parse_frame(index_file.parent, line) for line in index_file.read_text().splitlines()]
    except ValueError as error:
        raise DataError(f"{index_file} is damaged ({error}): delete the drive and render it again") from error


def _parse_frame(folder: Path, line: str) -> FrameRecord:
    index, stamp, *numbers = line.split(",")
    instances = folder / "instances" / f"{int(index):010d}.png"
    fx, fy, cx, cy, *pose = map(float, numbers)
    return FrameRecord(
        image=folder / "image" / f"{int(index):010d}.jpg",
        intrinsics=(fx, fy, cx, cy),
        sequence=folder.name,
        index=int(index),
        stamp_ns=int(stamp),
        pose=np.vstack([np.reshape(pose, (3, 4)), [0.0, 0.0, 0.0, 1.0]]),
        depth=DepthPng(folder / "depth" / f"{int(index):010d}.png"),
        instances=instances if instances.is_file() else None,
    )
