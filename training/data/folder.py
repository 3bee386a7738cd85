"""Any folder of frames: one sequence for each folder that directly holds images (png or jpg), sorted by name."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml

from depth_node.camera import PinholeCamera
from training.data.records import FrameRecord, Intrinsics, MissingFiles, image_files, image_size, missing_numbers
from training.errors import DataError

logger = logging.getLogger(__name__)


def read_folder(
    root: Path,
    camera: Path | None = None,
    K: tuple[float, float, float, float] | None = None,
    rate: float = 10.0,
) -> list[FrameRecord]:
    """Frames of `root` and of the folders below it; the camera may be unknown.

    Args:
        root: a folder of images, or of such folders (one sequence each).
        camera: YAML file as ROS camera_calibration writes it, for any size of the same images.
        K: fx, fy, cx, cy in pixels of the stored images, with the first pixel centred at (0, 0).
        rate: frames a second.

    Frames are numbered by their names where these are all numbers, otherwise by their order.

    Raises:
        DataError: no images, both `camera` and `K`, or a camera file that cannot be used.
    """
    if camera is not None and K is not None:
        raise DataError("both a camera file and K are given: expected at most one of them")
    if rate <= 0:
        raise DataError(f"rate is {rate}: expected frames a second above 0")
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    missing = MissingFiles("folder", root)
    pinhole = read_camera_yaml(camera) if camera is not None else None
    records: list[FrameRecord] = []
    for folder in folders:
        images = image_files(folder)
        if not images:
            continue
        intrinsics = _intrinsics(images[0], pinhole, K)
        sequence = (Path(root.resolve().name) / folder.relative_to(root)).as_posix()
        for number, image in zip(_frame_numbers(folder, images, missing), images, strict=True):
            records.append(FrameRecord(image, intrinsics, sequence, number, stamp_ns=round(number * 1e9 / rate)))
    missing.warn(logger)
    if not records:
        raise DataError(f"no images in {root}: expected png or jpg files in it or in folders below it")
    return records


def read_camera_yaml(path: Path) -> PinholeCamera:
    """The camera of a ROS camera_calibration file: its camera_matrix, at its own size.

    Raises:
        DataError: the file is missing or lacks a key.
    """
    try:
        content = yaml.safe_load(path.read_text())
        width, height = int(content["image_width"]), int(content["image_height"])
        fx, _, cx, _, fy, cy, _, _, _ = (float(value) for value in content["camera_matrix"]["data"])
        distortion = [float(value) for value in (content.get("distortion_coefficients") or {}).get("data", [])]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no camera file ({error!r}): expected image_width, image_height and camera_matrix.data "
            "(9 numbers), as ROS camera_calibration writes them"
        ) from error
    if any(distortion):
        logger.warning("%s has lens distortion %s: images are taken as they are; rectify them first", path, distortion)
    return PinholeCamera(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)


def _intrinsics(
    first_image: Path, camera: PinholeCamera | None, K: tuple[float, float, float, float] | None
) -> Intrinsics | None:
    if camera is not None:
        return camera.normalized()
    if K is None:
        return None
    width, height = image_size(first_image)
    fx, fy, cx, cy = K
    return PinholeCamera(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy).normalized()


def _frame_numbers(folder: Path, images: list[Path], missing: MissingFiles) -> list[int]:
    if not all(image.stem.isdecimal() for image in images):
        return list(range(len(images)))
    numbers = [int(image.stem) for image in images]
    for number in missing_numbers(sorted(numbers)):
        missing.add("image", folder / str(number))
    return numbers
