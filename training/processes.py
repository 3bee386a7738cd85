"""What the processes of one training tell each other."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def mean_over_processes(value: Tensor) -> Tensor:
    """float32, the mean over all processes; where there is one, the value as it is."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.to(torch.float32, copy=True)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
