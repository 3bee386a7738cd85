"""What a network costs: parameters, operations, and time in the node's backends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from depth_node.backends import available_backends, create_backend
from depth_node.model import ModelFile, read_model
from training.checkpoints import TrainedDepth, load_depth_network
from training.export import export_depth
from training.report.runs import Run

WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of one inference in a backend of the node, resizing left out."""

    backend: str
    precision: str
    device: str
    milliseconds: float


@dataclass(frozen=True)
class Cost:
    """Size and speed of a depth network.

    parameters: numbers that are learned or stored. flops: floating-point operations for one image, a multiply-add being
    two; None where only a model file is known, as are network (encoder and decoder) and steps.
    """

    network: str | None
    width: int
    height: int
    parameters: int
    flops: int | None
    steps: int | None
    latencies: tuple[Latency, ...]


def measure_cost(run: Run, repetitions: int) -> Cost:
    """Count and time the network of a run; `repetitions` inferences a backend, no timing with 0."""
    if run.is_model_file:
        model = read_model(run.file)
        stored = [tensor for tensor in onnx.load(run.file).graph.initializer if tensor.dims]
        return Cost(
            network=None,
            width=model.spec.input_width,
            height=model.spec.input_height,
            parameters=sum(int(np.prod(tensor.dims)) for tensor in stored),
            flops=None,
            steps=None,
            latencies=time_backends(model, repetitions),
        )
    trained = load_depth_network(run.file)
    return Cost(
        network=f"{trained.card.encoder}, {trained.card.decoder}",
        width=trained.card.width,
        height=trained.card.height,
        parameters=sum(parameter.numel() for parameter in trained.network.parameters()),
        flops=count_flops(trained),
        steps=trained.steps,
        latencies=_time_export(trained, repetitions) if repetitions > 0 else (),
    )


def count_flops(trained: TrainedDepth) -> int:
    """Operations of convolutions and matrix products for one image of the training's size, by torch's counter."""
    image = torch.zeros(1, 3, trained.card.height, trained.card.width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        trained.network(image)
    return int(counter.get_total_flops())


def time_backends(model: ModelFile, repetitions: int) -> tuple[Latency, ...]:
    """Time `repetitions` inferences in each installed backend; nothing with 0."""
    shape = (1, model.spec.input_height, model.spec.input_width, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    latencies = []
    for name in available_backends() if repetitions > 0 else ():
        backend = create_backend(model, name)
        durations = []
        for _ in range(WARM_UP + repetitions):
            start = perf_counter()
            backend.infer(image)
            durations.append(perf_counter() - start)
        latencies.append(Latency(name, backend.precision, backend.device, 1e3 * median(durations[WARM_UP:])))
        backend.close()
    return tuple(latencies)


def _time_export(trained: TrainedDepth, repetitions: int) -> tuple[Latency, ...]:
    with TemporaryDirectory() as folder:
        model = export_depth(trained, Path(folder) / "model.onnx", "unspecified", "unspecified", "report")
        return time_backends(model, repetitions)
