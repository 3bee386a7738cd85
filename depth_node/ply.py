"""Point clouds as PLY files, which MeshLab, CloudCompare, Open3D and PCL read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_ply(path: Path, points: NDArray[np.float32], rgb: NDArray[np.uint8], comment: str) -> None:
    """Binary little-endian PLY file of points with colours.

    points: float32 [N, 3], metres. rgb: uint8 [N, 3]. comment: one line, such as the points' unit, frame and axes.
    """
    vertices = np.empty(len(points), [("position", "<f4", 3), ("color", "u1", 3)])
    vertices["position"], vertices["color"] = points, rgb
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {comment}",
        f"element vertex {len(vertices)}",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header",
    ]
    path.write_bytes("\n".join([*header, ""]).encode() + vertices.tobytes())


def optical_frame_comment(frame_id: str) -> str:
    """What a PLY file of points in a camera's optical frame says about them."""
    return f"metres in {frame_id}: x right, y down, z forward (REP 103 optical)"
