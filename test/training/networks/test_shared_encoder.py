"""One encoder for depth and pose: what it sees, what is counted once, what comes back from a checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from training.checkpoints import CARD, POSE_CARD, TrainedDepth
from training.export_motion import export_motion
from training.networks.depth import DepthNetworkOptions
from training.networks.encoders import normalize
from training.networks.pose import PoseNetwork
from training.pose_checkpoints import PoseNetworkCard, TrainedPose, load_pose_network
from training.tasks.self_supervised import SelfSupervisedDepth

TINY = "mobilenetv3_small_050"


@pytest.fixture
def task() -> SelfSupervisedDepth:
    torch.manual_seed(0)
    return SelfSupervisedDepth(DepthNetworkOptions(TINY), "shared", pretrained=False, channels_last=False)


def test_frames_are_seen_one_at_a_time_in_their_order(task: SelfSupervisedDepth) -> None:
    network = task.pose_network.eval()
    earlier, later = torch.rand(2, 1, 3, 64, 96)
    with torch.no_grad():
        seen = network.bottleneck(earlier, later)
        each = [network.decoder[:2](network.encoder(normalize(frame))[-1]) for frame in (earlier, later)]
    torch.testing.assert_close(seen, torch.cat(each, dim=1))
    assert seen.shape == (1, 512, 2, 3)
    assert network.bottleneck_channels == 512


def test_its_weights_are_counted_and_trained_once(task: SelfSupervisedDepth) -> None:
    assert task.pose_network.encoder is task.depth_network.encoder
    own = sum(p.numel() for p in task.pose_network.decoder.parameters())
    assert sum(p.numel() for p in task.parameters()) == own + sum(p.numel() for p in task.depth_network.parameters())


def test_freezing_pose_leaves_the_encoder_to_depth(task: SelfSupervisedDepth) -> None:
    task.pose_network.freeze()
    assert all(p.requires_grad for p in task.depth_network.parameters())
    assert not any(p.requires_grad for p in task.pose_network.decoder.parameters())
    separate = PoseNetwork(TINY, pretrained=False)
    separate.freeze()
    assert not any(p.requires_grad for p in separate.parameters())


def test_a_checkpoint_gives_it_back(task: SelfSupervisedDepth, tiny_depth: TrainedDepth, tmp_path: Path) -> None:
    card = {**asdict(tiny_depth.card), "scales": 4}
    content = {
        "state_dict": task.state_dict(),
        "global_step": 3,
        CARD: card,
        POSE_CARD: asdict(PoseNetworkCard("shared")),
    }
    torch.save(content, tmp_path / "last.ckpt")
    loaded = load_pose_network(tmp_path / "last.ckpt")
    assert loaded.network.shares_encoder
    pair = torch.rand(2, 1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(*pair), task.pose_network.eval()(*pair))


def test_a_shared_transformer_becomes_a_motion_model(tmp_path: Path) -> None:
    """Its positions are those of the training's size, in this file as in that of the depth network."""
    task = SelfSupervisedDepth(DepthNetworkOptions("test_vit", "dpt"), "shared", pretrained=False, scales=1)
    prior = (0.6, 0.9, 0.5, 0.5)
    trained = TrainedPose(task.pose_network.eval(), None, 96, 64, steps=0, metric=False, prior=prior)
    model = export_motion(trained, tmp_path / "motion.onnx", "", "", "", half_weights=False)  # compares with PyTorch
    assert (model.spec.input_width, model.spec.input_height) == (96, 64)
