"""The self-supervised task learns a rendered scene: motion from video, depth from video with known motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader

from depth_node.camera import PinholeCamera
from depth_node.synthetic import render, street_drive, street_world
from training.checkpoints import load_depth_network
from training.data.module import DepthData, Source
from training.data.records import translation
from training.data.sample import Batch, Views, clean_views
from training.data.synthetic import DriveOptions, read_synthetic, write_street_drive
from training.errors import DataError, RecipeError
from training.geometry.warp import warp
from training.losses.options import GeometryConsistency, InstanceCoherence, OutlierMask, SelfSupervisedLosses
from training.losses.photometric import photometric_error
from training.networks.depth import DepthNetworkOptions
from training.tasks.needs import check_losses, is_metric
from training.tasks.optimization import Optimization
from training.tasks.self_supervised import SelfSupervisedDepth
from training.tasks.validation import median_scaled_abs_rel


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Three frames of a drive, 0.8 m apart, the middle one as target; with true depth and true poses."""
    camera = PinholeCamera(width=96, height=64, fx=60, fy=60, cx=47.5, cy=28)
    frames = list(street_drive(street_world(seed=3), camera, frames=3, speed=8.0))
    images = torch.stack([torch.from_numpy(frame.rgb).movedim(-1, 0) for frame in frames])
    T_world_target = frames[1].T_world_camera
    poses = np.stack([np.linalg.inv(frames[i].T_world_camera) @ T_world_target for i in (0, 2)])
    return Batch(
        image=images[1:2],
        sources=images[None, [0, 2]],
        intrinsics=torch.tensor([camera.normalized()]),
        depth=torch.from_numpy(np.nan_to_num(frames[1].depth))[None, None],
        T_source_target=torch.from_numpy(poses).float()[None],
        names=("drive/1",),
    )


@pytest.fixture(scope="module")
def triplet(batch: Batch) -> Views:
    return clean_views(batch)


def small_task(seed: int, scales: int) -> SelfSupervisedDepth:
    torch.manual_seed(seed)
    return SelfSupervisedDepth(pretrained=False, scales=scales)


def fit(task: SelfSupervisedDepth, views: Views, steps: int) -> list[float]:
    """Photometric loss of each step on one batch."""
    optimizer = torch.optim.Adam(task.parameters(), lr=5e-4)
    losses = []
    for _ in range(steps):
        loss, diagnostics = task.reprojection(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(diagnostics.photometric))
    return losses


def direction(poses: Tensor) -> Tensor:
    return torch.nn.functional.normalize(poses[0, :, :3, 3], dim=-1)


def test_learns_the_direction_of_motion_from_video_alone(triplet: Views) -> None:
    task = small_task(seed=5, scales=1)
    unknown = replace(triplet, T_source_target=None)
    losses = fit(task, unknown, steps=30)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert triplet.T_source_target is not None
    with torch.no_grad():
        cosines = (direction(task.predictions(unknown).T_source_target) * direction(triplet.T_source_target)).sum(-1)
    assert cosines.min() > 0.7


def test_learns_depth_from_video_with_known_motion(triplet: Views) -> None:
    task = small_task(seed=1, scales=4)
    assert triplet.depth is not None
    (before,) = median_scaled_abs_rel(1 / task.reprojection(triplet)[1].finest.depth, triplet.depth)
    losses = fit(task, triplet, steps=40)
    finest = task.reprojection(triplet)[1].finest
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert median_scaled_abs_rel(1 / finest.depth, triplet.depth)[0] < 0.85 * before
    # The motion is in metres, so the depth is, too.
    known = triplet.depth > 0
    assert finest.depth[known].median().item() == pytest.approx(triplet.depth[known].median().item(), rel=0.3)


@pytest.mark.parametrize(
    "options",
    [
        {"losses": SelfSupervisedLosses(smoothness=0.5)},
        {"losses": SelfSupervisedLosses(minimum_reprojection=False)},
        {"losses": SelfSupervisedLosses(automask=False)},
        {"losses": SelfSupervisedLosses(full_resolution=False)},
        {"losses": SelfSupervisedLosses(boundary_mask=False)},
        {"losses": SelfSupervisedLosses(outlier_mask=OutlierMask())},
        {"losses": SelfSupervisedLosses(mean_over="trained")},
        {"losses": SelfSupervisedLosses(scale_decay=0.25)},
        {"losses": SelfSupervisedLosses(consistency=GeometryConsistency(mask=False))},
        {"losses": SelfSupervisedLosses(consistency=GeometryConsistency(weight=0.0))},
        {"max_depth": 20.0},
        {"min_depth": 1.0},
    ],
)
def test_every_option_of_the_loss_matters(triplet: Views, options: dict[str, Any]) -> None:
    losses = []
    for chosen in ({}, options):
        torch.manual_seed(0)
        task = SelfSupervisedDepth(pretrained=False, **chosen)
        torch.manual_seed(0)
        losses.append(task.reprojection(triplet)[0].item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_sources_that_do_not_fit_the_offsets_are_named(triplet: Views) -> None:
    task = SelfSupervisedDepth(pretrained=False, source_offsets=(-1, 1, 2))
    with pytest.raises(DataError, match=r"2 source frames.*\[-1, 1, 2\].*data.source_offsets"):
        task.reprojection(replace(triplet, T_source_target=None))


class OneBatch(L.LightningDataModule):
    """The same batch for training and validation."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch, self.batch_size = batch, len(batch.names)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader([self.batch], batch_size=None)  # type: ignore[arg-type]

    val_dataloader = train_dataloader

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Views:
        return clean_views(batch)


def quick_trainer(folder: Path, steps: int = 1) -> L.Trainer:
    return L.Trainer(
        max_steps=steps,
        logger=TensorBoardLogger(folder),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )


def test_training_and_validation_log_curves_and_a_picture(batch: Batch, tmp_path: Path) -> None:
    task = SelfSupervisedDepth(pretrained=False, picture_interval=1, optimization=Optimization(learning_rate=1e-5))
    trainer = quick_trainer(tmp_path)
    trainer.fit(task, datamodule=OneBatch(batch))
    assert {"train/photometric", "train/smoothness", "val/photometric", "val/abs_rel"} <= trainer.logged_metrics.keys()
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1e-5

    assert isinstance(trainer.logger, TensorBoardLogger)
    trainer.logger.finalize("success")
    picture = EventAccumulator(trainer.logger.log_dir).Reload().Images("train/reprojection")[0]
    rows = 6  # image, inverse depth, two warped sources, error, mask
    assert (picture.width, picture.height) == (96, rows * 64)


@pytest.mark.parametrize("known_poses", [True, False])
def test_checkpoint_describes_its_depth_network(tmp_path: Path, known_poses: bool) -> None:
    write_street_drive(tmp_path / "street", seed=0, options=DriveOptions(width=96, height=64, frames=4, step=0.8))
    drive = [Source("synthetic")]
    data = DepthData(tmp_path, drive, drive, width=96, height=64, batch_size=2, workers=0, known_poses=known_poses)
    task = SelfSupervisedDepth(pretrained=False, scales=2, max_depth=80.0)
    trainer = quick_trainer(tmp_path)
    trainer.fit(task, datamodule=data)
    assert "val/abs_rel" in trainer.logged_metrics
    trainer.save_checkpoint(tmp_path / "task.ckpt")

    trained = load_depth_network(tmp_path / "task.ckpt")
    assert (trained.card.scales, trained.card.max_depth, trained.card.metric) == (2, 80.0, known_poses)
    assert trained.card.prior == pytest.approx(read_synthetic(tmp_path)[0].intrinsics)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(trained.network(image)[0], task.eval().depth_network(image)[0])


def test_sources_in_another_order_are_refused(tmp_path: Path) -> None:
    write_street_drive(tmp_path / "street", seed=0, options=DriveOptions(width=96, height=64, frames=4, step=0.8))
    drive = [Source("synthetic")]
    data = DepthData(tmp_path, drive, width=96, height=64, batch_size=2, workers=0, source_offsets=[1, -1])
    with pytest.raises(DataError, match=r"data.source_offsets is \[1, -1\], .* is \[-1, 1\]"):
        quick_trainer(tmp_path).fit(SelfSupervisedDepth(pretrained=False), datamodule=data)


def stereo_views(batch: Batch) -> Views:
    """The triplet with one more source, 0.5 m to the right, whose pose alone is known."""
    camera = PinholeCamera(width=96, height=64, fx=60, fy=60, cx=47.5, cy=28)
    T_right_left = torch.from_numpy(translation(-0.5, 0, 0)).float()
    drive = list(street_drive(street_world(seed=3), camera, frames=3, speed=8.0))
    right, _ = render(street_world(seed=3), camera, drive[1].T_world_camera @ translation(0.5, 0, 0))
    partner = torch.from_numpy(right).movedim(-1, 0)[None, None]
    sources = torch.cat([batch.sources, partner], dim=1)
    return clean_views(replace(batch, sources=sources, T_source_target=T_right_left[None, None]))


def test_a_stereo_partner_gives_scale_beside_neighbours_of_unknown_motion(batch: Batch) -> None:
    views = stereo_views(batch)
    task = small_task(seed=5, scales=1)
    poses = task.predictions(views).T_source_target
    assert poses.shape == (1, 3, 4, 4)
    assert views.T_source_target is not None
    torch.testing.assert_close(poses[:, 2], views.T_source_target[:, 0])
    loss, diagnostics = task.reprojection(views)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in task.pose_network.parameters())
    # At true depth, the partner explains the target: the known baseline is used as it is.
    assert batch.depth is not None
    depth = batch.depth.where(batch.depth > 0, 200.0)
    warped, visible = warp(views.sources[:, 2], depth, views.intrinsics, poses[:, 2])
    error = photometric_error(warped, views.image)[visible & (batch.depth > 0)]
    assert error.median() < 0.5 * photometric_error(views.sources[:, 2], views.image).median()
    assert diagnostics.finest.warped.shape[1] == 3


def test_known_speed_gives_learned_motion_its_length(triplet: Views) -> None:
    views = replace(triplet, T_source_target=None, distances=torch.full((1, 2), 0.8))
    torch.manual_seed(5)
    task = SelfSupervisedDepth(
        DepthNetworkOptions("resnet10t"),
        "resnet10t",
        pretrained=False,
        scales=1,
        losses=SelfSupervisedLosses(velocity=0.5),
    )
    with torch.no_grad():
        lengths = task.predictions(views).T_source_target[0, :, :3, 3].norm(dim=-1)
    _, diagnostics = task.reprojection(views)
    assert diagnostics.velocity is not None
    assert float(diagnostics.velocity) == pytest.approx(0.5 * float((lengths - 0.8).abs().mean()), rel=1e-3)
    assert task.reprojection(replace(views, distances=None))[1].velocity is None
    fit(task, views, steps=25)
    with torch.no_grad():
        lengths = task.predictions(views).T_source_target[0, :, :3, 3].norm(dim=-1)
    np.testing.assert_allclose(lengths.numpy(), 0.8, rtol=0.25)


def test_coherent_instances_change_reprojection_and_by_choice_smoothness(triplet: Views) -> None:
    instances = torch.zeros(1, 1, 64, 96, dtype=torch.uint8)
    instances[..., 20:50, 30:60] = 1
    terms = {}
    for name, losses in {
        "none": SelfSupervisedLosses(automask=False),
        "both": SelfSupervisedLosses(automask=False, instances=InstanceCoherence()),
        "reprojection": SelfSupervisedLosses(automask=False, instances=InstanceCoherence(smoothness=False)),
    }.items():
        torch.manual_seed(0)
        task = SelfSupervisedDepth(pretrained=False, losses=losses)
        diagnostics = task.reprojection(replace(triplet, instances=instances))[1]
        terms[name] = (float(diagnostics.photometric), float(diagnostics.smoothness))
        inside = diagnostics.finest.depth[instances > 0]
        assert (inside.unique().numel() == 1) == (name != "none")
    assert terms["both"][0] == terms["reprojection"][0] != terms["none"][0]
    assert terms["reprojection"][1] == terms["none"][1] != terms["both"][1]


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        (SelfSupervisedLosses(instances=InstanceCoherence()), {}, "set data.instances: true"),
        (SelfSupervisedLosses(velocity=0.05), {}, "set data.speed: true"),
        (SelfSupervisedLosses(velocity=0.05), {"speed": True, "known_poses": True}, "none is learned"),
    ],
)
def test_losses_refuse_data_that_lacks_what_they_need(
    tmp_path: Path, losses: SelfSupervisedLosses, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        check_losses(losses, DepthData(tmp_path, **options))
    check_losses(SelfSupervisedLosses(), DepthData(tmp_path, **options))


def test_speed_stereo_and_poses_make_a_model_metric(tmp_path: Path) -> None:
    alone, with_speed = SelfSupervisedLosses(), SelfSupervisedLosses(velocity=0.05)
    assert not is_metric(alone, DepthData(tmp_path, speed=True))
    assert is_metric(with_speed, DepthData(tmp_path, speed=True))
    assert is_metric(alone, DepthData(tmp_path, stereo=True))
    assert is_metric(alone, DepthData(tmp_path, known_poses=True))
