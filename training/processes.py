"""What the processes of one training tell each other."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """float32, the mean over all processes; where there is one, the value as it is."""
    if process_count() == 1:
        return value
    total = value.to(torch.float32, copy=True)
    distributed.all_reduce(total)
    return total / process_count()
