"""`train`, end to end on two tiny streets: recipes, checkpoints, resuming, fine-tuning, and what it says."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training import cli, train
from training.checkpoints import load_depth_network, read_checkpoint
from training.data.module import DepthData
from training.data.source import Source

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture
def recipe(tmp_path: Path, streets: Path) -> Path:
    """One batch of all eight frames an epoch, nothing random in it."""
    content = {
        "name": "tiny",
        "runs": str(tmp_path / "runs"),
        "model": {
            "class_path": "SupervisedDepth",
            "init_args": {
                "network": {"encoder": "mobilenetv3_small_050"},
                "pretrained": False,
                "optimization": {"optimizer": "adam", "learning_rate": 1.0e-3, "schedule": "step"},
            },
        },
        "data": {
            "root": str(streets),
            "train": [{"kind": "synthetic"}],
            "validation": [{"kind": "synthetic", "select": ["street_1"]}],
            "width": 96,
            "height": 64,
            "batch_size": 8,
            "workers": 0,
            "depth": True,
            "source_offsets": [],
            "augmentation": {"flip": 0.0, "jitter": 0.0},
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_model_summary": False, "log_every_n_steps": 1},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(recipe: Path, *options: str) -> int:
    return cli.main(["train", "--config", str(recipe), *options])


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(path)["state_dict"]
    return state


def test_trains_and_goes_on_where_it_stopped(recipe: Path, tmp_path: Path) -> None:
    """Two epochs in one run, and in two runs with a checkpoint between them, end with the same weights."""
    assert run(recipe) == 0
    whole = tmp_path / "runs" / "tiny" / "version_0"
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    trained = load_depth_network(whole / "checkpoints" / "last.ckpt")
    assert trained.steps == 2
    assert (trained.card.encoder, trained.card.width, trained.card.height) == ("mobilenetv3_small_050", 96, 64)
    assert trained.card.metric
    assert yaml.safe_load((whole / "config.yaml").read_text())["data"]["batch_size"] == 8
    curves = EventAccumulator(str(whole)).Reload()
    assert {"train/loss", "val/abs_rel", "lr-Adam"} <= set(curves.Tags()["scalars"])
    assert [event.step for event in curves.Scalars("train/loss")] == [0, 1]
    errors = [event.value for event in curves.Scalars("val/abs_rel")]
    assert load_depth_network(whole / "checkpoints" / "best.ckpt").steps == 1 + errors.index(min(errors))

    assert run(recipe, "--trainer.max_epochs", "1") == 0
    half = tmp_path / "runs" / "tiny" / "version_1" / "checkpoints" / "last.ckpt"
    start = weights(half)
    assert load_depth_network(half).steps == 1
    assert run(recipe, "--resume", str(half), "--seed_everything", "5") == 0  # other random weights, to be replaced
    assert load_depth_network(half).steps == 2
    assert len(list((tmp_path / "runs" / "tiny").iterdir())) == 2  # it went on in its folder
    first, second = weights(whole / "checkpoints" / "last.ckpt"), weights(half)
    learned = [name for name, value in first.items() if value.is_floating_point() and value.ndim == 4]
    change = sum((first[name] - start[name]).norm() for name in learned)
    difference = sum((first[name] - second[name]).norm() for name in learned)
    assert change > 0.1
    assert difference < 0.01 * change


def test_fine_tuning_starts_from_the_weights_given(
    recipe: Path, tmp_path: Path, tiny_depth: Any, write_checkpoint: Callable[..., Path]
) -> None:
    """With a learning rate of nothing they are the result, too; without logger, pictures or validation."""
    given = write_checkpoint(tmp_path / "given.ckpt", tiny_depth)
    options = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--data.validation", "[]"]
    rate = ["--model.init_args.optimization.learning_rate", "0"]
    assert run(recipe, "--weights", str(given), "--trainer.max_epochs", "1", *options, *rate) == 0
    (result,) = (tmp_path / "runs" / "tiny" / "checkpoints").iterdir()
    assert result.name == "last.ckpt"
    before, after = weights(given), weights(result)
    learned = [name for name, value in before.items() if value.ndim == 4]
    assert all(torch.equal(before[name], after[name]) for name in learned)


def test_a_wrong_checkpoint_is_refused_before_anything_is_read(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "absent.ckpt")
    assert run(recipe, "--data.root", "/nowhere", "--resume", absent) == 2
    assert f"train: no checkpoint at {absent}" in capsys.readouterr().err
    assert run(recipe, "--resume", absent, "--weights", absent) == 2
    assert "both resume and weights are given" in capsys.readouterr().err


def test_data_that_are_not_there(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(recipe, "--data.root", "/nowhere") == 2
    assert "train: /nowhere has no synthetic drives" in capsys.readouterr().err


def test_a_damaged_frame_of_few_ends_the_run(
    recipe: Path, tmp_path: Path, streets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(streets, tmp_path / "streets")
    damaged = sorted((root / "street_0" / "image").iterdir())[1]
    damaged.write_bytes(b"no image")
    assert run(recipe, "--data.root", str(root)) == 2
    error = capsys.readouterr().err
    assert "train: 1 of 8 frames cannot be read, more than 1%: fetch or export them again" in error
    assert f"\n  {damaged} cannot be decoded" in error


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--data.batch_sise", "3"], "'data.batch_size' instead of 'data.batch_sise'"),
        (["--batch_size", "3"], "'data.batch_size' instead of 'batch_size'"),
        (["--nam", "x"], "'name' instead of 'nam'"),
        (["--model.init_args.network.encodr", "resnet18"], "'network.encoder' instead of 'network.encodr'"),
        (
            ["--model.init_args.optimization.learning_rat", "1"],
            "'optimization.learning_rate' instead of 'optimization.learning_rat'",
        ),
        (["--data.train", "[{kind: synthetic, pth: a}]"], "'path' instead of 'pth'"),
    ],
)
def test_unknown_option_names_the_nearest(
    recipe: Path, arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(recipe, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("Did you mean") == 1
    assert f"Did you mean {hint}?" in error
    assert len(error.splitlines()) < 25  # no list of all options


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        (("naem",), "'name' instead of 'naem'"),
        (("trainer", "max_epoch"), "'trainer.max_epochs' instead of 'trainer.max_epoch'"),
        (("data", "augmentation", "flp"), "'data.augmentation.flip' instead of 'data.augmentation.flp'"),
        (("model", "init_args", "min_dpth"), "'min_depth' instead of 'min_dpth'"),
        (
            ("model", "init_args", "optimization", "shedule"),
            "'optimization.schedule' instead of 'optimization.shedule'",
        ),
        (("data", "train", 0, "prxy"), "'proxy' instead of 'prxy'"),
    ],
)
def test_unknown_key_of_a_recipe_names_the_nearest(
    recipe: Path, path: tuple[Any, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(recipe.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = 1
    recipe.write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit) as stop:
        run(recipe)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("Did you mean") == 1
    assert f"Did you mean {hint}?" in error


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("network.encoder", "resnet81", "there is no encoder 'resnet81': did you mean 'resnet18'?"),
        ("network.decoder", "dpt", "decoder dpt needs a vision transformer such as vit_small_patch14_dinov2, not mob"),
    ],
)
def test_networks_that_cannot_be(
    recipe: Path, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recipe, f"--model.init_args.{option}", value) == 2
    assert f"train: {message}" in capsys.readouterr().err


def test_a_size_that_the_network_cannot_take(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(recipe, "--data.width", "100") == 2
    error = capsys.readouterr().err
    assert "train: input size is 100x64; mobilenetv3_small_050 with unet needs multiples of 32" in error


def test_the_best_checkpoint_is_chosen_by_what_validation_can_measure(streets: Path) -> None:
    (streets / "camera.yaml").write_text(
        "{image_width: 96, image_height: 64, camera_matrix: {data: [60, 0, 47.5, 0, 60, 31.5, 0, 0, 1]}}"
    )
    video = Source("folder", Path("street_0/image"), camera_file=Path("camera.yaml"))
    measured = Source("synthetic")
    for validation, monitor in (
        ([], None),
        ([measured, video], "val/abs_rel"),
        ([video, measured], "val/photometric"),
    ):
        data = DepthData(streets, [measured], validation)
        assert train.monitored_value(data) == monitor


def test_lightning_says_things_once_and_does_not_advertise(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(spoken)])
    lightning = logging.getLogger("lightning")
    monkeypatch.setattr(lightning, "handlers", [logging.StreamHandler(spoken)])
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
    rank_zero_info("twice")
    train._say_things_once()
    rank_zero_info("once")
    rank_zero_info("💡 Tip: buy something")
    assert spoken.getvalue().splitlines() == ["twice", "twice", "once"]
