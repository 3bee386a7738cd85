"""A depth frame as a folder of files to look at, to measure in, and to send to somebody."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from depth_node.calibration_file import write_calibration
from depth_node.camera import backproject
from depth_node.color import colorize
from depth_node.errors import CalibrationFileError, SnapshotError
from depth_node.frames import DepthFrame
from depth_node.images import depth_millimeters
from depth_node.parameters import Settings
from depth_node.ply import optical_frame_comment, write_ply

# How renaming a folder fails where something of that name has come up meanwhile.
_IS_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def save_snapshot(result: DepthFrame, folder: Path, facts: Mapping[str, str]) -> Path:
    """Write a depth frame to a new folder below `folder`, which is created if need be; the new folder's path.

    It is named by the frame's stamp (seconds.nanoseconds; `_2` and so on where that is taken), appears once it is
    complete, and has:
      image.png         what the depth is registered with
      depth.png         16-bit millimetres, 0 where invalid or beyond 65.535 m (REP 118)
      depth.npy         float32 metres along z, NaN where invalid
      depth_color.png   near is red, far is blue, on the node's default scale (stated in facts.yaml)
      confidence.png    0 to 255 for 0 to 1; only of models that give one
      cloud.ply         the valid points with their colours, metres in the camera's optical frame
      camera.yaml       the intrinsics of all of them, in the format of camera_calibration_parsers
      facts.yaml        what each file holds, the frame's stamp, frame_id and sources, and `facts`

    Raises:
        SnapshotError: the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
        try:
            _write_files(result, partial, facts)
            partial.chmod(0o755)  # mkdtemp's is for its owner alone
            return _rename(partial, folder / _stamp(result.frame.stamp_ns))
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or error  # numpy's has no number of the system's
        raise SnapshotError(
            f"snapshot cannot be written to {folder}: {reason}; give a folder that can be written, or make room"
        ) from error
    except CalibrationFileError as error:
        raise SnapshotError(f"snapshot cannot be written to {folder}: {error}") from error


def _write_files(result: DepthFrame, folder: Path, facts: Mapping[str, str]) -> None:
    settings = Settings()
    nearest, farthest = settings.color_min_depth, settings.color_max_depth
    rgb, depth, frame_id = result.frame.rgb, result.depth, result.frame.frame_id
    files = {
        "image.png": "rgb8, what the depth is registered with",
        "depth.png": "uint16 millimetres along z, 0 where invalid or beyond 65.535 m",
        "depth.npy": "float32 metres along z, NaN where invalid",
        "depth_color.png": f"{settings.color_map} from {farthest} m to {nearest} m, logarithmic; black where invalid",
        "cloud.ply": "valid points, metres: x right, y down, z forward",
        "camera.yaml": "intrinsics of image and depth, pixels",
    }
    _write_png(folder / "image.png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    _write_png(folder / "depth.png", depth_millimeters(depth))
    np.save(folder / "depth.npy", depth, allow_pickle=False)
    color = colorize(depth, nearest, farthest, settings.color_map)
    _write_png(folder / "depth_color.png", cv2.cvtColor(color, cv2.COLOR_RGB2BGR))
    if result.confidence is not None:
        files["confidence.png"] = "uint8, 0 to 255 for a confidence of 0 to 1"
        _write_png(folder / "confidence.png", cv2.convertScaleAbs(result.confidence, alpha=255))
    points = backproject(depth, result.camera)
    valid = np.isfinite(points[..., 2])
    write_ply(folder / "cloud.ply", points[valid], rgb[valid], optical_frame_comment(frame_id))
    # Drivers take letters, digits and underscores in a camera's name.
    write_calibration(result.camera, folder / "camera.yaml", re.sub(r"[^a-zA-Z0-9_]", "_", frame_id) or "camera")
    content = {
        **facts,
        "stamp": _stamp(result.frame.stamp_ns),
        "frame_id": frame_id,
        "intrinsics_source": result.intrinsics_source,
        "scale_source": result.scale.source,
        "scale_factor": float(result.scale.factor),
        "valid_fraction": round(float(valid.mean()), 4),
        "files": files,
    }
    (folder / "facts.yaml").write_text(yaml.safe_dump(content, sort_keys=False, width=120), encoding="utf-8")


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    # imwrite only returns false where a file cannot be written.
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _rename(partial: Path, target: Path) -> Path:
    """Give the finished folder the target's name, or that with a number behind it where there is one already."""
    number, free = 1, target
    while True:
        try:
            if not free.exists():
                return partial.rename(free)
        except OSError as error:
            if error.errno not in _IS_TAKEN:
                raise
        number += 1
        free = target.with_name(f"{target.name}_{number}")


def _stamp(stamp_ns: int) -> str:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return f"{seconds}.{nanoseconds:09d}"
