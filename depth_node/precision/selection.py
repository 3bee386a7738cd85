"""Which layers go to int8: as many as the accuracy allows, measured on real frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from depth_node.backends.engine_cache import Progress
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.execution import running
from depth_node.precision.parity import Deviation, Inputs, Tolerance, measure_deviation
from depth_node.precision.quantization import quantizable_layers, quantize


@dataclass(frozen=True)
class Selection:
    """layers: to quantise. kept: the others, the most sensitive first, each with the 95th percentile of the deviation
    that it alone would cause. deviation: of the graph with `layers` in int8 and all else in float32.
    """

    layers: tuple[str, ...]
    kept: Mapping[str, float]
    deviation: Deviation


def select_layers(
    model: ModelFile | MotionModelFile,
    graph: ModelProto,
    limits: Mapping[str, float],
    frames: Sequence[Inputs],
    tolerance: Tolerance,
    source: str,
    progress: Progress,
) -> Selection:
    """Quantise every layer alone and rank them; then leave the worst ones out until the rest is within the tolerance.

    graph: cleaned (`clean_graph`); limits: see `quantize`; frames: the model's inputs; source: where they are from.
    """
    with running(model, graph) as runner:
        expected, library = [runner.run(inputs) for inputs in frames], runner.library

    def deviation_of(layers: Sequence[str]) -> Deviation:
        references = iter(expected)
        with running(model, quantize(graph, limits, layers)) as candidate:
            return measure_deviation(model, candidate.run, lambda _: next(references), frames, source, library)

    candidates = quantizable_layers(graph)
    alone: dict[str, float] = {}
    for number, layer in enumerate(candidates):
        progress("measuring layers", number / len(candidates))
        alone[layer] = deviation_of([layer]).p95
    progress("measuring layers", 1.0)

    worst_first = sorted(candidates, key=lambda layer: -alone[layer])
    for left_out in range(len(worst_first) + 1):
        progress("choosing layers", left_out / len(worst_first))
        kept = worst_first[:left_out]
        layers = tuple(layer for layer in candidates if layer not in kept)
        deviation = deviation_of(layers)
        if deviation.median <= tolerance.median and deviation.p95 <= tolerance.p95:
            break
    progress("choosing layers", 1.0)
    return Selection(layers, {layer: alone[layer] for layer in kept}, deviation)
