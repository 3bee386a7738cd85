"""The supervised task learns a rendered scene in metres of the canonical camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from depth_node.camera import PinholeCamera
from depth_node.synthetic import street_drive, street_world
from training.data.sample import Batch, Views, clean_views
from training.errors import DataError
from training.losses.options import SupervisedLosses
from training.losses.supervised import log_l1, log_residual, to_canonical_focal
from training.networks.depth import DepthNetworkOptions
from training.tasks.supervised import SupervisedDepth


@pytest.fixture(scope="module")
def views() -> Views:
    """Two frames of a drive with true depth."""
    camera = PinholeCamera(width=96, height=64, fx=60, fy=60, cx=47.5, cy=28)
    frames = list(street_drive(street_world(seed=3), camera, frames=2, speed=50.0))
    return clean_views(
        Batch(
            image=torch.stack([torch.from_numpy(f.rgb).movedim(-1, 0) for f in frames]),
            sources=torch.empty((2, 0, 3, 64, 96), dtype=torch.uint8),
            intrinsics=torch.tensor([camera.normalized()] * 2),
            depth=torch.stack([torch.from_numpy(np.nan_to_num(f.depth))[None] for f in frames]),
            T_source_target=None,
            names=("drive/0", "drive/1"),
        )
    )


def small_task(focal: float) -> SupervisedDepth:
    torch.manual_seed(0)
    canonical = (focal, 1.9, 0.5, 0.5)
    return SupervisedDepth(
        DepthNetworkOptions("resnet10t"), pretrained=False, max_depth=200.0, canonical_intrinsics=canonical
    )


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_learns_depth_of_the_canonical_camera(views: Views) -> None:
    """The frames have fx/W = 0.625; a canonical camera with half of it sees them at half their depth."""
    task = small_task(focal=0.3125)
    assert views.depth is not None
    optimizer = torch.optim.Adam(task.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss = task.training_step(views, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    with torch.no_grad():
        residual, known = log_residual(task(views.image), views.depth)
    assert residual[known].median().item() == pytest.approx(np.log(0.5), abs=0.15)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_validation_reports_the_error_in_canonical_metres(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    task = small_task(focal=0.3125).eval()
    logged: dict[str, float] = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.update({name: value}))
    with torch.no_grad():
        task.validation_step(views, 0)
        assert views.depth is not None
        truth = to_canonical_focal(views.depth, views.intrinsics, 0.3125)
        expected = log_l1(*log_residual(task(views.image), truth), limit=float("inf"))
    assert float(logged["val/log_l1"]) == pytest.approx(float(expected))
    assert 0 < logged["val/abs_rel"] < 2


DENSE_DEPTH = SupervisedLosses(0, 0, 0, inverse_l1=0.1, inverse_gradient=1.0, inverse_dissimilarity=1.0)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_learns_by_the_losses_of_densedepth(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = DepthNetworkOptions("resnet10t")
    task = SupervisedDepth(network, pretrained=False, min_depth=1.0, max_depth=100.0, losses=DENSE_DEPTH)
    terms: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **_: terms.update(values))
    optimizer = torch.optim.Adam(task.parameters(), lr=5e-4)
    losses = []
    for _ in range(40):
        loss = task.training_step(views, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert set(terms) == {f"train/{t}" for t in ("loss", "inverse_l1", "inverse_gradient", "inverse_dissimilarity")}
    assert np.mean(losses[-3:]) < 0.65 * losses[0]


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_half_resolution_predictions_are_evaluated_at_full_resolution(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = DepthNetworkOptions("densenet121", decoder="dense_depth")
    task = SupervisedDepth(network, pretrained=False, min_depth=1.0, max_depth=100.0, losses=DENSE_DEPTH)
    monkeypatch.setattr(task, "log_dict", lambda *_, **__: None)
    assert task.depth_network(views.image)[0].shape == (2, 1, 32, 48)
    task.training_step(views, 0).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.parameters())
    logged: dict[str, float] = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.update({name: torch.as_tensor(value).item()}))
    task.eval().validation_step(views, 0)
    assert task(views.image).shape == (2, 1, 64, 96)
    assert set(logged) == {"val/log_l1", "val/abs_rel"}


def test_frames_without_depth_are_refused(views: Views) -> None:
    with pytest.raises(DataError, match=r"set data.depth: true"):
        small_task(focal=0.6).training_step(replace(views, depth=None), 0)
