"""The motion model computes what the pose network and the learned camera compute, in the node's backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depth_node.backends import create_motion_backend
from depth_node.model import read_motion_model
from training import cli
from training.checkpoints import POSE_CARD, TrainedDepth
from training.geometry.framing import Framing
from training.networks.intrinsics import CameraIntrinsics, IntrinsicsHead, LearnedIntrinsics, create_learned_intrinsics
from training.networks.pose import PoseNetwork
from training.pose_checkpoints import PoseNetworkCard

ENCODER = "mobilenetv3_small_050"
ASPECT = 2.0  # of the camera's images; the networks' input is 96x64


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    torch.manual_seed(1)
    return PoseNetwork(ENCODER, pretrained=False).eval()


def learned(per: str, network: PoseNetwork) -> IntrinsicsHead | CameraIntrinsics:
    """As training may leave it: another camera than the prior's, weights that look at the images."""
    torch.manual_seed(2)
    cameras = 2 if per == "camera" else 1
    options = LearnedIntrinsics(per=per, square_pixels=True, cameras=cameras)  # type: ignore[arg-type]
    module = create_learned_intrinsics(options, network.bottleneck_channels)
    with torch.no_grad():
        module.aspect[:] = ASPECT
        if isinstance(module, IntrinsicsHead):
            module.focal.weight.normal_(0, 0.1)
        else:
            module.focal += torch.tensor([[0.1], [0.3]])
    return module.eval()


def entries(network: PoseNetwork, module: torch.nn.Module | None) -> dict[str, Any]:
    """Of a checkpoint, in addition to the depth network's."""
    options = None if module is None else module.options
    return {POSE_CARD: asdict(PoseNetworkCard(ENCODER, options))}  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("per", ["pair", "camera", None])
def test_the_node_sees_what_the_networks_say(
    tiny_depth: TrainedDepth,
    network: PoseNetwork,
    write_checkpoint: Callable[..., Path],
    tmp_path: Path,
    per: str | None,
    backend: str,
) -> None:
    module = None if per is None else learned(per, network)
    weights = {f"depth_network.{name}": value for name, value in tiny_depth.network.state_dict().items()}
    weights |= {f"pose_network.{name}": value for name, value in network.state_dict().items()}
    if module is not None:
        weights |= {f"learned_intrinsics.{name}": value for name, value in module.state_dict().items()}
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, tiny_depth, state_dict=weights, **entries(network, module))
    output = tmp_path / "motion.onnx"
    options = ["--kind", "motion", "--half_weights", "false", "--learned_camera", "1" if per == "camera" else "0"]
    assert cli.main(["export", "--checkpoint", str(path), "--output", str(output), *options]) == 0

    a, b = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 96, 3), np.uint8)
    model = read_motion_model(output)
    assert (model.spec.input_width, model.spec.input_height, model.spec.metric) == (96, 64, tiny_depth.card.metric)
    got = create_motion_backend(model, backend, precision="fp32").infer(a, b)

    earlier, later = (torch.from_numpy(image).movedim(-1, 1) / 255 for image in (a, b))
    with torch.no_grad():
        axis_angle, translation = network(earlier, later)
        camera = torch.tensor([tiny_depth.card.prior])
        framing = Framing(torch.tensor([1]), torch.tensor([ASPECT]), torch.ones(1, 2), torch.zeros(1, 2))
        if isinstance(module, IntrinsicsHead):
            camera = module(network.bottleneck(earlier, later).unsqueeze(1), framing)
        elif module is not None:
            camera = module(framing)
    size = float(translation.abs().max())
    np.testing.assert_allclose(got.axis_angle, axis_angle[0], atol=1e-3 * float(axis_angle.abs().max()))
    np.testing.assert_allclose(got.translation, translation[0], atol=1e-3 * size)
    np.testing.assert_allclose(got.intrinsics, camera[0], rtol=1e-3)
    if per is not None:
        assert got.intrinsics[1] / got.intrinsics[0] == pytest.approx(ASPECT, rel=1e-4)  # square pixels there


def test_a_camera_that_was_not_learned_is_named(
    tiny_depth: TrainedDepth,
    network: PoseNetwork,
    write_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = learned("pair", network)
    weights = {f"depth_network.{name}": value for name, value in tiny_depth.network.state_dict().items()}
    weights |= {f"pose_network.{name}": value for name, value in network.state_dict().items()}
    weights |= {f"learned_intrinsics.{name}": value for name, value in module.state_dict().items()}
    path = write_checkpoint(tmp_path / "last.ckpt", tiny_depth, state_dict=weights, **entries(network, module))
    options = ["--checkpoint", str(path), "--output", str(tmp_path / "m.onnx"), "--kind", "motion"]
    assert cli.main(["export", *options, "--learned_camera", "3"]) == 2
    assert "learned_camera is 3: the checkpoint has 1" in capsys.readouterr().err
