"""Under bf16-mixed, networks compute in bfloat16, and everything after them in float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from training.data.sample import Views
from training.losses import reprojection
from training.losses.options import SupervisedLosses
from training.networks import pose
from training.networks.depth import DepthNetworkOptions
from training.tasks import supervised
from training.tasks.self_supervised import SelfSupervisedDepth
from training.tasks.supervised import SupervisedDepth

ENCODER = "mobilenetv3_small_050"


class SeenTypes(TorchDispatchMode):
    """Floating-point types of what each operator takes and gives."""

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[str, set[torch.dtype]] = defaultdict(set)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor) and value.is_floating_point():
                self.types[func.overloadpacket.__name__].add(value.dtype)
        return result


def watched(function: Callable[..., Any], seen: SeenTypes) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        with seen:
            return function(*arguments, **options)

    return call


@pytest.fixture
def views() -> Views:
    torch.manual_seed(0)
    image, sources = torch.rand(2, 3, 64, 96), torch.rand(2, 2, 3, 64, 96)
    intrinsics = torch.tensor([[0.58, 1.9, 0.5, 0.5]]).repeat(2, 1)
    return Views(image, sources, image, sources, intrinsics, 5 + 20 * torch.rand(2, 1, 64, 96), None)


def test_geometry_and_losses_of_self_supervision(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    after_networks, everything = SeenTypes(), SeenTypes()
    for module, name in (
        (reprojection, "warp"),
        (reprojection, "photometric_error"),
        (reprojection, "edge_aware_smoothness"),
        (reprojection, "disparity_to_depth"),
        (pose, "so3_exp"),
        (pose, "rigid_transform"),
        (pose, "invert"),
    ):
        monkeypatch.setattr(module, name, watched(getattr(module, name), after_networks))
    task = SelfSupervisedDepth(DepthNetworkOptions(ENCODER), ENCODER, pretrained=False)
    with torch.autocast("cpu", dtype=torch.bfloat16), everything:
        predictions = task.predictions(views)
        loss, diagnostics = task.loss(views, predictions)
    loss.backward()
    assert everything.types["convolution"] >= {torch.bfloat16}
    assert {"grid_sampler_2d", "avg_pool2d", "sin", "cos"} <= set(after_networks.types)
    assert {dtype for types in after_networks.types.values() for dtype in types} == {torch.float32}
    maps = (*predictions.disparities, diagnostics.finest.depth, diagnostics.finest.error)
    for value in (*maps, predictions.T_source_target, loss):
        assert value.dtype == torch.float32
    assert {p.grad.dtype for p in task.parameters() if p.grad is not None} == {torch.float32}


def test_the_whole_loss_is_without_autocast(views: Views) -> None:
    """Also of operations that autocast would turn to bfloat16, as a matrix product in a new loss."""
    task = SelfSupervisedDepth(DepthNetworkOptions(ENCODER), ENCODER, pretrained=False)
    predictions = task.predictions(views)
    seen: list[bool] = []

    def loss(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return reprojection.photometric_reprojection_loss(*arguments, **options)

    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.tasks.self_supervised.photometric_reprojection_loss", loss)
        task.loss(views, predictions)
    assert seen == [False]


def test_losses_of_supervision(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    after_network = SeenTypes()
    for name in ("supervised_terms", "to_canonical_focal"):
        monkeypatch.setattr(supervised, name, watched(getattr(supervised, name), after_network))
    every_term = SupervisedLosses(inverse_l1=0.1, inverse_gradient=1.0, inverse_dissimilarity=1.0)
    task = SupervisedDepth(DepthNetworkOptions(ENCODER), pretrained=False, losses=every_term)
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    monkeypatch.setattr(task, "log_dict", lambda *_, **__: None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task.training_step(views, 0)
    assert loss.dtype == torch.float32
    assert {"log", "convolution"} <= set(after_network.types)
    assert {dtype for types in after_network.types.values() for dtype in types} == {torch.float32}
