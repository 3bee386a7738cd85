"""`python -m training train`: a recipe becomes a task, its data and a trainer (LightningCLI), and runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from training.checkpoints import initialize_depth_network
from training.command_line import RecipeParser
from training.data.augmentation import Augmentation
from training.data.module import DepthData, Source
from training.tasks.optimization import Optimization
from training.tasks.self_supervised import SelfSupervisedDepth
from training.tasks.supervised import SupervisedDepth

DESCRIPTION = """Train a depth network by a recipe.

  python -m training train --config config/training/monodepth2_resnet18.yaml --data.root kitti_raw/
  python -m training train --config RECIPE --data.root DIR --trainer.max_epochs 5 --data.batch_size 4
  python -m training train --config RECIPE --data.root DIR --weights other_run/checkpoints/best.ckpt
  python -m training train --config RECIPE --data.root DIR --resume runs/NAME/version_0/checkpoints/last.ckpt

Every option can stand in the recipe or on the command line; the command line wins. Curves and pictures: tensorboard --logdir runs"""


class TrainingCLI(LightningCLI):
    """LightningCLI with this project's defaults: where runs go, what is kept, how to resume."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run beside task, data and trainer."""
        parser.add_argument(
            "--resume", type=Path | None, default=None, help="Checkpoint to go on from, with its optimiser."
        )
        parser.add_argument(
            "--weights", type=Path | None, default=None, help="Checkpoint to take the depth network from, to fine-tune."
        )
        parser.add_argument("--name", type=str, default="depth", help="Name of the run: its folder below --runs.")
        parser.add_argument("--runs", type=Path, default=Path("runs"), help="Folder of all runs.")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """A trainer that writes curves for TensorBoard and keeps the best and the last checkpoint."""
        if not self.config.trainer.logger:
            kwargs["logger"] = TensorBoardLogger(self.config.runs, name=self.config.name)
        monitor = "val/abs_rel" if self.config.data.validation else None
        checkpoints = ModelCheckpoint(filename="best" if monitor else "{epoch}", monitor=monitor, save_last=True)
        progress = [RichProgressBar()] if sys.stderr.isatty() else [TQDMProgressBar(refresh_rate=50)]
        self.trainer_defaults["callbacks"] = [checkpoints, LearningRateMonitor(), *progress]
        return super().instantiate_trainer(**kwargs)


def main(arguments: Sequence[str]) -> int:
    """Run a training to its end."""
    torch.set_float32_matmul_precision("high")
    RecipeParser.nested_classes = (SelfSupervisedDepth, SupervisedDepth, Optimization, Source, Augmentation)
    cli = TrainingCLI(
        L.LightningModule,
        DepthData,
        subclass_mode_model=True,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        run=False,
        parser_class=RecipeParser,
        parser_kwargs={"prog": "python -m training train", "description": DESCRIPTION},
        save_config_kwargs={"overwrite": True},
        args=list(arguments),
    )
    if cli.config.weights is not None:
        initialize_depth_network(cli.model.depth_network, cli.config.weights)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.resume, weights_only=True)
    return 0
