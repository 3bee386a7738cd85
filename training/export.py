"""`python -m training export`: a checkpoint becomes one self-describing ONNX file, checked against its network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from depth_node.model import ModelFile, write_model
from depth_node.model_spec import ModelSpec
from training.checkpoints import DepthNetworkCard, TrainedDepth, load_depth_network
from training.command_line import run_function
from training.export_motion import export_motion
from training.networks.depth import DepthNetwork, sigmoid_to_inverse_depth
from training.networks.dpt import with_fixed_input_size
from training.onnx_graphs import export_graph, random_images
from training.pose_checkpoints import load_pose_network


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
    network = with_fixed_input_size(trained.network, card.width, card.height)
    module = ExportedDepth(network, card.min_depth, card.max_depth).eval()
    images = random_images(["image"], card.width, card.height)
    model = export_graph(module, images, ["disparity"], half_weights=half_weights, relative_to="each")
    return write_model(model, _spec(card, dataset, license_, recipe), path)


def export(
    checkpoint: Path,
    output: Path,
    dataset: str = "unspecified",
    license: str = "unspecified",
    recipe: str = "unspecified",
    half_weights: bool = True,
    kind: Literal["depth", "motion"] = "depth",
    learned_camera: int = 0,
) -> int:
    """Write a network of a checkpoint as one self-describing ONNX file that the node runs.

    A depth model takes a uint8 RGB frame and gives disparity in 1/m; a motion model takes two and gives the motion
    between them, and intrinsics. Normalisation is inside. The output is compared with PyTorch's before it is written.
    Look at the file with `python -m depth_node inspect_model FILE`.

    Args:
        checkpoint: file written by `train`.
        output: model file to write, ending in .onnx.
        dataset: what the network was trained on, for the model's metadata.
        license: licence of the weights, for the model's metadata.
        recipe: how it was trained, for the model's metadata.
        half_weights: store weights as float16, which halves the file.
        kind: the depth network, or the pose network with the intrinsics that were learned with it.
        learned_camera: for a motion model whose cameras were learned as one vector each: which one it has, counting
            the entries of data.train from 0.
    """
    if kind == "motion":
        trained = load_pose_network(checkpoint)
        checksum = export_motion(trained, output, dataset, license, recipe, half_weights, learned_camera).checksum
        width, height = trained.width, trained.height
    else:
        depth = load_depth_network(checkpoint)
        checksum = export_depth(depth, output, dataset, license, recipe, half_weights).checksum
        width, height = depth.card.width, depth.card.height
    print(f"{output}: {kind}, {width}x{height}, {output.stat().st_size / 1e6:.1f} MB, sha256 {checksum[:12]}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command-line entry."""
    return run_function(export, arguments)


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
