"""The loops that training_comparison.py measures: the package's own in several variants, and the naive one."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from naive_training import NaiveLoop

from training.callbacks.non_finite import NonFiniteSteps
from training.data.dataset import FrameDataset
from training.data.module import DepthData
from training.data.sample import Batch, Views
from training.data.source import Source
from training.networks.depth import DepthNetworkOptions
from training.tasks.predictions import Predictions
from training.tasks.self_supervised import SelfSupervisedDepth

STAGES = ("data", "transfer", "augmentation", "forward", "loss", "backward", "optimizer", "other")
NAIVE = "naive"


@dataclass(frozen=True)
class Variant:
    """How the package's loop runs."""

    name: str

    def __post_init__(self) -> None:
        unknown = set(self.words) - {"bf16", "float32", "nchw", "compile", "ram", "device"}
        if unknown:
            raise argparse.ArgumentTypeError(f"{self.name}: {', '.join(sorted(unknown))} is no part of a variant")

    @property
    def words(self) -> list[str]:
        """The parts of its name."""
        return self.name.split(",")

    @property
    def cache(self) -> str:
        """data.cache."""
        return next((word for word in self.words if word in ("ram", "device")), "none")

    @property
    def precision(self) -> Any:
        """trainer.precision."""
        return "bf16-mixed" if "bf16" in self.words else "32-true"


class Clock:
    """Seconds of each stage, and of `steps` whole steps after `warmup`.

    With `exact`, each stage waits for the device; without, only the first and the last step do. With `busy`, seconds
    are those that this process spent on processors.
    """

    def __init__(self, device: torch.device, warmup: int, steps: int, exact: bool, busy: bool = False) -> None:
        self.device, self.warmup, self.steps, self.exact = device, warmup, steps, exact
        self.now = process_time if busy else perf_counter
        self.stages = dict.fromkeys(STAGES, 0.0)
        self.done, self.started, self.ended = 0, 0.0, 0.0
        self._last = self.now()

    def mark(self, stage: str) -> None:
        """What was done since the last mark was this stage."""
        if self.exact:
            self._wait()
        now = self.now()
        if self.done >= self.warmup:
            self.stages[stage] += now - self._last
        self._last = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage from here to the end of the context; what came before it is `other`."""
        self.mark("other")
        yield
        self.mark(name)

    def step_done(self) -> None:
        """A step is over."""
        self.mark("other")
        self.done += 1
        if self.done == self.warmup:
            self._wait()
            self.started = self._last = self.now()
        if self.done == self.warmup + self.steps:
            self._wait()
            self.ended = self.now()

    @property
    def seconds(self) -> float:
        """Of the steps after the warm-up."""
        return self.ended - self.started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class TimedData(DepthData):
    """The package's data, with marks where its stages end."""

    clock: Clock

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The batch is there."""
        self.clock.mark("data")
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Views:
        """The batch is on the device."""
        with self.clock.stage("augmentation"):
            return super().on_after_batch_transfer(batch, dataloader_idx)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """To the device."""
        with self.clock.stage("transfer"):
            moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
            return moved


class TimedTask(SelfSupervisedDepth):
    """The package's task, with marks where its stages end."""

    clock: Clock
    views: Views
    idle = False  # learn nothing: for the speed of the data alone

    def training_step(self, views: Views, batch_idx: int) -> torch.Tensor | None:  # type: ignore[override]
        """A step, or none."""
        self.views = views
        return None if self.idle else super().training_step(views, batch_idx)

    def predictions(self, views: Views) -> Predictions:
        """The networks."""
        with self.clock.stage("forward"):
            return super().predictions(views)

    def loss(self, *predictions: Any) -> Any:
        """The loss."""
        with self.clock.stage("loss"):
            return super().loss(*predictions)

    def on_before_backward(self, loss: torch.Tensor) -> None:
        """Logging is over."""
        self.clock.mark("other")

    def on_after_backward(self) -> None:
        """There are gradients."""
        self.clock.mark("backward")


class StepTimes(Callback):
    """Ends of steps, and of the run."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """The optimiser is done."""
        clock: Clock = pl_module.clock
        clock.mark("optimizer")
        clock.step_done()
        trainer.should_stop = clock.done == clock.warmup + clock.steps  # a run of data alone makes no optimiser steps


def data_options(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Arguments of DepthData that all candidates share."""
    camera = {"camera_file": Path("camera.yaml"), "path": Path("frames")} if options.root is None else {}
    return {
        "root": root,
        "train": [Source(options.kind, **camera)],
        "width": options.size[0],
        "height": options.size[1],
        "batch_size": options.batch,
    }


class OurLoop:
    """The package's loop in one variant."""

    def __init__(self, variant: Variant, options: argparse.Namespace, root: Path, device: torch.device) -> None:
        self.device, self.variant, self.batch_size = device, variant, options.batch
        self.data = TimedData(**data_options(options, root), workers=options.workers, cache=variant.cache)
        self.task = TimedTask(
            network=DepthNetworkOptions(options.encoder),
            pose_encoder=options.encoder,
            pretrained=False,
            channels_last="nchw" not in variant.words,
            compile="compile" in variant.words,
        )

    def run(self, clock: Clock, idle: bool = False) -> None:
        """Steps as `train` makes them."""
        self.data.clock = self.task.clock = clock
        self.task.idle, self.task.automatic_optimization = idle, not idle
        trainer = L.Trainer(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            devices=1,
            precision=self.variant.precision,
            max_steps=clock.warmup + clock.steps,
            max_epochs=-1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            benchmark=self.device.type == "cuda",
            use_distributed_sampler=False,
            callbacks=[NonFiniteSteps(Path(tempfile.gettempdir())), StepTimes()],
        )
        trainer.fit(self.task, datamodule=self.data)
        self.data.trainer = None  # or its workers would live, and read on, into the next candidate's turn

    def run_network(self, clock: Clock) -> None:
        """Steps on one batch that stays on the device: all that does not depend on data."""
        task, views = self.task, self.task.views
        task.clock = Clock(self.device, 0, 0, exact=False)
        optimizer = torch.optim.Adam(task.to(self.device).parameters(), 1e-4)
        enabled = self.variant.precision == "bf16-mixed"
        for _ in range(clock.warmup + clock.steps):
            with torch.autocast(self.device.type, torch.bfloat16, enabled):
                loss = task.reprojection(views)[0]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.step_done()


class TheirLoop:
    """The naive loop."""

    def __init__(self, options: argparse.Namespace, root: Path, device: torch.device) -> None:
        data = DepthData(**data_options(options, root))
        frames = FrameDataset(data.train_records[0], data.width, data.height, data.source_offsets)
        self.loop = NaiveLoop(frames, options.encoder, options.batch, options.workers, device)

    def run(self, clock: Clock, idle: bool = False) -> None:
        """Steps, or data alone."""
        for batch in islice(self._timed(self.loop.batches(), clock), clock.warmup + clock.steps):
            with clock.stage("transfer"):
                moved = self.loop.to_device(batch)
            if not idle:
                self.loop.step(moved, clock.stage)
            clock.step_done()

    def run_network(self, clock: Clock) -> None:
        """Steps on one batch that stays on the device."""
        batch = self.loop.to_device(next(self.loop.batches()))
        for _ in range(clock.warmup + clock.steps):
            self.loop.step(batch, Clock(self.loop.device, 0, 0, exact=False).stage)
            clock.step_done()

    @staticmethod
    def _timed(batches: Iterator[Any], clock: Clock) -> Iterator[Any]:
        for batch in batches:
            clock.mark("data")
            yield batch
