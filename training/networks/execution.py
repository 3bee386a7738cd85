"""How networks run: memory format, compilation, and where mixed precision ends."""

from __future__ import annotations

import torch
from torch import nn


def prepare_network(network: nn.Module, channels_last: bool, compiled: bool) -> None:
    """Choose how a network with `encoder` and `decoder` runs; its weights and their names stay what they are.

    Args:
        network: changed in place.
        channels_last: keep the channels of a pixel together (NHWC), as convolutions on tensor cores and oneDNN like it.
        compiled: torch.compile encoder and decoder, each for fixed shapes, when they are first called.
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)
    if compiled:
        for part in ("encoder", "decoder"):
            network.get_submodule(part).compile(dynamic=False)


def full_precision(device: torch.device) -> torch.autocast:
    """A context without autocast, for what follows the networks.

    A pixel's coordinates at a width of 640 need ten bits before the point; bfloat16 has eight in all.
    """
    return torch.autocast(device.type, enabled=False)
