"""Motion and intrinsics learned from known ones, from the recipe to the model file that the node runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
import torch

from depth_node.backends import create_motion_backend
from depth_node.model import read_motion_model
from training import cli, train
from training.checkpoints import load_depth_network
from training.data.image_files import read_rgb
from training.data.module import DepthData
from training.data.sample import Views, clean_views
from training.data.source import Source
from training.data.synthetic import DriveOptions, write_street_drive
from training.errors import CheckpointError, DataError, RecipeError
from training.networks.intrinsics import LearnedIntrinsics
from training.pose_checkpoints import load_pose_network
from training.tasks.motion import SupervisedMotion

ENCODER = "mobilenetv3_small_050"
RECIPE = Path(__file__).parents[3] / "config" / "training" / "motion.yaml"

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras, of different shapes and focal lengths, that look around."""
    root = tmp_path_factory.mktemp("walks")
    write_street_drive(root / "wide", 1, DriveOptions(96, 64, 3, 0.1, (0.5, 0.5), handheld=True))
    write_street_drive(root / "long", 2, DriveOptions(64, 64, 3, 0.1, (1.0, 1.0), handheld=True))
    return root


def data(root: Path, **options: object) -> DepthData:
    defaults = {
        "train": [Source("synthetic")],
        "validation": [Source("synthetic")],
        "validate": "motion",
        "width": 96,
        "height": 64,
        "batch_size": 4,
        "workers": 0,
        "known_poses": True,
        "source_offsets": [1],
    }
    return DepthData(root, **{**defaults, **options})  # type: ignore[arg-type]


def task(**options: object) -> SupervisedMotion:
    torch.manual_seed(0)
    return SupervisedMotion(ENCODER, pretrained=False, **options)  # type: ignore[arg-type]


def setup(module: SupervisedMotion, data: DepthData) -> None:
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.datamodule = data  # type: ignore[attr-defined]
    module.trainer = trainer
    module.setup("fit")


def test_both_cameras_and_all_motions_of_a_batch_are_learned(walks: Path) -> None:
    """Their fx/W and fy/H as the images alone tell them: one is 1.5 times as wide as high, the other square."""
    views = clean_views(next(iter(data(walks).train_dataloader())))
    assert sorted(round(float(f), 3) for f in views.intrinsics[:, 0]) == [0.5, 0.5, 1.0, 1.0]
    assert sorted(round(float(f), 3) for f in views.intrinsics[:, 1]) == [0.75, 0.75, 1.0, 1.0]
    module = task().train()
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        _, _, terms = module._compare(views)
        loss = torch.stack([*terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    _, intrinsics, terms = module._compare(views)
    torch.testing.assert_close(intrinsics[:, :2], views.intrinsics[:, :2], rtol=0.15, atol=0)
    assert sum(float(term) for term in terms.values()) < 0.35 * losses[0]


def test_an_earlier_source_is_the_same_motion_backwards(walks: Path) -> None:
    """From frame 1, the network says of frames (0, 1) and (1, 2) what it says of them from 0 and from 1."""
    both = task(source_offsets=(-1, 1)).eval()
    later = task().eval()
    views = clean_views(next(iter(data(walks, source_offsets=[-1, 1], batch_size=1).train_dataloader())))
    with torch.no_grad():
        T, _ = both(views)
        reversed_views: Views = replace(
            views, network_image=views.network_sources[:, 0], network_sources=views.network_image[:, None]
        )
        T_target_before, _ = later(reversed_views)
    torch.testing.assert_close(T[0, 0] @ T_target_before[0, 0], torch.eye(4), atol=1e-5, rtol=0)
    assert views.T_source_target is not None
    before, after = views.T_source_target[0]
    assert not torch.allclose(before, after, atol=1e-3)


def test_what_it_needs_of_the_data(walks: Path, caplog: pytest.LogCaptureFixture) -> None:
    setup(task(), data(walks, min_crop=0.5))
    assert "min_crop" not in caplog.text
    setup(task(), data(walks))
    assert "data.min_crop is 1" in caplog.text
    for options in ({"known_poses": False}, {"validate": "depth"}, {"stereo": True}, {"known_intrinsics": False}):
        with pytest.raises(RecipeError, match="needs known motion and cameras"):
            setup(task(), data(walks, **options))
    with pytest.raises(DataError, match=r"data.source_offsets is \[1\]"):
        setup(task(source_offsets=(-1, 1)), data(walks))
    with pytest.raises(RecipeError, match="per is camera"):
        task(intrinsics=LearnedIntrinsics(per="camera"))
    with pytest.raises(RecipeError, match="no depth network here"):
        SupervisedMotion("shared")


def test_validation_frames_bring_motion_though_they_have_depth(walks: Path) -> None:
    (loader,) = data(walks).val_dataloader()
    batch = next(iter(loader))
    assert batch.depth is None
    assert batch.T_source_target is not None
    assert batch.T_source_target.shape == (4, 1, 4, 4)
    assert train.monitored_value(data(walks)) == "val/motion"


def test_from_the_recipe_to_the_model_file(walks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        "runs": tmp_path / "runs",
        "data.root": walks,
        "data.train": "[{kind: synthetic}]",
        "data.validation": "[{kind: synthetic}]",
        "data.batch_size": 2,
        "trainer.max_steps": 2,
        "trainer.check_val_every_n_epoch": 1,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    assert cli.main(["train", "--config", str(RECIPE), *arguments]) == 0
    checkpoint = next((tmp_path / "runs").rglob("last.ckpt"))
    trained = load_pose_network(checkpoint)
    assert (trained.width, trained.height, trained.steps, trained.metric) == (192, 64, 2, True)
    with pytest.raises(CheckpointError, match="has no depth network"):
        load_depth_network(checkpoint)

    capsys.readouterr()
    output = tmp_path / "motion.onnx"
    assert cli.main(["export", "--checkpoint", str(checkpoint), "--output", str(output), "--kind", "motion"]) == 0
    assert "motion, 192x64" in capsys.readouterr().out
    a, b = (cv2.resize(read_rgb(walks / "wide" / "image" / f"{i:010d}.jpg"), (192, 64)) for i in (0, 1))
    got = create_motion_backend(read_motion_model(output), "onnxruntime", "fp32").infer(a[None], b[None])
    images = [torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in (a, b)]
    with torch.no_grad():
        bottleneck = trained.network.bottleneck(*images)
        axis_angle, translation = trained.network.motion(bottleneck)
    np.testing.assert_allclose(got.axis_angle, axis_angle[0], atol=2e-3 * float(axis_angle.abs().max()))
    np.testing.assert_allclose(got.translation, translation[0], atol=2e-3 * float(translation.abs().max()))

    further = [*arguments, "--weights", str(checkpoint), "--trainer.max_steps", "1"]
    assert cli.main(["train", "--config", str(RECIPE), *further]) == 0


def test_weights_of_another_network(walks: Path, tmp_path: Path) -> None:
    module = task()
    trainer = L.Trainer(
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(module, datamodule=data(walks, validation=[]))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = task()
    train._initialize(again, tmp_path / "last.ckpt")
    for name, value in module.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    with pytest.raises(CheckpointError, match="another shape"):
        train._initialize(SupervisedMotion("regnetx_002", pretrained=False), tmp_path / "last.ckpt")
