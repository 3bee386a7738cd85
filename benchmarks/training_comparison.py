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
from functools import partial
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch
from common import report
from training_loops import NAIVE, Clock, OurLoop, TheirLoop, Variant

from training.data.source import Kind


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
