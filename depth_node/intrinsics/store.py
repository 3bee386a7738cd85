"""Learned intrinsics kept over restarts: a camera calibration file of ROS per camera, with their uncertainty."""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_node.calibration_file import camera_from_calibration, read_mapping, write_calibration
from depth_node.errors import CalibrationFileError
from depth_node.intrinsics.estimate import IntrinsicsEstimate
from depth_node.resources import owned_directory

# Beside the entries of camera_calibration_parsers, which passes over it.
SECTION = "learned_intrinsics"

_CAMERA_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class StoredIntrinsics:
    """An estimate, and the size in pixels of the images that it is of."""

    width: int
    height: int
    estimate: IntrinsicsEstimate


class IntrinsicsStore:
    """The file of one camera, in a folder that is the user's own."""

    def __init__(self, directory: Path, camera_name: str) -> None:
        self.camera_name = camera_name
        self.path = directory / f"{camera_name}.yaml"

    def load(self) -> StoredIntrinsics | None:
        """What was saved; None if nothing was.

        Raises:
            CalibrationFileError: the file cannot be read, or says nothing of learned intrinsics.
            DepthNodeError: others may write into the folder.
        """
        try:
            if not self.path.exists():
                return None
            owned_directory(self.path.parent)
        except OSError as error:
            raise CalibrationFileError(f"calibration file {self.path} cannot be read: {error.strerror}") from error
        return read_intrinsics(self.path)

    def save(self, stored: StoredIntrinsics) -> None:
        """Keep it. The folder is made if it is missing.

        Raises:
            CalibrationFileError: the file or the folder cannot be written.
            DepthNodeError: others may write into the folder.
        """
        try:
            owned_directory(self.path.parent)
        except OSError as error:
            raise CalibrationFileError(f"folder {self.path.parent} cannot be made: {error.strerror}") from error
        write_intrinsics(stored, self.path, self.camera_name)


def write_intrinsics(stored: StoredIntrinsics, path: Path, camera_name: str) -> None:
    """Write a calibration file; one that is there is replaced in one step.

    Raises:
        CalibrationFileError: the file cannot be written.
    """
    estimate = stored.estimate
    camera = estimate.camera(stored.width, stored.height)
    section = {
        "relative_sigma": round(estimate.relative_sigma, 6),  # of the focal length; 0.01 is one per cent
        "focal_length_sigma": round(estimate.relative_sigma * camera.fx, 3),  # pixels
        "rotation": round(estimate.rotation, 4),  # rad
        "distortion_sigma": round(estimate.distortion_sigma, 6),  # of the first distortion coefficient
        "readout": round(estimate.readout, 6),  # s, of a rolling shutter, from the first row to the last
        "readout_sigma": round(estimate.readout_sigma, 6),  # s
        "pairs": estimate.pairs,
        "state": estimate.state,
    }
    write_calibration(camera, path, camera_name, {SECTION: section})


def read_intrinsics(path: Path) -> StoredIntrinsics:
    """What `write_intrinsics` wrote.

    Raises:
        CalibrationFileError: the file cannot be read, or says nothing of learned intrinsics.
    """
    content = read_mapping(path)
    camera = camera_from_calibration(content, path)
    section = content.get(SECTION)
    if isinstance(section, Mapping):
        # Files of before these were learned have none of them.
        section = {"distortion_sigma": 0.0, "readout": 0.0, "readout_sigma": 0.0, **section}
    else:
        raise CalibrationFileError(
            f"calibration file {path} has no {SECTION}; a calibration of other origin belongs to the camera's driver "
            "(camera_info_url)"
        )
    state = section.get("state")
    if state not in ("waiting for rotation", "estimating", "converged"):
        raise CalibrationFileError(f"calibration file {path}: {SECTION}.state is {state!r}; expected converged")
    estimate = IntrinsicsEstimate(
        camera.normalized(),
        relative_sigma=_number(section, "relative_sigma", path, 1e-6, 1.0),
        state=state,
        rotation=_number(section, "rotation", path, 0.0, math.inf),
        pairs=int(_number(section, "pairs", path, 0, math.inf)),
        distortion=camera.distortion[0] if camera.distortion else 0.0,
        distortion_sigma=_number(section, "distortion_sigma", path, 0.0, 1.0),
        readout=_number(section, "readout", path, -1.0, 1.0),
        readout_sigma=_number(section, "readout_sigma", path, 0.0, 1.0),
    )
    return StoredIntrinsics(camera.width, camera.height, estimate)


def _number(section: Mapping[str, Any], key: str, path: Path, least: float, most: float) -> float:
    value = section.get(key)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not least <= value <= most
        or value == math.inf
    ):
        raise CalibrationFileError(
            f"calibration file {path}: {SECTION}.{key} is {value!r}; expected a number from {least} to {most}"
        )
    return float(value)


def intrinsics_directory(configured: str) -> Path:
    """The configured folder, or `depth_node/intrinsics` in ROS's own folder of the user."""
    if configured:
        return Path(configured).expanduser()
    return Path(os.environ.get("ROS_HOME", "~/.ros")).expanduser() / "depth_node" / "intrinsics"


def camera_name_of_topic(image_topic: str) -> str:
    """The name of a topic's camera: its namespace, as drivers name it; `front_camera` of /front/camera/image_raw."""
    base = image_topic.removesuffix("/compressed")
    namespace = posixpath.dirname(base).strip("/") or base.strip("/")
    return _NOT_IN_NAMES.sub("_", namespace).lstrip(".-") or "camera"


def is_camera_name(name: str) -> bool:
    """Whether a name can be that of a file."""
    return _CAMERA_NAME.fullmatch(name) is not None
