"""A Monodepth2-style training loop the usual way: what benchmarks/training.py compares the package's loop with.

Samples are dictionaries: every frame, clean and recoloured, at every scale, made one by one with PIL and torchvision on
the CPU and sent to the device as float32. Networks run in float32 and NCHW; the loss goes through scales and sources in
loops, with matrix products for the geometry, and compares the unwarped sources anew at every scale. The networks, their
sizes and the loss as a function are the package's, so that only the way differs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional as TF

from training.data.dataset import FrameDataset
from training.networks.depth import DepthNetwork
from training.networks.pose import PoseNetwork

SCALES = 4
MIN_DEPTH, MAX_DEPTH = 0.1, 100.0
Item = dict[tuple[str, int, int], Tensor]  # (what, frame, scale); frame 0 is the target


class Stage(Protocol):
    """Times what happens within it."""

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """The time of a stage of the loop."""


class NaiveFrames(Dataset[Item]):
    """Target and sources of a FrameDataset, recoloured, flipped and resized frame by frame and scale by scale."""

    def __init__(self, frames: FrameDataset) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, position: int) -> Item:
        record = self.frames.targets[position]
        recolored, flipped = random.random() > 0.5, random.random() > 0.5
        jitter = _drawn_jitter() if recolored else None
        item: Item = {}
        for frame, path in enumerate((record.image, *self.frames.source_files(position))):
            with Image.open(path) as file:
                image = file.convert("RGB")
            if flipped:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            for scale in range(SCALES):
                size = self.frames.width // 2**scale, self.frames.height // 2**scale
                image = image.resize(size, Image.Resampling.LANCZOS)
                item["color", frame, scale] = TF.to_tensor(image)
                item["color_aug", frame, scale] = TF.to_tensor(jitter(image) if jitter else image)
        fx, fy, cx, cy = record.intrinsics
        for scale in range(SCALES):
            width, height = self.frames.width // 2**scale, self.frames.height // 2**scale
            center = (1 - cx if flipped else cx) * width - 0.5
            K = torch.tensor(
                [[fx * width, 0, center, 0], [0, fy * height, cy * height - 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
            )
            item["K", 0, scale], item["inv_K", 0, scale] = K, torch.linalg.inv(K)
        return item


def _drawn_jitter() -> Callable[[Image.Image], Image.Image]:
    """One draw of torchvision's ColorJitter, for all frames and scales of a sample."""
    order, *factors = transforms.ColorJitter.get_params((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.1, 0.1))
    operations = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)

    def apply(image: Image.Image) -> Image.Image:
        for index in order.tolist():
            image = operations[index](image, factors[index])
        return image

    return apply


class NaiveLoop:
    """Networks, optimiser and one step of training."""

    def __init__(self, frames: FrameDataset, encoder: str, batch_size: int, workers: int, device: torch.device) -> None:
        self.device, self.size = device, (frames.height, frames.width)
        self.sources = len(frames.source_offsets)
        self.depth = DepthNetwork(encoder, pretrained=False, scales=SCALES).to(device)
        self.pose = PoseNetwork(encoder, pretrained=False).to(device)
        self.optimizer = torch.optim.Adam([*self.depth.parameters(), *self.pose.parameters()], 1e-4)
        self.ssim = SSIM().to(device)
        rows, columns = torch.meshgrid(torch.arange(frames.height), torch.arange(frames.width), indexing="ij")
        ones = torch.ones(frames.height * frames.width)
        self.pixels = torch.stack([columns.flatten(), rows.flatten(), ones]).to(device)
        self.loader = DataLoader(
            NaiveFrames(frames), batch_size, True, num_workers=workers, pin_memory=device.type == "cuda", drop_last=True
        )

    def batches(self) -> Iterator[Item]:
        """Batches on the CPU without end."""
        while True:
            yield from self.loader

    def to_device(self, batch: Item) -> Item:
        """All of it, tensor by tensor."""
        return {key: value.to(self.device) for key, value in batch.items()}

    def step(self, batch: Item, stage: Stage) -> None:
        """Forward, loss, backward, update; `batch` is on the device."""
        with stage("forward"):
            disparities = self.depth(batch["color_aug", 0, 0])
            poses = [self._pose(batch, source) for source in range(1, 1 + self.sources)]
        with stage("loss"):
            loss = self._loss(batch, disparities, poses)
        with stage("backward"):
            self.optimizer.zero_grad()
            loss.backward()
        with stage("optimizer"):
            self.optimizer.step()
        loss.item()

    def _pose(self, batch: Item, source: int) -> Tensor:
        target, other = batch["color_aug", 0, 0], batch["color_aug", source, 0]
        first = source == 1
        axis_angle, translation = self.pose(other, target) if first else self.pose(target, other)
        T = transform(axis_angle, translation)
        return torch.linalg.inv(T) if first else T

    def _loss(self, batch: Item, disparities: list[Tensor], poses: list[Tensor]) -> Tensor:
        total = torch.zeros((), device=self.device)
        target = batch["color", 0, 0]
        for scale, disparity in enumerate(disparities):
            full = F.interpolate(disparity, self.size, mode="bilinear", align_corners=False)
            depth = 1 / (1 / MAX_DEPTH + (1 / MIN_DEPTH - 1 / MAX_DEPTH) * full)
            warped, unwarped = [], []
            for source, T in enumerate(poses, start=1):
                image = batch["color", source, 0]
                warped.append(self._error(self._warp(image, depth, T, batch), target))
                unwarped.append(self._error(image, target))
            identity = torch.cat(unwarped, 1)
            identity = identity + 1e-5 * torch.randn(identity.shape, device=self.device)
            best = torch.cat([identity, *warped], 1).min(dim=1).values
            smooth = smoothness(disparity / (disparity.mean((2, 3), True) + 1e-7), batch["color", 0, scale])
            total = total + best.mean() + 1e-3 * smooth / 2**scale
        return total / SCALES

    def _warp(self, image: Tensor, depth: Tensor, T: Tensor, batch: Item) -> Tensor:
        height, width = self.size
        points = torch.matmul(batch["inv_K", 0, 0][:, :3, :3], self.pixels) * depth.flatten(1).unsqueeze(1)
        points = torch.cat([points, torch.ones_like(points[:, :1])], 1)
        projected = torch.matmul(torch.matmul(batch["K", 0, 0], T)[:, :3], points)
        x, y = (projected[:, :2] / (projected[:, 2:] + 1e-7)).unbind(1)
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1).view(-1, height, width, 2)
        return F.grid_sample(image, grid, padding_mode="border", align_corners=False)

    def _error(self, image: Tensor, target: Tensor) -> Tensor:
        difference = (target - image).abs().mean(1, True)
        return 0.85 * self.ssim(image, target).mean(1, True) + 0.15 * difference


class SSIM(nn.Module):
    """Structural dissimilarity of two images, with windows of 3x3."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.pad = nn.AvgPool2d(3, 1), nn.ReflectionPad2d(1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Per pixel and channel."""
        x, y = self.pad(x), self.pad(y)
        mean_x, mean_y = self.pool(x), self.pool(y)
        variance_x, variance_y = self.pool(x**2) - mean_x**2, self.pool(y**2) - mean_y**2
        covariance = self.pool(x * y) - mean_x * mean_y
        upper = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
        lower = (mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2)
        return torch.clamp((1 - upper / lower) / 2, 0, 1)


def smoothness(disparity: Tensor, image: Tensor) -> Tensor:
    """Edge-aware, of a normalised disparity."""
    across = (disparity[..., :-1] - disparity[..., 1:]).abs()
    down = (disparity[..., :-1, :] - disparity[..., 1:, :]).abs()
    edges_across = (image[..., :-1] - image[..., 1:]).abs().mean(1, True)
    edges_down = (image[..., :-1, :] - image[..., 1:, :]).abs().mean(1, True)
    return (across * torch.exp(-edges_across)).mean() + (down * torch.exp(-edges_down)).mean()


def transform(axis_angle: Tensor, translation: Tensor) -> Tensor:
    """4x4 matrices of axis-angle and translation, [B, 3] each."""
    angle = axis_angle.norm(dim=1, keepdim=True)
    x, y, z = (axis_angle / (angle + 1e-7)).unbind(1)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    angle = angle.unsqueeze(2)
    identity = torch.eye(3, device=K.device)
    T = torch.eye(4, device=K.device).repeat(len(K), 1, 1)
    T[:, :3, :3] = identity + angle.sin() * K + (1 - angle.cos()) * torch.matmul(K, K)
    T[:, :3, 3] = translation
    return T
