"""`python -m training train`: a recipe becomes a task, its data and a trainer (LightningCLI), and runs."""

from __future__ import annotations

import logging
import sys
import warnings
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    RichProgressBar,
    TQDMProgressBar,
)
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from depth_node.errors import DepthNodeError
from training.callbacks.checkpointing import CheckpointInterval, ResumedCurves, checkpoint_callbacks
from training.callbacks.non_finite import NonFiniteSteps
from training.callbacks.summary import StepSummary
from training.checkpoint_files import AtomicCheckpointIO
from training.checkpoints import initialize_depth_network, read_checkpoint
from training.command_line import Parser
from training.data.module import DepthData, has_depth
from training.errors import CheckpointError
from training.failures import explained_failures
from training.pose_checkpoints import initialize_pose_network
from training.synchronized_batch_norm import SynchronizedBatchNorm
from training.tasks.motion import SupervisedMotion
from training.tasks.self_supervised import SelfSupervisedDepth
from training.tasks.supervised import SupervisedDepth

TASKS = (SelfSupervisedDepth, SupervisedDepth, SupervisedMotion)

PROG = "python -m training train"
DESCRIPTION = f"""Train a network by a recipe.

  {PROG} --config config/training/monodepth2_resnet18.yaml --data.root kitti_raw/
  {PROG} --config RECIPE --trainer.max_epochs 5 --data.batch_size 4
  {PROG} --config RECIPE --weights other_run/checkpoints/best.ckpt
  {PROG} --config RECIPE --resume runs/NAME/version_0/checkpoints/last.ckpt
  {PROG} --model.help {TASKS[0].__name__}
  {PROG} --config RECIPE --print_config

Tasks: {", ".join(task.__name__ for task in TASKS)}.
Every option can stand in the recipe, or after --config on the command line, where it wins.
Curves and pictures: tensorboard --logdir runs"""


class RecipeHelp(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help that keeps the lines of the description."""


class RecipeParser(Parser, LightningArgumentParser):
    """LightningCLI's parser, with whole keys only and hints at the nearest one."""


class TrainingCLI(LightningCLI):
    """LightningCLI with this project's defaults: where runs go, what is kept, how to resume."""

    datamodule: DepthData
    resumed_step: int | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run beside task, data and trainer."""
        parser.add_argument(
            "--resume", type=Path | None, default=None, help="Checkpoint to go on from, with its optimiser."
        )
        parser.add_argument(
            "--weights",
            type=Path | None,
            default=None,
            help="Checkpoint to take the network from, to fine-tune: depth, or motion.",
        )
        parser.add_argument("--name", type=str, default="depth", help="Name of the run: its folder below --runs.")
        parser.add_argument("--runs", type=Path, default=Path("runs"), help="Folder of all runs.")
        parser.add_class_arguments(CheckpointInterval, "checkpoint")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what `main` was given; LightningCLI warns when there is a command line as well, as there always is."""
        self.config = parser.parse_args(cast(list[str], args))

    def before_instantiate_classes(self) -> None:
        """Refuse a wrong checkpoint before frames are searched for."""
        if self.config.resume is None:
            return
        if self.config.weights is not None:
            raise CheckpointError("both resume and weights are given: a resumed run has its weights; leave one out")
        self.resumed_step = read_checkpoint(self.config.resume)["global_step"]

    def instantiate_classes(self) -> None:
        """Make task, data and trainer, with our own errors as they are: jsonargparse has them in one about types."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, DepthNodeError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """A trainer that writes curves for TensorBoard and keeps the best and the last checkpoint."""
        options = self.config.trainer
        if options.logger in (None, True):
            kwargs["logger"] = self._curves()
        if options.default_root_dir is None:
            kwargs["default_root_dir"] = self.config.runs / self.config.name
        kwargs["use_distributed_sampler"] = False  # DepthData shares frames out among the processes itself
        kwargs["plugins"] = [*as_list(self.config_init.trainer.plugins), AtomicCheckpointIO()]
        if options.sync_batchnorm:
            kwargs["plugins"].append(SynchronizedBatchNorm())
        callbacks: list[Callback] = [StepSummary(), NonFiniteSteps(), ResumedCurves()]
        if options.logger is not False:
            callbacks.append(LearningRateMonitor())
        if not self.datamodule.validation_sources:
            kwargs["limit_val_batches"] = 0
        if options.enable_checkpointing is not False:
            callbacks += checkpoint_callbacks(monitored_value(self.datamodule), self.config_init.checkpoint)
        if options.enable_progress_bar is not False:
            callbacks.append(RichProgressBar() if sys.stderr.isatty() else TQDMProgressBar(refresh_rate=50))
        self.trainer_defaults["callbacks"] = callbacks
        return super().instantiate_trainer(**kwargs)

    def _curves(self) -> TensorBoardLogger:
        """In a new folder of the run; in that of the checkpoint where a run of this name goes on.

        What was logged after the checkpoint is hidden there: these steps come again.
        """
        folder = self.config.runs.resolve()
        if self.config.resume is not None:
            checkpoints = self.config.resume.resolve().parent
            version = checkpoints.parent
            if (version.parent, checkpoints.name) == (folder / self.config.name, "checkpoints"):
                return TensorBoardLogger(folder, self.config.name, version.name, purge_step=self.resumed_step)
        return TensorBoardLogger(folder, name=self.config.name)


def as_list(plugins: Any) -> list[Any]:
    """What Trainer takes as its plugins (none, one or a list), as a list."""
    return [] if plugins is None else list(plugins) if isinstance(plugins, list) else [plugins]


def monitored_value(data: DepthData) -> str | None:
    """What the best checkpoint is chosen by: an error on the first validation source; None without validation."""
    if not data.validation_records:
        return None
    if data.validate == "motion":
        return "val/motion"
    return "val/abs_rel" if has_depth(data.validation_records[0]) else "val/photometric"


def main(arguments: Sequence[str]) -> int:
    """Run a training to its end."""
    torch.set_float32_matmul_precision("high")
    _say_things_once()
    cli = TrainingCLI(
        L.LightningModule,
        DepthData,
        subclass_mode_model=True,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        run=False,
        parser_class=RecipeParser,
        parser_kwargs={
            "prog": PROG,
            "usage": f"{PROG} [--config RECIPE.yaml] [options]",
            "description": DESCRIPTION,
            "formatter_class": RecipeHelp,
        },
        save_config_kwargs={"overwrite": True},
        args=list(arguments),
    )
    if cli.config.weights is not None:
        _initialize(cli.model, cli.config.weights)
    with explained_failures():
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.resume, weights_only=True)
    return 0


def _initialize(task: L.LightningModule, weights: Path) -> None:
    if isinstance(task, SupervisedMotion):
        initialize_pose_network(task.pose_network, task.learned_intrinsics, weights)
    else:
        initialize_depth_network(task.depth_network, weights)  # type: ignore[arg-type]


def _say_things_once() -> None:
    """Leave Lightning's messages to the root logger, without those that no user can do anything about."""
    logging.getLogger("lightning").handlers.clear()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    for message in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        "The dirpath has changed from",  # a run that goes on elsewhere has a best of its own
        "Checkpoint directory .* exists and is not empty",  # it goes on there
        "You're resuming from a checkpoint that ended before the epoch",  # DepthData can
    ):
        warnings.filterwarnings("ignore", message)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: " not in record.getMessage()
