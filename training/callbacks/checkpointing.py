"""When checkpoints are kept: best.ckpt by validation, last.ckpt after each epoch and, if asked for, in between."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from training.errors import RecipeError


@dataclass(frozen=True)
class CheckpointInterval:
    """When last.ckpt is written within an epoch; after an epoch it always is.

    Args:
        steps: optimiser steps between two; 0 for none.
        minutes: minutes between two; 0 for none.

    Raises:
        RecipeError: a negative interval.
    """

    steps: int = 0
    minutes: float = 10.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.minutes < 0:
            raise RecipeError(f"checkpoint.steps {self.steps}, checkpoint.minutes {self.minutes}: expected 0 or more")


class CheckpointBetweenSteps(ModelCheckpoint):
    """ModelCheckpoint that does not save while gradients accumulate, since checkpoints hold none.

    Nor after the last batch of an epoch: validation comes next, and the checkpoint after it knows its outcome.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where an interval is over and the optimiser has just stepped."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class ResumedCurves(Callback):
    """Curves of a resumed run go on at their step; with max_steps, Lightning counts one too many after an epoch."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Loggers count the optimiser's steps."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def checkpoint_callbacks(monitor: str | None, interval: CheckpointInterval = CheckpointInterval()) -> list[Callback]:
    """Keep best.ckpt, where there is a value to choose it by, and last.ckpt.

    These are several callbacks, since ModelCheckpoint's save_last only follows the checkpoints that it finds worth
    keeping, and each has one interval.
    """
    callbacks: list[Callback] = []
    if monitor:
        callbacks.append(ModelCheckpoint(filename="best", monitor=monitor, enable_version_counter=False))
    if interval.steps:
        callbacks.append(_last(every_n_train_steps=interval.steps))
    if interval.minutes:
        callbacks.append(_last(train_time_interval=timedelta(minutes=interval.minutes)))
    return [*callbacks, _last()]


def _last(**interval: Any) -> ModelCheckpoint:
    return CheckpointBetweenSteps(filename="last", enable_version_counter=False, **interval)
