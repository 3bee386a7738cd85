"""What masks do for the depth of cars that come the other way: equal budgets on synthetic streets with exact depth.

python benchmarks/moving_car.py --output out/moving_car      (about a quarter of an hour on one core)

Cameras and their motion are known, so that depth is in metres and nothing but the loss differs. A car that comes
towards the camera at the camera's own speed closes in twice as fast as what stands, and is reconstructed best at half
its depth (v / (v + v_car)): what a network learns that believes its photometric error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

# A script's folder comes first among the places of modules, and training.py there would hide the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.data.augmentation import Augmentation
from training.data.dataset import FrameDataset
from training.data.sample import Batch, clean_views
from training.data.synthetic import DriveOptions, read_synthetic, write_street_drive
from training.losses.options import GeometryConsistency, InstanceCoherence, OutlierMask, SelfSupervisedLosses
from training.networks.depth import DepthNetworkOptions
from training.tasks.self_supervised import SelfSupervisedDepth

ENCODER = "mobilenetv3_small_050"
SIZE = (160, 64)
DRIVE = DriveOptions(*SIZE, frames=14, step=0.8, focal=(0.7, 0.8), oncoming=2, oncoming_speed=1.0)
TRAINING_SEEDS, HELD_OUT_SEEDS = range(5000, 5024), range(6000, 6006)
RATE = 1e-3
FARTHEST = 30.0  # metres; beyond, cars are a few pixels

VARIANTS = {
    "reprojection alone": SelfSupervisedLosses(automask=False),
    "auto-mask": SelfSupervisedLosses(),
    "auto-mask, consistency": SelfSupervisedLosses(consistency=GeometryConsistency()),
    "auto-mask, outliers": SelfSupervisedLosses(outlier_mask=OutlierMask(), mean_over="trained"),
    "DiPE": SelfSupervisedLosses(
        automask=False,
        static_mask=True,
        outlier_mask=OutlierMask(),
        mean_over="trained",
    ),
    "auto-mask, outliers, instances": SelfSupervisedLosses(
        outlier_mask=OutlierMask(), mean_over="trained", instances=InstanceCoherence()
    ),
}


@dataclass(frozen=True)
class Score:
    """Errors on held-out drives: mean absolute relative depth error, and median of predicted over true depth."""

    variant: str
    seed: int
    car_abs_rel: float
    car_ratio: float
    static_abs_rel: float
    seconds_per_step: float


def main() -> None:
    """Render, train every variant for as many steps, score, write a table and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/moving_car"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", choices=[*VARIANTS], default=[*VARIANTS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    drives = render(arguments.output / "drives")
    training, held_out = (dataset(drives, seeds) for seeds in (TRAINING_SEEDS, HELD_OUT_SEEDS))
    scores, pictures = [], {}
    for seed in range(arguments.seeds):
        for name in arguments.variants:
            task, seconds = trained(training, VARIANTS[name], arguments.steps, arguments.batch_size, seed)
            score, pictures[name] = scored(task, held_out, name, seed, seconds)
            scores.append(score)
            print(score, flush=True)
    (arguments.output / "moving_car.json").write_text(json.dumps([vars(score) for score in scores], indent=2))
    (arguments.output / "moving_car.md").write_text(table(scores))
    cv2.imwrite(str(arguments.output / "moving_car.jpg"), panel(held_out, pictures)[..., ::-1])
    print(table(scores))


def render(folder: Path) -> Path:
    """Drives that are not there yet."""
    for seed in (*TRAINING_SEEDS, *HELD_OUT_SEEDS):
        if not (folder / f"street_{seed:05d}" / "frames.csv").is_file():
            write_street_drive(folder / f"street_{seed:05d}", seed, DRIVE)
    return folder


def dataset(drives: Path, seeds: Sequence[int]) -> FrameDataset:
    """Samples with neighbours, poses, depth and the moving cars' masks, in memory."""
    records = read_synthetic(drives, [f"street_{seed:05d}" for seed in seeds])
    return FrameDataset(records, *SIZE, (-1, 1), depth=True, known_poses=True, cache=True, instances=True)


def trained(
    frames: FrameDataset, losses: SelfSupervisedLosses, steps: int, batch_size: int, seed: int
) -> tuple[SelfSupervisedDepth, float]:
    """A task after so many steps, and the seconds that one took."""
    torch.manual_seed(seed)
    task = SelfSupervisedDepth(DepthNetworkOptions(ENCODER), ENCODER, pretrained=False, scales=1, losses=losses)
    optimizer = torch.optim.Adam(task.depth_network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    augmentation, order = Augmentation(), np.random.default_rng(seed)
    task.train()
    started = process_time()
    for _ in range(steps):
        chosen = order.choice(len(frames), batch_size, replace=False)
        loss, _ = task.reprojection(augmentation(Batch.collate([frames[i] for i in chosen])))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return task.eval(), (process_time() - started) / steps


@torch.inference_mode()
def scored(
    task: SelfSupervisedDepth, frames: FrameDataset, name: str, seed: int, seconds: float
) -> tuple[Score, NDArray[np.float32]]:
    """Errors on the moving cars and on all else, and the depth of all frames [N, H, W]."""
    batch = Batch.collate([frames[i] for i in range(len(frames))])
    assert batch.depth is not None
    assert batch.instances is not None
    depth = torch.cat([1 / task(images) for images in clean_views(batch).image.split(16)])
    ratio = depth / batch.depth
    counted, car = batch.depth < FARTHEST, batch.instances > 0
    errors = (ratio - 1).abs()
    score = Score(
        name,
        seed,
        float(errors[counted & car].mean()),
        float(ratio[counted & car].median()),
        float(errors[counted & ~car].mean()),
        seconds,
    )
    return score, depth[:, 0].numpy()


def table(scores: Sequence[Score]) -> str:
    """Markdown, means over seeds."""
    rows = [
        "| losses | abs_rel on the car | car: predicted / true | abs_rel elsewhere | s per step |",
        "|---|" + "---|" * 4,
    ]
    for name in dict.fromkeys(score.variant for score in scores):
        of_name = [score for score in scores if score.variant == name]
        values = [
            np.mean([getattr(score, field) for score in of_name])
            for field in ("car_abs_rel", "car_ratio", "static_abs_rel", "seconds_per_step")
        ]
        rows.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join(rows) + "\n"


def panel(frames: FrameDataset, pictures: dict[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The held-out frame with the largest moving car: image, true inverse depth, and that of each variant."""
    samples = [frames[i] for i in range(len(frames))]
    shown = max(range(len(samples)), key=lambda i: int((samples[i].instances > 0).sum()))  # type: ignore[operator]
    truth = samples[shown].depth
    assert truth is not None
    columns = [labeled(samples[shown].image.permute(1, 2, 0).numpy(), "image")]
    for name, depth in {"truth": truth[0].numpy(), **{n: d[shown] for n, d in pictures.items()}}.items():
        levels = (np.clip(4 / depth, 0, 1) * 255).astype(np.uint8)
        columns.append(labeled(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)[..., ::-1], name))
    columns += [np.zeros_like(columns[0])] * (-len(columns) % 4)
    return np.vstack([np.hstack(columns[i : i + 4]) for i in range(0, len(columns), 4)])


def labeled(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The image with a line of text above."""
    header = np.full((16, image.shape[1], 3), 255, np.uint8)
    cv2.putText(header, text, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([header, image])


if __name__ == "__main__":
    main()
