"""`python -m training export`: a checkpoint becomes one self-describing ONNX file, checked against its network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from depth_node.model import ModelFile, write_model
from depth_node.model_spec import ModelSpec
from training.checkpoints import DepthNetworkCard, TrainedDepth, load_depth_network
from training.command_line import run_function
from training.errors import ExportError
from training.networks.depth import DepthNetwork, sigmoid_to_inverse_depth

OPSET = 17  # the newest that TensorRT 8.6 reads; torch's TorchScript exporter still writes it
SMALLEST_HALF_TENSOR = 1024  # elements; biases and batch norms stay in float32
TOLERANCE = 1e-3  # largest relative deviation of the float32 graph from PyTorch
HALF_TOLERANCE = 1e-2  # the same with weights rounded to float16


class ExportedDepth(nn.Module):
    """What the file computes, all of it: image uint8 [1, H, W, 3], RGB, to disparity float32 [1, H, W] in 1/m."""

    def __init__(self, network: DepthNetwork, min_depth: float, max_depth: float) -> None:
        super().__init__()
        self.network = network
        self.min_depth, self.max_depth = min_depth, max_depth

    def forward(self, image: Tensor) -> Tensor:
        """Disparity in 1/m."""
        rgb = image.permute(0, 3, 1, 2).float() / 255.0
        return sigmoid_to_inverse_depth(self.network.disparity(rgb)[:, 0], self.min_depth, self.max_depth)


def export_depth(
    trained: TrainedDepth, path: Path, dataset: str, license_: str, recipe: str, half_weights: bool = True
) -> ModelFile:
    """Write the model file of a trained network.

    Args:
        trained: network and card of a checkpoint.
        path: file to write, `.onnx`.
        dataset: what it was trained on.
        license_: licence of the weights.
        recipe: how it was trained.
        half_weights: store convolution weights as float16 (half the file); arithmetic stays the backend's choice.

    Raises:
        ExportError: the file computes something else than the network.
    """
    card = trained.card
    network = copy.deepcopy(trained.network)
    network.fix_input_size(card.width, card.height)
    module = ExportedDepth(network, card.min_depth, card.max_depth).eval()
    model = _to_onnx(module, card)
    _check_parity(module, model, card, TOLERANCE, "please report it, with the versions of torch and onnx")
    if half_weights:
        store_weights_as_half(model)
        _check_parity(module, model, card, HALF_TOLERANCE, "export it with half_weights: false")
    return write_model(model, _spec(card, dataset, license_, recipe), path)


def store_weights_as_half(model: ModelProto) -> None:
    """Replace large float32 initializers by float16 ones with a Cast, in place; backends fold the Cast on loading."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_HALF_TENSOR:
            continue
        name, stored = tensor.name, f"{tensor.name}.half"
        with np.errstate(over="ignore"):  # infinite weights do not pass the check
            half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def export(
    checkpoint: Path,
    output: Path,
    dataset: str = "unspecified",
    license: str = "unspecified",
    recipe: str = "unspecified",
    half_weights: bool = True,
) -> int:
    """Write the depth network of a checkpoint as one self-describing ONNX file that the node runs.

    The file takes uint8 RGB frames and gives disparity in 1/m; normalisation is inside. Its output is compared with
    PyTorch's before it is written. Look at it with `python -m depth_node inspect_model FILE`.

    Args:
        checkpoint: file written by `train`.
        output: model file to write, ending in .onnx.
        dataset: what the network was trained on, for the model's metadata.
        license: licence of the weights, for the model's metadata.
        recipe: how it was trained, for the model's metadata.
        half_weights: store weights as float16, which halves the file.
    """
    trained = load_depth_network(checkpoint)
    model = export_depth(trained, output, dataset, license, recipe, half_weights)
    size = output.stat().st_size / 1e6
    print(f"{output}: {trained.card.width}x{trained.card.height}, {size:.1f} MB, sha256 {model.checksum[:12]}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command-line entry."""
    return run_function(export, arguments)


def _to_onnx(module: nn.Module, card: DepthNetworkCard) -> ModelProto:
    image = torch.zeros((1, card.height, card.width, 3), dtype=torch.uint8)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its own retirement
        file = Path(folder) / "depth.onnx"
        torch.onnx.export(
            module,
            (image,),
            file,
            input_names=["image"],
            output_names=["disparity"],
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(file)


def _check_parity(module: nn.Module, model: ModelProto, card: DepthNetworkCard, tolerance: float, advice: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, card.height, card.width, 3), np.uint8)
    with torch.no_grad():
        expected: NDArray[np.float32] = module(torch.from_numpy(image)).numpy()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": image})
    deviation = float(np.max(np.abs(got - expected) / expected))
    if not deviation <= tolerance:
        raise ExportError(
            f"the graph deviates from PyTorch by {deviation:.2g} (relative); expected at most {tolerance}: {advice}"
        )


def _spec(card: DepthNetworkCard, dataset: str, license_: str, recipe: str) -> ModelSpec:
    return ModelSpec(
        input_width=card.width,
        input_height=card.height,
        min_depth=card.min_depth,
        max_depth=card.max_depth,
        metric=card.metric,
        intrinsics_prior=card.prior,
        dataset=dataset,
        license=license_,
        recipe=recipe,
    )
