"""What cars that come the other way do to depth, and what masks do about it: synthetic streets with exact depth.

About seven minutes of one core. The picture lies beside the numbers, as out/bench/moving_car.png.

One depth network first learns streets on which nothing moves, from their true depth. Then, for each choice of losses, a
copy of it goes on by self-supervision on streets where cars come the other way at the camera's own speed, for as many
steps, from the same batches. Cameras and their motion are known, so that depth is in metres and nothing but the loss
differs. Such a car closes in twice as fast as what stands, and is reconstructed best at half its depth: that is what a
network learns that believes its photometric error.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from common import OUTPUT, report
from numpy.typing import NDArray

from training.data.augmentation import Augmentation
from training.data.dataset import FrameDataset
from training.data.sample import Batch, Views, clean_views
from training.data.synthetic import DriveOptions, read_synthetic, write_street_drive
from training.losses.options import (
    GeometryConsistency,
    InstanceCoherence,
    OutlierMask,
    SelfSupervisedLosses,
    SupervisedLosses,
)
from training.losses.supervision import supervised_terms
from training.networks.depth import DepthNetworkOptions, sigmoid_to_inverse_depth
from training.tasks.self_supervised import SelfSupervisedDepth

SIZE, ENCODER, BATCH_SIZE = (160, 64), "resnet10t", 4
STANDING = DriveOptions(*SIZE, frames=10, step=0.8, focal=(0.7, 0.8))
ONCOMING = replace(STANDING, oncoming=2, oncoming_speed=1.0)
SEEDS = {"standing": range(4000, 4016), "oncoming": range(5000, 5016), "held_out": range(6000, 6008)}
FARTHEST = 30.0  # metres; beyond, cars are a few pixels

VARIANTS = {
    "reprojection alone": SelfSupervisedLosses(minimum_reprojection=False, automask=False),
    "minimum": SelfSupervisedLosses(automask=False),
    "minimum, auto-mask": SelfSupervisedLosses(),
    "... and consistency mask": SelfSupervisedLosses(consistency=GeometryConsistency(weight=0.0)),
    "... and consistency mask and loss": SelfSupervisedLosses(consistency=GeometryConsistency()),
    "... and outlier mask": SelfSupervisedLosses(outlier_mask=OutlierMask(), mean_over="trained"),
    "... and instances": SelfSupervisedLosses(instances=InstanceCoherence()),
}


@dataclass(frozen=True)
class Score:
    """Errors on held-out drives: mean absolute relative depth error, and median of predicted over true depth."""

    losses: str
    seed: int
    car_abs_rel: float
    car_ratio: float
    elsewhere_abs_rel: float


def main() -> None:
    """Render, train, score every variant; a table and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", type=Path, default=OUTPUT / "moving_car")
    parser.add_argument("--first-steps", type=int, default=400, help="of the network that all begin with")
    parser.add_argument("--steps", type=int, default=200, help="of each variant")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", choices=[*VARIANTS], default=[*VARIANTS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    standing, oncoming, held_out = (dataset(arguments.drives, kind) for kind in SEEDS)
    scores, depths = [], {}
    for seed in range(arguments.seeds):
        first = supervised(standing, arguments.first_steps, seed)
        score, depths["before"] = scored(first, held_out, "before", seed)
        scores.append(score)
        for name in arguments.variants:
            task = continued(first, oncoming, VARIANTS[name], arguments.steps, seed)
            score, depths[name] = scored(task, held_out, name, seed)
            scores.append(score)
            print(score, flush=True)
    report("moving_car", summary(scores), steps=arguments.steps, scores=[vars(score) for score in scores])
    cv2.imwrite(str(OUTPUT / "moving_car.png"), panel(held_out, depths)[..., ::-1])


def dataset(folder: Path, kind: str) -> FrameDataset:
    """Samples with neighbours, poses, depth and, where there are some, masks of moving cars; rendered once."""
    options = STANDING if kind == "standing" else ONCOMING
    for seed in SEEDS[kind]:
        if not (folder / f"street_{seed:05d}" / "frames.csv").is_file():
            write_street_drive(folder / f"street_{seed:05d}", seed, options)
    records = read_synthetic(folder, [f"street_{seed:05d}" for seed in SEEDS[kind]])
    with_cars = kind != "standing"
    return FrameDataset(records, *SIZE, (-1, 1), depth=True, known_poses=True, cache=True, instances=with_cars)


def batches(frames: FrameDataset, steps: int, seed: int) -> list[Views]:
    """Augmented batches, the same for every variant."""
    torch.manual_seed(seed)
    order, augmentation = np.random.default_rng(seed), Augmentation()
    chosen = (order.choice(len(frames), BATCH_SIZE, replace=False) for _ in range(steps))
    return [augmentation(Batch.collate([frames[i] for i in places])) for places in chosen]


def supervised(frames: FrameDataset, steps: int, seed: int) -> SelfSupervisedDepth:
    """A task whose depth network learned true depth of streets on which nothing moves."""
    torch.manual_seed(seed)
    task = SelfSupervisedDepth(DepthNetworkOptions(ENCODER), ENCODER, pretrained=False, scales=1).train()
    optimizer = torch.optim.Adam(task.depth_network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    for views in batches(frames, steps, seed):
        assert views.depth is not None
        (disparity,) = task.depth_network(views.network_image)
        inverse_depth = sigmoid_to_inverse_depth(disparity, task.min_depth, task.max_depth)
        known = views.depth.where(views.depth < task.max_depth, 0.0)
        limits = {"min_depth": task.min_depth, "max_depth": task.max_depth}
        loss = torch.stack([*supervised_terms(inverse_depth, known, SupervisedLosses(), **limits).values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return task


def continued(
    first: SelfSupervisedDepth, frames: FrameDataset, losses: SelfSupervisedLosses, steps: int, seed: int
) -> SelfSupervisedDepth:
    """A copy that went on by self-supervision."""
    task = copy.deepcopy(first).train()
    task.losses = losses
    optimizer = torch.optim.Adam(task.depth_network.parameters(), 1e-4)
    views_of_steps = batches(frames, steps, seed)
    torch.manual_seed(seed)
    for views in views_of_steps:
        loss, _ = task.reprojection(views)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return task


@torch.inference_mode()
def scored(task: SelfSupervisedDepth, frames: FrameDataset, name: str, seed: int) -> tuple[Score, NDArray[np.float32]]:
    """Errors on the moving cars and on all else, and the depth of all frames [N, H, W]."""
    task.eval()
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
    )
    return score, depth[:, 0].numpy()


def summary(scores: Sequence[Score]) -> list[dict[str, object]]:
    """A row for each choice of losses: means over seeds, and the spread (standard deviation) of the cars' error."""
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys(score.losses for score in scores):
        of_name = [score for score in scores if score.losses == name]
        rows.append(
            {
                "losses": name,
                "abs_rel of oncoming cars": float(np.mean([score.car_abs_rel for score in of_name])),
                "spread": float(np.std([score.car_abs_rel for score in of_name])),
                "predicted / true there": float(np.mean([score.car_ratio for score in of_name])),
                "abs_rel elsewhere": float(np.mean([score.elsewhere_abs_rel for score in of_name])),
            }
        )
    return rows


def panel(frames: FrameDataset, depths: dict[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """One held-out frame with a car in the middle distance: image, true inverse depth, and that of each network."""
    samples = [frames[i] for i in range(len(frames))]

    def visible_car(place: int) -> int:
        mask = samples[place].instances
        assert mask is not None
        return int((mask > 0).sum()) if not mask[..., 0].any() else 0

    shown = max(range(len(samples)), key=visible_car)
    truth = samples[shown].depth
    assert truth is not None
    tiles = [labeled(samples[shown].image.permute(1, 2, 0).numpy(), "image")]
    for name, depth in {"truth": truth[0].numpy(), **{name: maps[shown] for name, maps in depths.items()}}.items():
        levels = (np.clip(4 / depth, 0, 1) * 255).astype(np.uint8)
        tiles.append(labeled(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA)[..., ::-1], name))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 4)
    return np.vstack([np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)])


def labeled(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The image, larger, under a line of text."""
    large = cv2.resize(image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_NEAREST)
    header = np.full((18, large.shape[1], 3), 255, np.uint8)
    cv2.putText(header, text, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([header, large])


if __name__ == "__main__":
    main()
