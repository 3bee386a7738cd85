"""Pinhole projection and back-projection with normalised intrinsics.

Intrinsics: float [..., 4], (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H). Camera axes: REP 103 optical (x right, y down,
z forward). Depth is z. Pixel centres are integers. Leading dimensions broadcast.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_Z = 1e-3
"""Metres. Points nearer than this, or behind the camera, have no usable projection."""


def pixel_grid(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Pixel centres [2, H, W]: x = 0 ... W - 1, then y = 0 ... H - 1."""
    x = torch.arange(width, dtype=dtype, device=device)
    y = torch.arange(height, dtype=dtype, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def back_project(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points [..., 3, H, W] in metres, in the camera's frame, of depth [..., 1, H, W] and intrinsics [..., 4]."""
    height, width = depth.shape[-2:]
    size = depth.new_tensor([width, height])[:, None, None]
    focal, center = _focal_and_center(intrinsics)
    image_plane = ((pixel_grid(height, width, depth.dtype, depth.device) + 0.5) / size - center) / focal
    return torch.cat([image_plane * depth, depth.expand(*(image_plane[..., :1, :, :] * depth).shape)], dim=-3)


def transform_points(transform: Tensor, points: Tensor) -> Tensor:
    """Points [..., 3, H, W] in frame b, of T_b_a [..., 4, 4] and points [..., 3, H, W] in frame a."""
    # Elementwise, since a matrix product may run in TensorFloat-32 or bfloat16: a third of a pixel at a width of 640.
    columns = transform[..., :3, :, None, None].unbind(-3)
    x, y, z = (points[..., i : i + 1, :, :] for i in range(3))
    return columns[0] * x + columns[1] * y + columns[2] * z + columns[3]


def project(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Pixels (x, y) [..., 2, H, W] of points [..., 3, H, W], for an image of the grid's own size H, W.

    Points with z below MIN_Z are projected as if they were at MIN_Z.
    """
    height, width = points.shape[-2:]
    size = points.new_tensor([width, height])[:, None, None]
    focal, center = _focal_and_center(intrinsics)
    image_plane = points[..., :2, :, :] / points[..., 2:, :, :].clamp(min=MIN_Z)
    return (focal * image_plane + center) * size - 0.5


def _focal_and_center(intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Focal lengths and principal point, each [..., 2, 1, 1], in units of the image size."""
    return intrinsics[..., :2, None, None], intrinsics[..., 2:, None, None]
