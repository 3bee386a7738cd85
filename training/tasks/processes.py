"""What the processes of one training tell each other."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def mean_over_processes(count: Tensor) -> Tensor:
    """float32, the mean of a count over all processes; the count itself where there is one process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return count
    total = count.to(torch.float32, copy=True)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
