"""Counts against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from training.checkpoints import TrainedDepth
from training.report.cost import count_flops, measure_cost
from training.report.runs import Run


class OneConvolution(nn.Module):
    """3x3 from 3 to 8 channels at half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.convolution(image)]


def test_a_multiply_add_is_two_operations(tiny_depth: TrainedDepth) -> None:
    trained = replace(tiny_depth, network=OneConvolution())  # type: ignore[arg-type]
    assert count_flops(trained) == 2 * (96 // 2) * (64 // 2) * 8 * 3 * 9


def test_cost_of_a_checkpoint(tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    cost = measure_cost(Run("a", write_checkpoint(tmp_path / "a.ckpt", tiny_depth)), repetitions=2)
    weights = [value for name, value in tiny_depth.network.state_dict().items() if "running" not in name]
    assert cost.parameters == sum(value.numel() for value in weights if value.ndim > 0)
    assert (cost.network, cost.width, cost.height, cost.steps) == ("mobilenetv3_small_050, unet", 96, 64, 7)
    assert cost.flops is not None
    assert [latency.backend for latency in cost.latencies] == ["openvino", "onnxruntime"]
    assert all(0 < latency.milliseconds < 1000 for latency in cost.latencies)


def test_cost_of_a_model_file(tiny_model_path: Path) -> None:
    cost = measure_cost(Run("a", tiny_model_path), repetitions=0)
    assert (cost.width, cost.height, cost.network, cost.flops, cost.steps) == (64, 32, None, None, None)
    assert cost.latencies == ()
    assert cost.parameters == 0  # its two numbers are scalars
    assert torch.get_num_threads() == 1  # measured as the tests run
