"""Imported weights compute what the architecture in the paper computes, restated here with torchvision's ResNets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from depth_node.backends import create_backend
from depth_node.model import read_model
from training.checkpoints import load_depth_network
from training.cli import main
from training.errors import CheckpointError
from training.monodepth2 import monodepth2_checkpoint
from training.networks.pose import PoseNetwork
from training.pose_checkpoints import load_pose_network

WIDTH, HEIGHT = 96, 64
DECODER = (256, 128, 64, 32, 16)  # of the paper's supplement, coarsest first


def random_resnet(layers: int, images: int = 1) -> nn.Module:
    """torchvision's ResNet for stacked images, in evaluation mode, with batch norms that do something."""
    torch.manual_seed(layers + images)
    network: nn.Module = {18: torchvision.models.resnet18, 50: torchvision.models.resnet50}[layers]()
    network.conv1 = nn.Conv2d(3 * images, 64, 7, stride=2, padding=3, bias=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.7, 1.4)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return network.eval()


def features(resnet: Any, image: Tensor) -> list[Tensor]:
    """The five maps that the decoder skips to: after the first activation and after each stage."""
    first = resnet.relu(resnet.bn1(resnet.conv1((image - 0.45) / 0.225)))
    maps = [first, resnet.layer1(resnet.maxpool(first))]
    for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
        maps.append(stage(maps[-1]))
    return maps


def random_convolution(inputs: int, outputs: int, size: int, prefix: str) -> dict[str, Tensor]:
    weight = torch.randn(outputs, inputs, size, size) / (inputs * size**2) ** 0.5
    return {f"{prefix}.weight": weight, f"{prefix}.bias": 0.1 * torch.randn(outputs)}


def random_depth_decoder(channels: list[int], scales: int) -> dict[str, Tensor]:
    weights, below, place = {}, channels[-1], 0
    for outputs, skip in zip(DECODER, [*reversed(channels[:-1]), 0], strict=True):
        for inputs in (below, outputs + skip):
            weights |= random_convolution(inputs, outputs, 3, f"decoder.{place}.conv.conv")
            place += 1
        below = outputs
    for scale in range(scales):
        weights |= random_convolution(DECODER[-1 - scale], 1, 3, f"decoder.{place}.conv")
        place += 1
    return weights


def depth_decoder(weights: dict[str, Tensor], maps: list[Tensor]) -> list[Tensor]:
    """Sigmoid disparities, finest first."""

    def convolution(x: Tensor, prefix: str) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weights[f"{prefix}.weight"], weights[f"{prefix}.bias"])

    x, disparities = maps[-1], []
    for stage in range(5):
        x = F.elu(convolution(x, f"decoder.{2 * stage}.conv.conv"))
        x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
        if stage < 4:
            x = torch.cat([x, maps[3 - stage]], 1)
        x = F.elu(convolution(x, f"decoder.{2 * stage + 1}.conv.conv"))
        scale = 4 - stage
        if f"decoder.{10 + scale}.conv.weight" in weights:
            disparities.insert(0, torch.sigmoid(convolution(x, f"decoder.{10 + scale}.conv")))
    return disparities


def pose(resnet: nn.Module, weights: dict[str, Tensor], earlier: Tensor, later: Tensor) -> Tensor:
    """Axis-angle and translation [B, 6]; all of it scaled by 0.01."""
    x = features(resnet, torch.cat([earlier, later], 1))[-1]
    for place in range(4):
        x = F.conv2d(x, weights[f"net.{place}.weight"], weights[f"net.{place}.bias"], padding=int(place in (1, 2)))
        x = F.relu(x) if place < 3 else x
    return 0.01 * x.mean((2, 3))


class Published:
    """A folder in the published layout and the networks that are in it."""

    def __init__(self, folder: Path, layers: int, scales: int, use_stereo: bool, pose_layers: int = 18) -> None:
        self.folder = folder
        self.encoder, self.pose_encoder = random_resnet(layers), random_resnet(pose_layers, images=2)
        torch.manual_seed(0)
        channels = [64, *(64 * 2**i * (4 if layers == 50 else 1) for i in range(4))]
        self.decoder = random_depth_decoder(channels, scales)
        self.pose_decoder = random_convolution(2048 if pose_layers == 50 else 512, 256, 1, "net.0")
        for place, (outputs, size) in enumerate([(256, 3), (256, 3), (6, 1)], start=1):
            self.pose_decoder |= random_convolution(256, outputs, size, f"net.{place}")
        encoder: dict[str, Any] = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        encoder |= {"height": HEIGHT, "width": WIDTH, "use_stereo": use_stereo}
        torch.save(encoder, folder / "encoder.pth")
        torch.save(self.decoder, folder / "depth.pth")
        torch.save(
            {f"encoder.{name}": value for name, value in self.pose_encoder.state_dict().items()},
            folder / "pose_encoder.pth",
        )
        torch.save(self.pose_decoder, folder / "pose.pth")

    @torch.no_grad()
    def disparities(self, image: Tensor) -> list[Tensor]:
        return depth_decoder(self.decoder, features(self.encoder, image))


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("mono"), 18, scales=4, use_stereo=False)


@pytest.fixture(scope="module")
def checkpoint(mono: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["import-monodepth2", str(mono.folder)]) == 0
    return folder / f"{mono.folder.name}.ckpt"


@torch.no_grad()
@pytest.mark.parametrize(("layers", "scales"), [(18, 4), (18, 1), (50, 4)])
def test_disparities_are_the_same(tmp_path: Path, layers: int, scales: int) -> None:
    published = Published(tmp_path, layers, scales, use_stereo=False)
    path = tmp_path / "a.ckpt"
    torch.save(monodepth2_checkpoint(tmp_path), path)
    trained = load_depth_network(path)
    image = torch.rand(1, 3, HEIGHT, WIDTH)
    ours, theirs = trained.network(image), published.disparities(image)
    assert len(ours) == len(theirs) == scales
    for a, b in zip(ours, theirs, strict=True):
        assert b.std() > 1e-3  # not a constant
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert (trained.card.encoder, trained.card.width, trained.card.height) == (f"resnet{layers}", WIDTH, HEIGHT)


@torch.no_grad()
@pytest.mark.parametrize("layers", [18, 50])
def test_motion_is_the_same(tmp_path: Path, layers: int) -> None:
    published = Published(tmp_path, 18, scales=1, use_stereo=False, pose_layers=layers)
    path = tmp_path / "a.ckpt"
    torch.save(monodepth2_checkpoint(tmp_path), path)
    network = load_pose_network(path).network
    earlier, later = torch.rand(2, 2, 3, HEIGHT, WIDTH)
    expected = pose(published.pose_encoder, published.pose_decoder, earlier, later)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(torch.cat(network(earlier, later), 1), expected, rtol=1e-4, atol=1e-6)


def test_depth_is_up_to_scale_and_stereo_is_metric(tmp_path: Path, checkpoint: Path) -> None:
    mono = load_depth_network(checkpoint).card
    assert (mono.min_depth, mono.max_depth, mono.metric) == (0.1, 100.0, False)
    # KITTI's principal point at half the width, (0, 0) being the centre of the first pixel.
    assert mono.prior == pytest.approx((0.58, 1.92, (0.5 * WIDTH + 0.5) / WIDTH, (0.5 * HEIGHT + 0.5) / HEIGHT))
    Published(tmp_path, 18, scales=1, use_stereo=True)
    torch.save(monodepth2_checkpoint(tmp_path), tmp_path / "a.ckpt")
    stereo = load_depth_network(tmp_path / "a.ckpt").card
    # The published evaluation multiplies depths of stereo models by 5.4.
    assert (stereo.min_depth, stereo.max_depth, stereo.metric) == (pytest.approx(0.54), pytest.approx(540), True)


@torch.no_grad()
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_node_runs_the_export(mono: Published, checkpoint: Path, tmp_path: Path, backend: str) -> None:
    model = tmp_path / "model.onnx"
    options = ["--checkpoint", str(checkpoint), "--output", str(model), "--half_weights", "false"]
    assert main(["export", *options]) == 0
    image = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    sigmoid = mono.disparities(torch.from_numpy(image).permute(0, 3, 1, 2) / 255.0)[0][:, 0].numpy()
    got = create_backend(read_model(model), backend, precision="fp32").infer(image).output
    np.testing.assert_allclose(got, 0.01 + (10 - 0.01) * sigmoid, rtol=1e-3)


def test_without_a_pose_network_and_counters(mono: Published, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "depth.pth").write_bytes((mono.folder / "depth.pth").read_bytes())
    encoder = torch.load(mono.folder / "encoder.pth", weights_only=True)
    old = {name: value for name, value in encoder.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(encoder)
    torch.save(old, tmp_path / "encoder.pth")
    torch.save(monodepth2_checkpoint(tmp_path), tmp_path / "a.ckpt")
    assert "without a pose network" in caplog.text
    with pytest.raises(CheckpointError, match="has no pose network"):
        load_pose_network(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("depth.pth", None, "no .*depth.pth"),
        ("depth.pth", [1, 2], "holds a list"),
        ("depth.pth", {"other.weight": torch.ones(1)}, "'other.weight': expected a list of convolutions"),
        ("depth.pth", {"decoder.0.conv.conv.weight": torch.ones(1)}, "no disparity heads"),
        ("encoder.pth", {"encoder.layer1.0.conv1.weight": torch.ones(1)}, r"is no ResNet.* \[1, 0, 0, 0\] blocks"),
    ],
)
def test_files_of_another_layout(mono: Published, tmp_path: Path, name: str, content: Any, message: str) -> None:
    for other in ("encoder.pth", "depth.pth"):
        (tmp_path / other).write_bytes((mono.folder / other).read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(CheckpointError, match=message):
        monodepth2_checkpoint(tmp_path)


def test_weights_of_other_shapes_and_files_without_a_size(mono: Published, tmp_path: Path) -> None:
    for name in ("encoder.pth", "depth.pth", "pose_encoder.pth", "pose.pth"):
        (tmp_path / name).write_bytes((mono.folder / name).read_bytes())
    torch.save({f"encoder.{k}": v for k, v in mono.encoder.state_dict().items()}, tmp_path / "pose_encoder.pth")
    with pytest.raises(CheckpointError, match="encoder of its own for two frames"):
        monodepth2_checkpoint(tmp_path)
    torch.save({f"encoder.{k}": v for k, v in mono.encoder.state_dict().items()}, tmp_path / "encoder.pth")
    with pytest.raises(CheckpointError, match="width and height"):
        monodepth2_checkpoint(tmp_path)


def test_motion_survives_a_task_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    """The card names the encoder, so that a pose network is rebuilt without a recipe."""
    content = torch.load(checkpoint, weights_only=True)
    assert content["pose_network_card"] == {"encoder": "resnet18", "intrinsics": None, "training": None}
    assert isinstance(load_pose_network(checkpoint).network, PoseNetwork)
    content["pose_network_card"] = {"encoder": "resnet34"}
    torch.save(content, tmp_path / "b.ckpt")
    with pytest.raises(CheckpointError, match="does not fit this version"):
        load_pose_network(tmp_path / "b.ckpt")
