"""How many samples a second does self-supervised training learn from, and what does the time go to?

The loop is the one that `python -m training train` runs (Lightning's Trainer, the package's data and task), in several
variants, against a Monodepth2-style loop written the usual way (naive_training.py), on the same frames: networks of the
same architecture, resolution and batch. Each round runs every candidate, so that what else the machine does meets all.

    python benchmarks/training.py --size 320 96 --batch 8
    python benchmarks/training.py --kind kitti_raw --root kitti_raw --size 640 192 --batch 4
    python benchmarks/training.py --device cuda --batch 12 --workers 14 --steps 300 --warmup 60 \\
        --variants bf16 bf16,compile bf16,device bf16,compile,device

A variant is a list of words: bf16 or float32 (networks), nchw (instead of channels-last), compile, and where frames
are kept: ram or device. Without --root, frames of noise that looks like photographs are written to a temporary folder.
"""

from __future__ import annotations

import argparse
import gc
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, get_args

import cv2
import lightning as L
import numpy as np
import torch
from common import report
from lightning.pytorch.callbacks import Callback
from naive_training import NaiveLoop

from training.callbacks.non_finite import NonFiniteSteps
from training.data.dataset import FrameDataset
from training.data.module import DepthData
from training.data.sample import Batch, Views
from training.data.source import Kind, Source
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


class OurLoop:
    """The package's loop in one variant."""

    def __init__(self, variant: Variant, options: argparse.Namespace, root: Path, device: torch.device) -> None:
        self.device, self.variant, self.batch_size = device, variant, options.batch
        self.data = TimedData(**data_options(options, root), workers=options.workers, cache=variant.cache)
        self.task = TimedTask(
            encoder=options.encoder,
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


def main() -> int:
    """Measure and report."""
    options = parse()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_float32_matmul_precision("high")  # as `train` does
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or write_frames(Path(folder), *options.stored, count=options.frames)
        candidates = {variant.name: partial(OurLoop, variant, options, root, device) for variant in options.variants}
        candidates = {NAIVE: partial(TheirLoop, options, root, device), **candidates}
        loops = {}
        for name, make in candidates.items():
            torch.manual_seed(0)
            loops[name] = make()
        rates: dict[str, list[float]] = {name: [] for name in loops}
        peaks = dict.fromkeys(loops, 0.0)
        for _ in range(options.rounds):
            for name, loop in loops.items():
                with peak_memory(device) as peak:
                    rates[name].append(measure(loop.run, options, device))
                peaks[name] = max(peaks[name], peak[0])
        rows = [row(name, loop, rates, peaks[name], options, device) for name, loop in loops.items()]
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    settings = {name: str(value) for name, value in vars(options).items() if name != "variants"}
    report("training", rows, device=gpu or "CPU", threads=torch.get_num_threads(), options=settings)
    return 0


def parse() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of frames; by default some are made")
    parser.add_argument("--kind", choices=get_args(Kind), default="folder", help="what kind of folder --root is")
    parser.add_argument("--stored", type=int, nargs=2, default=None, help="size of made frames, by default --size")
    parser.add_argument("--frames", type=int, default=200, help="how many frames are made")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 192), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--encoder", default="resnet18", help="timm encoder of both networks")
    parser.add_argument("--batch", type=int, default=4, help="samples per step")
    parser.add_argument("--workers", type=int, default=1, help="processes that read frames")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the loop; 0: torch's own choice")
    parser.add_argument(
        "--busy-time",
        action="store_true",
        help="count processor time, not the clock's: for a busy machine, on the CPU, with --threads 1 --workers 0",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--variants", type=Variant, nargs="+", default=[Variant("bf16"), Variant("float32")])
    parser.add_argument("--rounds", type=int, default=3, help="turns of every candidate")
    parser.add_argument("--steps", type=int, default=4, help="steps that count per turn")
    parser.add_argument(
        "--warmup", type=int, default=3, help="steps before them: more than the workers have read ahead at the start"
    )
    options = parser.parse_args()
    options.stored = options.stored or options.size
    return options


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


def write_frames(folder: Path, width: int, height: int, count: int) -> Path:
    """A folder of JPEG frames with detail at all scales, and their camera."""
    random = np.random.default_rng(0)
    (folder / "frames").mkdir()
    layers = [random.uniform(0, 2.0**-k, (6 * 2**k, 20 * 2**k, 3)).astype(np.float32) for k in range(6)]
    picture = sum(cv2.resize(layer, (2 * width, height), interpolation=cv2.INTER_CUBIC) for layer in layers)
    picture = np.clip(picture * (255 / picture.max()), 0, 255).astype(np.uint8)
    for index in range(count):
        shift = index * width // count
        cv2.imwrite(str(folder / "frames" / f"{index:06d}.jpg"), picture[:, shift : shift + width])
    focal = [0.58 * width, 0, width / 2, 0, 0.58 * width, height / 2, 0, 0, 1]
    (folder / "camera.yaml").write_text(
        f"{{image_width: {width}, image_height: {height}, camera_matrix: {{data: {focal}}}}}"
    )
    return folder


def measure(run: Any, options: argparse.Namespace, device: torch.device) -> float:
    """Samples per second."""
    clock = Clock(device, options.warmup, options.steps, exact=False, busy=options.busy_time)
    run(clock)
    gc.collect()  # ends worker processes
    return options.steps * options.batch / clock.seconds


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float]]:
    """MiB: of the device, or of this process without its workers."""
    peak: list[float] = []
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device) / 2**20)
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    yield peak
    lines = Path("/proc/self/status").read_text().splitlines()
    peak.append(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


def row(
    name: str, loop: Any, rates: dict[str, list[float]], peak: float, options: argparse.Namespace, device: torch.device
) -> dict[str, Any]:
    """A line of the table; times are milliseconds per step."""
    clock = Clock(device, options.warmup, options.steps, exact=True, busy=options.busy_time)
    loop.run(clock)
    whole = float(np.median(rates[name]))
    network = measure(loop.run_network, options, device)
    ratios = np.divide(rates[name], rates[NAIVE])
    return {
        "candidate": name,
        "samples_s": whole,
        "speed_up": float(np.median(ratios)),
        "speed_ups": tuple(round(float(ratio), 2) for ratio in ratios),
        "data_alone": measure(partial(loop.run, idle=True), options, device),
        "network_alone": network,
        "network_share": whole / network,
        "peak_mib": peak,
        **{f"{stage}_ms": 1e3 * seconds / options.steps for stage, seconds in clock.stages.items()},
    }
