"""Checkpoints and model files as predictors, against closed forms of networks whose output is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.checkpoints import DepthNetworkCard, TrainedDepth, write_card
from training.errors import CheckpointError
from training.evaluation.predictors import BatchModelPredictor, CheckpointPredictor, ModelPredictor
from training.networks.depth import DepthNetwork

CARD = DepthNetworkCard(
    encoder="mobilenetv3_small_050",
    scales=1,
    min_depth=0.5,
    max_depth=100.0,
    metric=True,
    prior=(0.58, 1.92, 0.49, 0.46),
    width=96,
    height=64,
)


def write_checkpoint(path: Path, card: DepthNetworkCard, bias: float) -> Path:
    """A network whose sigmoid disparity is sigmoid(bias) everywhere."""
    network = DepthNetwork(card.encoder, pretrained=False, scales=card.scales)
    for head in network.decoder.heads:
        torch.nn.init.zeros_(head[0].weight)
        torch.nn.init.constant_(head[0].bias, bias)
    checkpoint: dict[str, Any] = {
        "state_dict": {f"depth_network.{name}": value for name, value in network.state_dict().items()},
        "global_step": 123,
    }
    write_card(checkpoint, card)
    torch.save(checkpoint, path)
    return path


def test_checkpoint_gives_inverse_depth_at_the_training_size(tmp_path: Path) -> None:
    predictor = CheckpointPredictor(write_checkpoint(tmp_path / "last.ckpt", CARD, bias=-2.0), device="cpu")
    assert predictor.name == "last.ckpt (step 123)"
    disparity = predictor.disparity(np.full((50, 120, 3), 90, np.uint8), None)
    assert disparity.shape == (64, 96)
    sigmoid = 1 / (1 + math.exp(2.0))
    np.testing.assert_allclose(disparity, 0.01 + (2 - 0.01) * sigmoid, rtol=1e-5)


@pytest.mark.parametrize(("metric", "factor"), [(True, 2.0), (False, 1.0)])
def test_metric_checkpoint_follows_the_focal_length(tmp_path: Path, metric: bool, factor: float) -> None:
    """Twice the focal length shows the same image of a world twice as far away."""
    path = write_checkpoint(tmp_path / "a.ckpt", replace(CARD, metric=metric), bias=0.0)
    predictor = CheckpointPredictor(path, device="cpu")
    rgb = np.zeros((64, 96, 3), np.uint8)
    known = predictor.disparity(rgb, (2 * 0.58, 1.92, 0.49, 0.46))
    np.testing.assert_allclose(known * factor, predictor.disparity(rgb, None), rtol=1e-6)


def test_a_batch_gives_what_single_frames_give(tmp_path: Path, tiny_depth: TrainedDepth) -> None:
    path = tmp_path / "a.ckpt"
    weights = {f"depth_network.{name}": value for name, value in tiny_depth.network.state_dict().items()}
    checkpoint: dict[str, Any] = {"state_dict": weights, "global_step": 1}
    write_card(checkpoint, tiny_depth.card)
    torch.save(checkpoint, path)
    predictor = CheckpointPredictor(path, device="cpu")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((50, 120), (64, 96), (80, 90))]
    cameras = [None, (0.58, 1.92, 0.49, 0.46), (0.29, 1.92, 0.49, 0.46)]
    together = predictor.disparities(images, cameras)
    assert len({float(disparity.mean()) for disparity in together}) == 3
    for disparity, image, camera in zip(together, images, cameras, strict=True):
        np.testing.assert_allclose(disparity, predictor.disparity(image, camera), rtol=1e-5)


def test_checkpoint_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.ckpt"):
        CheckpointPredictor(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_model_file_runs_through_the_nodes_pipeline(tiny_model_path: Path, backend: str) -> None:
    pytest.importorskip(backend)
    predictor = ModelPredictor(tiny_model_path, backend)
    assert predictor.name.startswith(f"tiny.onnx ({backend}")
    white = np.full((40, 100, 3), 255, np.uint8)
    disparity = predictor.disparity(white, None)
    assert disparity.shape == (40, 100)
    np.testing.assert_allclose(disparity, 0.5, rtol=1e-2)
    # The model's prior has fx/W = 0.58: half of it halves the depth.
    np.testing.assert_allclose(predictor.disparity(white, (0.29, 1.92, 0.49, 0.46)), 1.0, rtol=1e-2)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_model_in_batches_gives_what_single_frames_give(tiny_model_path: Path, backend: str) -> None:
    """Three images, one more than the batch has places left in its second run; each with a camera of its own."""
    pytest.importorskip(backend)
    batched = BatchModelPredictor(tiny_model_path, 2, backend, "fp32")
    assert batched.name == f"tiny.onnx ({backend}, fp32, batch 2)"
    single = ModelPredictor(tiny_model_path, backend, "fp32")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((50, 120), (32, 64), (80, 90))]
    cameras = [None, (0.58, 1.92, 0.49, 0.46), (0.29, 1.92, 0.49, 0.46)]
    together = batched.disparities(images[:2], cameras[:2]) + batched.disparities(images[2:], cameras[2:])
    for disparity, image, camera in zip(together, images, cameras, strict=True):
        np.testing.assert_allclose(disparity, single.disparity(image, camera), rtol=1e-5)
