"""Which camera a network learned, asked of a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from training.data.records import FrameRecord, Intrinsics, image_size
from training.evaluation.motion_predictors import network_images
from training.evaluation.trajectories import motions_of
from training.geometry.focal_evidence import edge_shift_per_focal_error, is_observable
from training.geometry.framing import Framing
from training.geometry.se3 import so3_log
from training.networks.intrinsics import IntrinsicsHead
from training.pose_checkpoints import TrainedPose


@dataclass(frozen=True)
class LearnedCamera:
    """Intrinsics as a network sees them in a recording.

    intrinsics: normalised; the median over the pairs of frames. spread: median absolute deviation of fx/W over the
    pairs, relative, times 1.4826 (a standard deviation, were they normally distributed); 0 for one vector a camera.
    pairs: pairs of frames that were looked at. edge_shift: root mean square of `edge_shift_per_focal_error`, pixels.
    supervised: as of `TrainedPose`.
    """

    intrinsics: Intrinsics
    spread: float
    pairs: int
    edge_shift: float
    supervised: bool = False

    @property
    def observable(self) -> bool:
        """Whether the camera turns enough to tell a focal length from, or its head does not need that."""
        return self.supervised or is_observable(self.edge_shift)


@torch.inference_mode()
def see_camera(trained: TrainedPose, records: Sequence[FrameRecord], camera: int, batch: int) -> LearnedCamera:
    """The camera that `trained` learned, in the pairs of consecutive frames of one recording.

    records: of one camera, with at least one pair. camera: which one, where there is one vector for each of several.
    batch: pairs that are looked at at once.
    """
    if trained.intrinsics is None:
        raise ValueError("cameras were known in this training")
    width, native_height = image_size(records[0].image)
    aspect = torch.tensor([width / native_height])
    estimates, turns = [], []
    for earlier, later in _pairs(records, batch):
        images = (network_images(frames, trained.width, trained.height) for frames in (earlier, later))
        bottleneck = trained.network.bottleneck(*images)
        count = len(earlier)
        framing = Framing(
            torch.full((count,), camera), aspect.expand(count), torch.ones(count, 2), torch.zeros(count, 2)
        )
        if isinstance(trained.intrinsics, IntrinsicsHead):
            estimates.append(trained.intrinsics(bottleneck.unsqueeze(1), framing))
        else:
            estimates.append(trained.intrinsics(framing))
        turns.append(_true_turns(earlier, later))
        if turns[-1] is None:
            turns[-1] = trained.network.motion(bottleneck)[0]
    intrinsics = torch.cat(estimates).double()
    axis_angle = torch.cat([turn for turn in turns if turn is not None]).double()
    shift = edge_shift_per_focal_error(axis_angle, intrinsics, trained.width, trained.height)
    typical = intrinsics.median(dim=0).values
    deviation = (intrinsics[:, 0] / typical[0] - 1).abs().median()
    fx, fy, cx, cy = typical.tolist()
    return LearnedCamera(
        intrinsics=(fx, fy, cx, cy),
        spread=1.4826 * float(deviation),
        pairs=len(intrinsics),
        edge_shift=float(shift.square().mean().sqrt()),
        supervised=trained.supervised,
    )


def consecutive(records: Sequence[FrameRecord]) -> list[tuple[FrameRecord, FrameRecord]]:
    """Neighbouring frames of one recording, each with the next; gaps are left out."""
    ordered = sorted(records, key=lambda record: record.index)
    return [(a, b) for a, b in pairwise(ordered) if b.index == a.index + 1]


def _pairs(records: Sequence[FrameRecord], batch: int) -> Iterator[tuple[list[FrameRecord], list[FrameRecord]]]:
    pairs = consecutive(records)
    for start in range(0, len(pairs), batch):
        chunk = pairs[start : start + batch]
        yield [a for a, _ in chunk], [b for _, b in chunk]


def _true_turns(earlier: Sequence[FrameRecord], later: Sequence[FrameRecord]) -> Tensor | None:
    """Axis-angle [N, 3] of known poses; None where one is unknown."""
    poses = [(a.pose, b.pose) for a, b in zip(earlier, later, strict=True)]
    if any(a is None or b is None for a, b in poses):
        return None
    motions = np.stack([motions_of(np.stack([a, b]))[0] for a, b in poses if a is not None and b is not None])
    return so3_log(torch.from_numpy(motions[:, :3, :3]))
