"""What a user may want of TensorRT. Knows neither it nor CUDA."""

from __future__ import annotations

from dataclasses import dataclass

ENGINE_PRECISIONS = ("fp32", "tf32", "fp16", "int8")


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built for.

    precision: one of `ENGINE_PRECISIONS`. workspace_mib: device memory that one layer may use, in MiB; 0 is all of it.
    batch: images of one inference.
    """

    precision: str
    workspace_mib: int = 0
    batch: int = 1


@dataclass(frozen=True)
class TensorRtOptions:
    """What concerns TensorRT alone.

    workspace_mib, batch: see `EngineOptions`. cuda_graph: whether inferences are captured once and replayed.
    """

    workspace_mib: int = 0
    cuda_graph: bool = True
    batch: int = 1
