"""A pose network, with the intrinsics that were learned with it, as a motion model of the node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from depth_node.model import MotionModelFile, write_motion_model
from depth_node.model_spec import MotionSpec
from training.errors import ExportError
from training.geometry.framing import Framing
from training.networks.dpt import with_fixed_input_size
from training.networks.intrinsics import CameraIntrinsics
from training.onnx_graphs import export_graph, random_images
from training.pose_checkpoints import TrainedPose

INPUTS = ("image_a", "image_b")
OUTPUTS = ("axis_angle", "translation", "intrinsics")


class ExportedMotion(nn.Module):
    """What the file computes: images a (earlier) and b uint8 [1, H, W, 3], RGB, to T_b_a and normalised intrinsics."""

    known: Tensor

    def __init__(self, trained: TrainedPose, learned_camera: int) -> None:
        super().__init__()
        self.network, self.learned = trained.network, trained.intrinsics
        aspect = torch.tensor([trained.width / trained.height])
        if self.learned is not None:
            cameras = self.learned.options.cameras
            if not 0 <= learned_camera < cameras:
                raise ExportError(f"learned_camera is {learned_camera}: the checkpoint has {cameras}, counted from 0")
            aspect = self.learned.aspect[learned_camera : learned_camera + 1]
        self.framing = (torch.tensor([learned_camera]), aspect, torch.ones(1, 2), torch.zeros(1, 2))
        self.register_buffer("known", torch.tensor([trained.prior]))

    def forward(self, image_a: Tensor, image_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Axis-angle [1, 3], translation [1, 3], intrinsics [1, 4]."""
        earlier, later = (image.permute(0, 3, 1, 2).float() / 255.0 for image in (image_a, image_b))
        bottleneck = self.network.bottleneck(earlier, later)
        axis_angle, translation = self.network.motion(bottleneck)
        return axis_angle, translation, self._intrinsics(bottleneck)

    def _intrinsics(self, bottleneck: Tensor) -> Tensor:
        if self.learned is None:
            return self.known.clone()  # the tracer wants an operation
        framing = Framing(*self.framing)
        if isinstance(self.learned, CameraIntrinsics):
            return self.learned(framing)
        return self.learned(bottleneck.unsqueeze(1), framing)


def export_motion(
    trained: TrainedPose,
    path: Path,
    dataset: str,
    license_: str,
    recipe: str,
    half_weights: bool = True,
    learned_camera: int = 0,
) -> MotionModelFile:
    """Write the motion model of a trained pose network; arguments as of `export_depth`.

    Its intrinsics are learned ones, or, where cameras were known, those of the training, whatever the images.

    learned_camera: which one, where there is one vector for each of several.

    Raises:
        ExportError: the file computes something else than the network, or there is no such camera.
    """
    network = with_fixed_input_size(trained.network, trained.width, trained.height)
    module = ExportedMotion(replace(trained, network=network), learned_camera).eval()
    images = random_images(INPUTS, trained.width, trained.height)
    model = export_graph(module, images, OUTPUTS, half_weights=half_weights, relative_to="largest")
    spec = MotionSpec(trained.width, trained.height, trained.metric, dataset, license_, recipe)
    return write_motion_model(model, spec, path)
