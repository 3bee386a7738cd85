"""How far int8 must reach for each activation, measured on real frames."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from depth_node.backends.engine_cache import Progress
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.execution import running
from depth_node.precision.parity import Inputs
from depth_node.precision.quantization import INT8_MAX, quantized_inputs

_SAMPLES = 1 << 18  # of each tensor, over all frames
_FRACTIONS = np.linspace(0.2, 1.0, 41)


def activation_limits(
    model: ModelFile | MotionModelFile,
    graph: ModelProto,
    layers: Collection[str],
    frames: Sequence[Inputs],
    progress: Progress,
) -> dict[str, float]:
    """The limit of every tensor of `quantized_inputs`, as `quantize` takes it: `best_limit` of samples of all frames.

    graph: cleaned (`clean_graph`) graph of the model; frames: its inputs.
    """
    tensors = list(dict.fromkeys(place.tensor for place in quantized_inputs(graph, layers)))
    samples: dict[str, list[NDArray[np.float32]]] = {tensor: [] for tensor in tensors}
    maxima = dict.fromkeys(tensors, 0.0)
    rng = np.random.default_rng(0)
    with running(model, graph, tensors) as runner:
        for number, inputs in enumerate(frames):
            progress("calibrating", number / len(frames))
            for tensor, values in runner.run(inputs).items():
                magnitudes = np.abs(values).ravel()
                maxima[tensor] = max(maxima[tensor], float(magnitudes.max()))
                samples[tensor].append(rng.choice(magnitudes, max(1, _SAMPLES // len(frames))))
        progress("calibrating", 1.0)
    return {tensor: best_limit(np.concatenate(samples[tensor]), maxima[tensor]) for tensor in tensors}


def best_limit(magnitudes: NDArray[np.float32], maximum: float) -> float:
    """The limit, at most `maximum`, at which int8 has the smallest mean squared error on these absolute values.

    A smaller one clips the few largest values, and is finer on all others.
    """

    def error(limit: float) -> float:
        step = limit / INT8_MAX
        return float(np.mean((np.minimum(np.rint(magnitudes / step), INT8_MAX) * step - magnitudes) ** 2))

    if maximum == 0.0:
        return 1.0  # nothing but zeros: any limit represents them
    limits = maximum * _FRACTIONS
    return float(limits[int(np.argmin([error(float(limit)) for limit in limits]))])
