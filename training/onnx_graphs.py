"""PyTorch modules as ONNX graphs: written, made smaller, and compared with what they come from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from depth_node.precision.storage import store_weights_as_half
from training.errors import ExportError

OPSET = 17  # the newest that TensorRT 8.6 reads; torch's TorchScript exporter still writes it
TOLERANCE = 1e-3  # largest relative deviation of the float32 graph from PyTorch
HALF_TOLERANCE = 1e-2  # the same with weights rounded to float16

Images = Mapping[str, NDArray[np.uint8]]
RelativeTo = Literal["each", "largest"]


def export_graph(
    module: nn.Module, images: Images, outputs: Sequence[str], *, half_weights: bool, relative_to: RelativeTo
) -> ModelProto:
    """The graph of a module that takes `images` in their order and gives `outputs`, compared with it.

    Args:
        module: in evaluation mode.
        images: examples uint8 [1, H, W, 3] by the names of the graph's inputs.
        outputs: names of what the module gives.
        half_weights: store weights as float16.
        relative_to: as for `check_parity`.

    Raises:
        ExportError: the graph computes something else than the module.
    """
    model = trace(module, images, outputs)
    check_parity(module, model, images, TOLERANCE, relative_to, "please report it, with the versions of torch and onnx")
    if half_weights:
        store_weights_as_half(model)
        check_parity(module, model, images, HALF_TOLERANCE, relative_to, "export it with half_weights: false")
    return model


def trace(module: nn.Module, images: Images, outputs: Sequence[str]) -> ModelProto:
    """The graph of a module, by torch's TorchScript exporter; arguments as of `export_graph`."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its own retirement
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(image) for image in images.values()),
            file,
            input_names=list(images),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(file)


def random_images(names: Sequence[str], width: int, height: int) -> dict[str, NDArray[np.uint8]]:
    """Noise uint8 [1, height, width, 3] for each name."""
    generator = np.random.default_rng(0)
    return {name: generator.integers(0, 256, (1, height, width, 3), np.uint8) for name in names}


def check_parity(
    module: nn.Module, model: ModelProto, images: Images, tolerance: float, relative_to: RelativeTo, advice: str
) -> None:
    """Compare a graph with its module in ONNX Runtime.

    relative_to: deviations are relative to each number, or to the largest one of an output whose numbers may be 0.

    Raises:
        ExportError: an output deviates by more than `tolerance`.
    """
    with torch.no_grad():
        result = module(*(torch.from_numpy(image) for image in images.values()))
    expected = [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for output, wanted, got in zip(session.get_outputs(), expected, session.run(None, dict(images)), strict=True):
        size = np.abs(wanted) if relative_to == "each" else np.max(np.abs(wanted))
        deviation = float(np.max(np.abs(got - wanted) / size))
        if not deviation <= tolerance:
            raise ExportError(
                f"the graph's {output.name} deviates from PyTorch by {deviation:.2g} (relative); expected at most "
                f"{tolerance}: {advice}"
            )
