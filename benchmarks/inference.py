"""How long one depth inference takes on each CPU backend, beside PyTorch eager in float32 (batch 1).

Without --model, a network with random weights is exported to a temporary file, so that every candidate computes the
same function and their outputs can be compared; that needs PyTorch. With --model, that file is measured, and the
reference is the last backend in float32.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import report, smooth_image, speed_up, time_in_turns
from numpy.typing import NDArray

from depth_node.backends import Backend, available_backends, create_backend
from depth_node.model import ModelFile, read_model
from depth_node.resources import find_model

if TYPE_CHECKING:
    from training.export import ExportedDepth

Inference = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", help="measure this model file (or shipped name) instead of a network of random weights"
    )
    parser.add_argument("--encoder", default="resnet18", help="timm encoder of the network of random weights")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 192), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of every candidate; 0: each one's own choice"
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns of every candidate")
    parser.add_argument("--runs", type=int, default=10, help="inferences per turn")
    arguments = parser.parse_args()

    candidates: dict[str, tuple[str, Inference]] = {}  # name -> device, function
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model:
            model = read_model(find_model(arguments.model))
        else:
            model, network = random_model(arguments.encoder, *arguments.size, Path(folder) / "random.onnx")
            candidates["torch eager fp32"] = ("CPU", torch_inference(network, arguments.threads))
        for name in available_backends():
            for precision in ("auto", "fp32"):
                backend = create_backend(model, name, precision, arguments.threads)
                candidates.setdefault(f"{name} {backend.precision}", (backend.device, output_of(backend)))

    image = smooth_image(model.spec.input_width, model.spec.input_height)
    reference = next((name for name in candidates if name.startswith("torch")), list(candidates)[-1])
    outputs = {name: infer(image) for name, (_, infer) in candidates.items()}
    seconds = time_in_turns(
        {name: lambda infer=infer: infer(image) for name, (_, infer) in candidates.items()},
        arguments.rounds,
        arguments.runs,
    )
    rows = [
        {
            "candidate": name,
            "median_ms": float(np.median(seconds[name])) * 1e3,
            "p95_ms": float(np.percentile(seconds[name], 95)) * 1e3,
            "speed_up": speed_up(seconds[reference], seconds[name]),
            "max_deviation": relative_deviation(outputs[name], outputs[reference]),
            "device": device,
        }
        for name, (device, _) in candidates.items()
    ]
    described = {"model": arguments.model or f"random {arguments.encoder}", "reference": reference}
    size = {"width": model.spec.input_width, "height": model.spec.input_height}
    report(
        "inference", rows, **described, **size, threads=arguments.threads, rounds=arguments.rounds, runs=arguments.runs
    )
    return 0


def random_model(encoder: str, width: int, height: int, path: Path) -> tuple[ModelFile, ExportedDepth]:
    """A depth network with random weights, and its model file."""
    try:
        import torch

        from training.checkpoints import DepthNetworkCard, TrainedDepth
        from training.export import ExportedDepth, export_depth
        from training.networks.depth import DepthNetwork
    except ModuleNotFoundError as error:
        sys.exit(f"needs {error.name}: pip install 'depth_node[train]', or name a model file with --model")
    torch.manual_seed(0)
    # One scale, as only the finest is in the file.
    network = DepthNetwork(encoder, pretrained=False, scales=1).eval()
    card = DepthNetworkCard(encoder, 1, 0.1, 100.0, False, (0.58, 1.92, 0.5, 0.5), width, height)
    model = export_depth(TrainedDepth(network, card, steps=0), path, "none", "Apache-2.0", "random weights")
    return model, ExportedDepth(network, card.min_depth, card.max_depth).eval()


def output_of(backend: Backend) -> Inference:
    """Its raw output alone, without confidence."""
    return lambda image: backend.infer(image).output


def torch_inference(network: ExportedDepth, threads: int) -> Inference:
    """PyTorch as it comes: eager, float32."""
    import torch

    if threads:
        torch.set_num_threads(threads)

    def infer(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = network(torch.from_numpy(image)).numpy()
        return output

    return infer


def relative_deviation(output: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Largest relative difference of any pixel."""
    return float(np.max(np.abs(output - reference) / np.abs(reference)))


if __name__ == "__main__":
    sys.exit(main())
