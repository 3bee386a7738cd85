"""Camera calibrations as YAML files, in the format of ROS's camera_calibration_parsers.

`camera_calibration` writes such files, and camera drivers load them (`camera_info_url`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from depth_node.camera import PinholeCamera
from depth_node.errors import CalibrationFileError, CameraError

_MAX_BYTES = 100_000


def write_calibration(
    camera: PinholeCamera, path: Path, camera_name: str, more: Mapping[str, Any] | None = None
) -> None:
    """Write a calibration file; one that is there is replaced in one step. R is the identity, and P is [K | 0].

    more: entries of our own behind those of the format; other readers of such files pass over them.

    Raises:
        CalibrationFileError: the file cannot be written.
    """
    distortion = camera.distortion or (0.0,) * 5
    k = camera.matrix()
    content = {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": camera_name,
        "camera_matrix": _matrix(3, 3, k.ravel().tolist()),
        "distortion_model": camera.distortion_model if camera.distortion else "plumb_bob",
        "distortion_coefficients": _matrix(1, len(distortion), list(distortion)),
        "rectification_matrix": _matrix(3, 3, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
        "projection_matrix": _matrix(3, 4, [value for row in k.tolist() for value in (*row, 0.0)]),
    }
    content |= more or {}
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=1000)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise CalibrationFileError(f"calibration file {path} cannot be written: {error.strerror}") from error


def read_calibration(path: Path) -> PinholeCamera:
    """The camera of a calibration file: K and D of the raw image, as `camera_from_info` takes them.

    Coefficients of zero are no distortion, except for a fisheye lens. Without `distortion_model` it is plumb_bob, as
    for camera_calibration_parsers; camera_name, R and P are not read.

    Raises:
        CalibrationFileError: the file cannot be read, or is not such a file.
    """
    return camera_from_calibration(read_mapping(path), path)


def read_mapping(path: Path) -> Mapping[str, Any]:
    """All entries of a calibration file, as YAML has them.

    Raises:
        CalibrationFileError: the file cannot be read, is too large, or has no entries.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise CalibrationFileError(f"calibration file {path} has {size} bytes; expected {_MAX_BYTES} at most")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationFileError(f"calibration file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationFileError(f"calibration file {path} is not YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise CalibrationFileError(f"calibration file {path} has no keys; expected camera_matrix and others")
    return content


def camera_from_calibration(content: Mapping[str, Any], path: Path) -> PinholeCamera:
    """The camera of `read_mapping`, see `read_calibration`; the path is for what is said of errors."""
    try:
        fx, _, cx, _, fy, cy, *_ = _numbers(content, "camera_matrix", 9)
        model = str(content.get("distortion_model", "plumb_bob"))
        distortion = _numbers(content, "distortion_coefficients")
        if not any(distortion) and model != "equidistant":
            model, distortion = "plumb_bob", ()
        width, height = _whole_number(content, "image_width"), _whole_number(content, "image_height")
        return PinholeCamera(width, height, fx, fy, cx, cy, model, distortion)
    except CameraError as error:
        raise CalibrationFileError(f"calibration file {path}: {error}") from error


def _matrix(rows: int, columns: int, data: list[float]) -> dict[str, Any]:
    return {"rows": rows, "cols": columns, "data": data}


def _numbers(content: Mapping[str, Any], key: str, count: int | None = None) -> tuple[float, ...]:
    """The elements of a matrix, row by row."""
    matrix = content.get(key)
    data = matrix.get("data") if isinstance(matrix, Mapping) else None
    try:
        if not isinstance(data, Sequence) or isinstance(data, str):
            raise TypeError
        numbers = tuple(float(value) for value in data)
    except (TypeError, ValueError):
        raise CalibrationFileError(f"{key} has the data {data!r}; expected a list of numbers") from None
    if count is not None and len(numbers) != count:
        raise CalibrationFileError(f"{key} has {len(numbers)} numbers; expected {count}")
    return numbers


def _whole_number(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key)
    if type(value) is not int:
        raise CalibrationFileError(f"{key} is {value!r}; expected a whole number of pixels")
    return value
