"""Learned intrinsics and fog in the task: what they need, change and leave alone, to the checkpoint and back."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from training.data.depth_fog import DepthFog, add_fog
from training.data.module import DepthData
from training.data.sample import Views, clean_views
from training.data.source import Source
from training.errors import RecipeError
from training.networks.depth import DepthNetworkOptions
from training.networks.intrinsics import CameraIntrinsics, IntrinsicsHead, LearnedIntrinsics
from training.pose_checkpoints import load_pose_network
from training.tasks.fog import in_depth_fog
from training.tasks.self_supervised import SelfSupervisedDepth
from training.tasks.supervised import SupervisedDepth

ENCODER = "mobilenetv3_small_050"


def task(intrinsics: LearnedIntrinsics | None = None, **options: object) -> SelfSupervisedDepth:
    torch.manual_seed(0)
    network = DepthNetworkOptions(ENCODER)
    return SelfSupervisedDepth(network, ENCODER, pretrained=False, scales=1, intrinsics=intrinsics, **options)  # type: ignore[arg-type]


def data(streets: Path, **options: object) -> DepthData:
    defaults = {"train": [Source("synthetic")], "width": 96, "height": 64, "batch_size": 2, "workers": 0}
    return DepthData(streets, **{**defaults, **options})  # type: ignore[arg-type]


def fit(module: L.LightningModule, data: DepthData, steps: int = 2) -> L.Trainer:
    trainer = L.Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.fixture(scope="module")
def views(streets: Path) -> Views:
    """Two triplets."""
    torch.manual_seed(0)
    return clean_views(next(iter(data(streets).train_dataloader())))


@pytest.mark.parametrize("per", ["pair", "camera"])
def test_the_true_camera_is_not_used(views: Views, per: str) -> None:
    options = LearnedIntrinsics(per=per, focal=0.7)  # type: ignore[arg-type]
    module = task(options)
    unknown = replace(views, intrinsics=torch.full_like(views.intrinsics, torch.nan))
    for known in (views, unknown):
        torch.manual_seed(1)
        predictions = module.predictions(known)
        torch.testing.assert_close(predictions.intrinsics[:, 0], torch.full((2,), 0.7))
        assert module.loss(known, predictions)[0].isfinite()
    assert torch.equal(task().predictions(views).intrinsics, views.intrinsics)


@pytest.mark.parametrize("per", ["pair", "camera"])
def test_learned_with_the_networks_and_kept_with_them(
    streets: Path, tmp_path: Path, per: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = LearnedIntrinsics(per=per, focal=0.7, square_pixels=True, learning_rate_factor=20)  # type: ignore[arg-type]
    module = task(options)
    with caplog.at_level(logging.INFO):
        trainer = fit(module, data(streets, known_intrinsics=False, min_crop=0.8), steps=3)
    assert any("learned camera" in message or "cannot be told" in message for message in caplog.messages)
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([1e-4, 20e-4] if per == "camera" else [1e-4])
    learned = module.learned_intrinsics
    assert isinstance(learned, IntrinsicsHead if per == "pair" else CameraIntrinsics)
    assert learned.prior[0] != pytest.approx(0.7, abs=1e-6)

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trained = load_pose_network(tmp_path / "last.ckpt")
    assert trained.intrinsics is not None
    assert trained.intrinsics.options == options
    assert trained.intrinsics.edge_shift == learned.edge_shift > 0
    assert trained.prior == pytest.approx(learned.prior)
    for name, value in learned.state_dict().items():
        torch.testing.assert_close(trained.intrinsics.state_dict()[name], value)


def test_frames_of_unknown_cameras_train(streets: Path) -> None:
    """And only where cameras are learned."""
    unknown = data(streets, known_intrinsics=False)
    unknown.train_records = [  # type: ignore[misc]
        [replace(record, intrinsics=None) for record in records] for records in unknown.train_records
    ]
    module = task(LearnedIntrinsics(focal=0.7))
    fit(module, unknown)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    for other in (task(), SupervisedDepth(DepthNetworkOptions(ENCODER), pretrained=False)):
        with pytest.raises(RecipeError, match=r"set model.init_args.intrinsics"):
            fit(other, unknown)


def test_each_source_has_its_camera(streets: Path) -> None:
    two = [Source("synthetic", select=["street_0"]), Source("synthetic", select=["street_1"])]
    options = LearnedIntrinsics(per="camera", focal=0.7)
    with pytest.raises(RecipeError, match=r"intrinsics.cameras is 1, and data.train has 2 entries"):
        fit(task(options), data(streets, train=two))
    module = task(replace(options, cameras=2))
    fit(module, data(streets, train=two, batch_size=4), steps=4)
    assert isinstance(module.learned_intrinsics, CameraIntrinsics)
    first, second = module.learned_intrinsics.focal.tolist()
    assert first != second


def test_a_head_without_crops_is_warned_of(streets: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(task(LearnedIntrinsics()), data(streets))
    assert any("learns by heart" in message for message in caplog.messages)
    caplog.clear()
    fit(task(LearnedIntrinsics(per="camera")), data(streets))
    assert not any("learns by heart" in message for message in caplog.messages)


def test_known_poses_teach_a_camera(streets: Path) -> None:
    """What makes motions of a bottleneck has no part in it; the bottleneck has."""
    module = task(LearnedIntrinsics(focal=0.7))
    fit(module, data(streets, known_poses=True))
    trained = {name for name, parameter in module.pose_network.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("encoder.") for name in trained)
    assert not any(name.startswith("decoder.6") for name in trained)


def test_fog_by_depth_is_for_the_networks(views: Views) -> None:
    fog = DepthFog(probability=1.0, thickness=(0.5, 0.5), airlight=(1.0, 1.0))

    def inverse_depth(images: Tensor) -> Tensor:
        """1 m on the left half, 3 m on the right: the median is 1 m, as the left half is larger by a column."""
        depth = torch.where(torch.arange(images.shape[-1]) <= images.shape[-1] // 2, 1.0, 3.0)
        return (1 / depth).expand(len(images), 1, *images.shape[-2:])

    foggy = in_depth_fog(views, fog, inverse_depth)
    assert torch.equal(foggy.image, views.image)
    assert torch.equal(foggy.sources, views.sources)
    for seen, clear in ((foggy.network_image, views.image), (foggy.network_sources, views.sources)):
        for column, arrives in ((0, torch.tensor(-0.5).exp()), (-1, torch.tensor(-1.5).exp())):
            torch.testing.assert_close(seen[..., column], clear[..., column] * arrives + 1 - arrives)
    assert in_depth_fog(views, DepthFog(probability=0.0), inverse_depth) is views


def test_fog_of_a_task_leaves_its_batch_norms_alone(views: Views) -> None:
    module = task(depth_fog=DepthFog(probability=1.0))
    module.train()
    before = {name: value.clone() for name, value in module.depth_network.named_buffers()}
    foggy = in_depth_fog(views, DepthFog(probability=1.0), module._depth_as_it_is)
    assert not torch.equal(foggy.network_image, views.network_image)
    assert module.depth_network.training
    for name, value in module.depth_network.named_buffers():
        assert torch.equal(before[name], value)


def test_a_task_trains_in_fog(streets: Path) -> None:
    """The steps are others than those of a clear day."""
    weights = []
    for fog in (None, DepthFog(probability=1.0)):
        module = task(depth_fog=fog)
        fit(module, data(streets))
        weights.append(torch.cat([parameter.flatten() for parameter in module.parameters()]))
    assert not torch.equal(*weights)


@pytest.mark.parametrize(
    "options", [{"probability": 2.0}, {"thickness": (2.0, 1.0)}, {"airlight": (0.5, 1.5)}, {"thickness": (-1.0, 1.0)}]
)
def test_fog_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"depth_fog"):
        DepthFog(**options)  # type: ignore[arg-type]


def test_koschmieder() -> None:
    image, depth = torch.full((3, 1, 2), 0.2), torch.tensor([[[10.0, 40.0]]])
    foggy = add_fog(image, depth, torch.tensor(0.05), torch.tensor(0.9))
    expected = torch.tensor([0.2, 0.2]) * torch.tensor([-0.5, -2.0]).exp() + 0.9 * (
        1 - torch.tensor([-0.5, -2.0]).exp()
    )
    torch.testing.assert_close(foggy[0, 0], expected)
