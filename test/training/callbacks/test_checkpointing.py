"""When last.ckpt is written, and that the best is kept beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from training.callbacks.checkpointing import CheckpointInterval, checkpoint_callbacks
from training.checkpoint_files import AtomicCheckpointIO
from training.errors import RecipeError

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]

Steps = list[int]


class Rising(L.LightningModule):
    """Its error is the number of steps, so that the first checkpoint stays the best."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("error", float(self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Steps]:
    """Two epochs of four batches; returns the steps after which last.ckpt was written."""

    def run(interval: CheckpointInterval, **options: Any) -> Steps:
        written: list[tuple[str, int]] = []
        save = AtomicCheckpointIO.save_checkpoint

        def note(files: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str, storage_options: Any = None) -> None:
            written.append((Path(path).name, checkpoint["global_step"]))
            save(files, checkpoint, path, storage_options)

        monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", note)
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            callbacks=checkpoint_callbacks("error", interval),
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **options,
        )
        frames = DataLoader([torch.ones(1)] * 4)
        trainer.fit(Rising(), frames, frames)
        assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
        assert len([name for name, _ in written if name == "best.ckpt"]) == 1
        return [step for name, step in written if name == "last.ckpt"]

    return run


def test_without_an_interval_after_each_epoch(saves: Callable[..., Steps]) -> None:
    assert saves(CheckpointInterval(minutes=0)) == [4, 8]


def test_every_so_many_steps(saves: Callable[..., Steps]) -> None:
    assert saves(CheckpointInterval(steps=3, minutes=0)) == [3, 4, 6, 8]


def test_every_so_many_minutes(saves: Callable[..., Steps]) -> None:
    """An interval that is over at every step; the last one of an epoch waits for validation."""
    assert saves(CheckpointInterval(minutes=1e-9)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_never_while_gradients_accumulate(saves: Callable[..., Steps]) -> None:
    """Steps are over after two batches of four; after the first and the third, gradients would get lost."""
    assert saves(CheckpointInterval(minutes=1e-9), accumulate_grad_batches=2) == [1, 2, 3, 4]


@pytest.mark.parametrize("interval", [{"steps": -1}, {"minutes": -0.5}])
def test_negative_intervals(interval: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="expected 0 or more"):
        CheckpointInterval(**interval)


def test_the_last_checkpoint_is_kept_when_it_is_not_the_best(tmp_path: Path) -> None:
    """ModelCheckpoint's own save_last leaves a stale file when the error rises."""
    frames = DataLoader([torch.ones(1)] * 4)
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        callbacks=checkpoint_callbacks("error"),
        enable_progress_bar=False,
        enable_model_summary=False,
        val_check_interval=0.5,
        num_sanity_val_steps=0,
    )
    trainer.fit(Rising(), frames, frames)
    files = (tmp_path / "checkpoints").iterdir()
    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in files}
    assert steps == {"best.ckpt": 2, "last.ckpt": 12}
