"""PLY files, byte by byte as the format has them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from depth_node.ply import optical_frame_comment, write_ply


def test_header_and_vertices_byte_by_byte(tmp_path: Path) -> None:
    points = np.array([[1.5, -2.25, 80.0], [0.1, 0.2, 0.3]], np.float32)
    rgb = np.array([[1, 2, 3], [255, 0, 128]], np.uint8)
    write_ply(tmp_path / "cloud.ply", points, rgb, "metres")
    assert (tmp_path / "cloud.ply").read_bytes() == (
        b"ply\nformat binary_little_endian 1.0\ncomment metres\nelement vertex 2\n"
        b"property float x\nproperty float y\nproperty float z\n"
        b"property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
        + struct.pack("<fff3B", 1.5, -2.25, 80.0, 1, 2, 3)
        + struct.pack("<fff3B", 0.1, 0.2, 0.3, 255, 0, 128)
    )


def test_cloud_without_points_is_a_header(tmp_path: Path) -> None:
    comment = optical_frame_comment("camera")
    write_ply(tmp_path / "cloud.ply", np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8), comment)
    content = (tmp_path / "cloud.ply").read_bytes()
    assert b"element vertex 0\n" in content
    assert b"comment metres in camera: x right, y down, z forward" in content
    assert content.endswith(b"end_header\n")
