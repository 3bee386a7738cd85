"""What the depth networks of the recipes cost: parameters, operations, and milliseconds on the CPU (random weights).

Each is exported as for the node and run by OpenVINO in the precision that the node chooses, on one core, all of them
in turns. What is counted is processor time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import report, smooth_image, time_in_turns

from depth_node.backends import create_backend

if TYPE_CHECKING:
    from training.checkpoints import TrainedDepth

NETWORKS = {
    "resnet18, unet": ("resnet18", "unet"),
    "resnet18, unet_bilinear": ("resnet18", "unet_bilinear"),
    "resnet18, unet_espcn": ("resnet18", "unet_espcn"),
    "resnet50, unet": ("resnet50", "unet"),
    "convnext_tiny, unet": ("convnext_tiny", "unet"),
    "efficientnet_b0, unet": ("efficientnet_b0", "unet"),
    "mobilenetv3_large_100, unet": ("mobilenetv3_large_100", "unet"),
    "darknet53, unet": ("darknet53", "unet"),
    "stdc1, unet": ("stdc1", "unet"),
    "stdc2, unet": ("stdc2", "unet"),
    "densenet169, dense_depth": ("densenet169", "dense_depth"),
    "vit_small_patch14_dinov2, dpt": ("vit_small_patch14_dinov2", "dpt"),
}


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 192), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rounds", type=int, default=10, help="turns of every network")
    parser.add_argument("--runs", type=int, default=5, help="inferences per turn")
    arguments = parser.parse_args()
    try:
        from training.export import export_depth
        from training.report.cost import count_flops
    except ModuleNotFoundError as error:
        sys.exit(f"needs {error.name}: pip install 'depth_node[train]'")

    candidates, rows = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (encoder, decoder) in NETWORKS.items():
            trained = random_network(encoder, decoder, *arguments.size)
            model = export_depth(trained, Path(folder) / "model.onnx", "none", "Apache-2.0", "random weights")
            backend = create_backend(model, "openvino", threads=1)
            image = smooth_image(trained.card.width, trained.card.height)
            candidates[name] = lambda backend=backend, image=image: backend.infer(image)
            rows[name] = {
                "encoder, decoder": name,
                "input": f"{trained.card.width}x{trained.card.height}",
                "parameters_m": sum(p.numel() for p in trained.network.parameters()) / 1e6,
                "gflops": count_flops(trained) / 1e9,
                "precision": backend.precision,
            }
    seconds = time_in_turns(candidates, arguments.rounds, arguments.runs, process_time)
    timed: list[dict[str, Any]] = [
        {
            **row,
            "median_ms": float(np.median(seconds[name])) * 1e3,
            "best_ms": float(np.min(seconds[name])) * 1e3,
        }
        for name, row in rows.items()
    ]
    report("networks", timed, threads=1, rounds=arguments.rounds, runs=arguments.runs)
    return 0


def random_network(encoder: str, decoder: Any, width: int, height: int) -> TrainedDepth:
    """A depth network with random weights for images of about this size: the nearest that it can take."""
    import torch

    from training.checkpoints import DepthNetworkCard, TrainedDepth
    from training.networks.depth import DepthNetwork

    torch.manual_seed(0)
    network = DepthNetwork(encoder, pretrained=False, scales=1, decoder=decoder).eval()
    multiple = network.size_multiple
    card = DepthNetworkCard(encoder, 1, 0.1, 100.0, False, (0.58, 1.92, 0.5, 0.5), width, height, decoder)
    card = replace(card, width=round(width / multiple) * multiple, height=round(height / multiple) * multiple)
    return TrainedDepth(network, card, steps=0)


if __name__ == "__main__":
    sys.exit(main())
