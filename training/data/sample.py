"""What a dataset yields and a task receives: one target frame, its source frames, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import DataError
from training.geometry.framing import Framing


@dataclass(frozen=True)
class Sample:
    """One target frame at training resolution.

    image: uint8 [3, H, W], RGB. sources: uint8 [N, 3, H, W], frames that see the same scene, N may be 0.
    intrinsics: float32 [4], (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H); NaN where the camera is unknown.
    depth: float32 [1, H, W] metres, 0 where unknown; None where the dataset has no depth at all.
    T_source_target: float32 [M, 4, 4], metres, maps target points into the last M sources, M at most N; those before
        are to be learned, all where it is None.
    unreadable: why each frame that this one stands in for could not be read.
    framing: what of the camera's image it shows; None: all of it, with the pixels that it has.
    weathered: uint8 [1 + N, 3, H, W], target and sources as the networks see them; None: as they are.
    instances: uint8 [1, H, W], 0 for none, else the number of the instance; None where it was not asked for.
    distances: float32 [N], metres that the camera travelled between target and source, NaN where unknown; None where
        it was not asked for.
    """

    image: Tensor
    sources: Tensor
    intrinsics: Tensor
    depth: Tensor | None
    T_source_target: Tensor | None
    name: str
    unreadable: tuple[str, ...] = ()
    framing: Framing | None = None
    weathered: Tensor | None = None
    instances: Tensor | None = None
    distances: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples stacked along a first dimension B; see `Sample` for what each field holds."""

    image: Tensor
    sources: Tensor
    intrinsics: Tensor
    depth: Tensor | None
    T_source_target: Tensor | None
    names: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    framing: Framing | None = None
    weathered: Tensor | None = None
    instances: Tensor | None = None
    distances: Tensor | None = None

    @staticmethod
    def collate(samples: Sequence[Sample]) -> Batch:
        """Stack samples of equal shape.

        Raises:
            DataError: only some of the samples have depth, poses, instances or distances.
        """
        return Batch(
            image=torch.stack([s.image for s in samples]),
            sources=torch.stack([s.sources for s in samples]),
            intrinsics=torch.stack([s.intrinsics for s in samples]),
            depth=_stack([s.depth for s in samples]),
            T_source_target=_stack([s.T_source_target for s in samples]),
            names=tuple(s.name for s in samples),
            unreadable=tuple(reason for s in samples for reason in s.unreadable),
            framing=_stack_framings(samples),
            weathered=_stack_weathered(samples),
            instances=_stack([s.instances for s in samples]),
            distances=_stack([s.distances for s in samples]),
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch on another device."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, as the DataLoader asks for."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            image=change(self.image),
            sources=change(self.sources),
            intrinsics=change(self.intrinsics),
            depth=None if self.depth is None else change(self.depth),
            T_source_target=None if self.T_source_target is None else change(self.T_source_target),
            names=self.names,
            unreadable=self.unreadable,
            framing=None if self.framing is None else self.framing.with_tensors(change),
            weathered=None if self.weathered is None else change(self.weathered),
            instances=None if self.instances is None else change(self.instances),
            distances=None if self.distances is None else change(self.distances),
        )


@dataclass(frozen=True)
class Views:
    """A batch as float RGB in 0..1: what the losses compare (clean) and what the networks see (colour-augmented).

    image, network_image: float32 [B, 3, H, W]. sources, network_sources: float32 [B, N, 3, H, W].
    """

    image: Tensor
    sources: Tensor
    network_image: Tensor
    network_sources: Tensor
    intrinsics: Tensor
    depth: Tensor | None
    T_source_target: Tensor | None
    names: tuple[str, ...] = ()
    framing: Framing | None = None
    instances: Tensor | None = None
    distances: Tensor | None = None


def clean_views(batch: Batch) -> Views:
    """Views without augmentation of the batch, as for validation."""
    image, sources = batch.image.float() / 255.0, batch.sources.float() / 255.0
    network_image, network_sources = image, sources
    if batch.weathered is not None:
        seen = batch.weathered.float() / 255.0
        network_image, network_sources = seen[:, 0], seen[:, 1:]
    return Views(
        image,
        sources,
        network_image,
        network_sources,
        batch.intrinsics,
        batch.depth,
        batch.T_source_target,
        batch.names,
        batch.framing,
        batch.instances,
        batch.distances,
    )


def _stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [t for t in tensors if t is not None]
    if not present:
        return None
    if len(present) != len(tensors):
        raise DataError(
            f"{len(present)} of {len(tensors)} samples of a batch have depth, poses, instances or distances; "
            "all or none must"
        )
    return torch.stack(present)


def _stack_framings(samples: Sequence[Sample]) -> Framing | None:
    framings = [s.framing for s in samples if s.framing is not None]
    return Framing.stack(framings) if len(framings) == len(samples) else None


def _stack_weathered(samples: Sequence[Sample]) -> Tensor | None:
    """What the networks see, uint8 [B, 1 + N, 3, H, W]; None where that is of every sample what it is."""
    if all(s.weathered is None for s in samples):
        return None
    frames = [torch.cat([s.image[None], s.sources]) if s.weathered is None else s.weathered for s in samples]
    return torch.stack(frames)
