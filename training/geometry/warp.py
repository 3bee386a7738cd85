"""Inverse warping of a source image into the target view. The one place that calls `grid_sample`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.geometry.projection import MIN_Z, back_project, project, transform_points


def warp(source: Tensor, depth: Tensor, intrinsics: Tensor, T_source_target: Tensor) -> tuple[Tensor, Tensor]:
    """Source as the target camera would see it, given the target's depth.

    Source: Zhou et al., Unsupervised Learning of Depth and Ego-Motion from Video, CVPR 2017.

    Args:
        source: float [..., C, H, W].
        depth: float [..., 1, H, W], metres, of the target.
        intrinsics: float [..., 4], normalised, of both cameras.
        T_source_target: float [..., 4, 4].

    Returns:
        The warped image [..., C, H, W], the border repeated beyond it, and which pixels are valid, bool [..., 1, H, W]:
        those in front of the source camera that fall between its outer pixel centres. Leading dimensions broadcast.
    """
    pixels, _, visible = reproject(depth, intrinsics, T_source_target)
    return sample(source, pixels), visible


def reproject(depth: Tensor, intrinsics: Tensor, T_source_target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the source camera sees the target's pixels.

    Args:
        depth: float [..., 1, H, W], metres, of the target.
        intrinsics: float [..., 4], normalised, of both cameras.
        T_source_target: float [..., 4, 4].

    Returns:
        Pixels (x, y) [..., 2, H, W] of the source; depth [..., 1, H, W] in the source's frame, metres; and which are
        valid, bool [..., 1, H, W], as for `warp`.
    """
    points = transform_points(T_source_target, back_project(depth, intrinsics))
    pixels, z = project(points, intrinsics), points[..., 2:, :, :]
    return pixels, z, (z > MIN_Z) & _inside(pixels)


def sample(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear samples [..., C, H, W] of image [..., C, H, W] at pixels (x, y) [..., 2, H, W]; the border repeats."""
    height, width = pixels.shape[-2:]
    size = pixels.new_tensor([width, height])
    # align_corners=False puts -1 and 1 at the outer edges of the image, half a pixel beyond the outer pixel centres.
    grid = (2 * pixels.movedim(-3, -1) + 1) / size - 1
    batch = torch.broadcast_shapes(image.shape[:-3], pixels.shape[:-3])
    image = image.expand(*batch, *image.shape[-3:]).reshape(-1, *image.shape[-3:])
    grid = grid.expand(*batch, *grid.shape[-3:]).reshape(-1, *grid.shape[-3:])
    sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.reshape(*batch, *sampled.shape[-3:])


def _inside(pixels: Tensor) -> Tensor:
    """Whether pixels [..., 2, H, W] lie between the outer pixel centres: bool [..., 1, H, W]."""
    height, width = pixels.shape[-2:]
    last = pixels.new_tensor([width - 1, height - 1])[:, None, None]
    return ((pixels >= 0) & (pixels <= last)).all(dim=-3, keepdim=True)
