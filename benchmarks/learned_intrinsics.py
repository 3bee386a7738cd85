"""Learned intrinsics on a rendered street: from 30 % error, with depth, motion and K all learned from video alone.

Every triplet turns by a few degrees or, to compare, not at all; networks start from random weights. Then a head that
saw random zooms is shown others, of a street that it has not seen: zooming by s should make the focal length s times
as long.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from common import report

from depth_node.camera import PinholeCamera
from depth_node.synthetic import render, street_world
from depth_node.synthetic.street import T_BASE_CAMERA, base_pose
from training.data.sample import Batch, Views, clean_views
from training.geometry.focal_evidence import is_observable
from training.geometry.framing import Framing
from training.networks.depth import DepthNetworkOptions
from training.networks.intrinsics import LearnedIntrinsics
from training.tasks.optimization import Optimization, OwnRate
from training.tasks.self_supervised import SelfSupervisedDepth

WIDTH, HEIGHT = 320, 192  # of the rendered frames
TRUE_FOCAL = 0.7  # fx/W
Frames = list[np.ndarray]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 64), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--triplets", type=int, default=16)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--error", type=float, nargs="+", default=(0.3, -0.3), help="of the first focal length")
    parser.add_argument("--turns", type=float, nargs="+", default=(4.0, 0.0), help="degrees between frames")
    parser.add_argument("--zoom-steps", type=int, default=1000, help="of the head; 0 leaves it out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for degrees in arguments.turns:
        drive = triplets(arguments.triplets, degrees, start=0.0)
        for error in arguments.error:
            options = LearnedIntrinsics(
                per="camera", focal=TRUE_FOCAL * (1 + error), square_pixels=True, fixed_center=True
            )
            started = perf_counter()
            task = train(drive, options, arguments, arguments.steps, zoom=1.0)
            learned = task.learned_intrinsics
            assert learned is not None
            rows.append(
                {
                    "turn, degrees": degrees,
                    "first error": f"{error:+.0%}",
                    "last error": f"{learned.prior[0] / TRUE_FOCAL - 1:+.2%}",
                    "said to be observable": is_observable(learned.edge_shift),
                    "minutes": (perf_counter() - started) / 60,
                }
            )
            print(rows[-1], flush=True)
    zooms = [] if not arguments.zoom_steps else zoom_rows(arguments)
    report("learned_intrinsics", rows, zooms=zooms, options=dict(vars(arguments)))
    for row in zooms:
        print(row)


def zoom_rows(arguments: argparse.Namespace) -> list[dict[str, float]]:
    """What a head says of frames that are zoomed by s, relative to what it says of whole ones."""
    options = LearnedIntrinsics(focal=TRUE_FOCAL * 1.3, square_pixels=True, fixed_center=True)
    drive = triplets(2 * arguments.triplets, degrees=4.0, start=0.0)
    task = train(drive, options, arguments, arguments.zoom_steps, zoom=1.6).eval()
    unseen = triplets(8, degrees=4.0, start=150.0, seed=1)
    rows = []
    for zoom in (1.0, 1.15, 1.3, 1.45, 1.6):
        window = centered_window(zoom)
        with torch.no_grad():
            said = task.predictions(views_of(unseen, [window] * len(unseen), arguments.size)).intrinsics[:, 0]
        rows.append({"zoom": zoom, "fx/W": float(said.median()), "true fx/W": TRUE_FOCAL * WIDTH / window[2]})
    return rows


def train(
    drive: list[Frames], options: LearnedIntrinsics, arguments: argparse.Namespace, steps: int, zoom: float
) -> SelfSupervisedDepth:
    """A task after so many steps on the triplets, each zoomed by up to `zoom`, as `train` would make them."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    task = SelfSupervisedDepth(DepthNetworkOptions(), pretrained=False, scales=2, intrinsics=options).train()
    learned = task.learned_intrinsics
    assert learned is not None
    own = [OwnRate(tuple(learned.parameters()), options.learning_rate_factor)] if options.per == "camera" else []
    recipe = Optimization(learning_rate=2e-4)
    optimizer = recipe.schedule_for(task.parameters(), steps, arguments.batch_size, own)["optimizer"]
    for _ in range(steps):
        chosen = random.choice(len(drive), arguments.batch_size, replace=False)
        windows = [random_window(random, zoom) for _ in chosen]
        views = views_of([drive[i] for i in chosen], windows, arguments.size)
        loss, _ = task.reprojection(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task


def triplets(count: int, degrees: float, start: float, seed: int = 3) -> list[Frames]:
    """Three frames [H, W, 3] each, of a street: 0.4 m on from frame to frame, turning by up to `degrees` each time."""
    random = np.random.default_rng(seed)
    focal = TRUE_FOCAL * WIDTH
    camera = PinholeCamera(WIDTH, HEIGHT, focal, focal, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    world = street_world(seed)
    assert world.street is not None
    found = []
    for number in range(count):
        T_world_camera = base_pose(world.street, start + 6.0 * number) @ T_BASE_CAMERA
        turn = degrees * np.append(random.choice([-1, 1], 2) * random.uniform(0.5, 1, 2), 0)
        frames = []
        for place in (-1, 0, 1):
            T = np.eye(4)
            T[:3, :3] = cv2.Rodrigues(np.radians(place * turn))[0]
            T[:3, 3] = random.normal((0, 0, 0.4 * place), 0.03)
            frames.append(render(world, camera, T_world_camera @ T)[0])
        found.append([frames[1], frames[0], frames[2]])
    return found


def views_of(drive: list[Frames], windows: list[tuple[int, int, int, int]], size: tuple[int, int]) -> Views:
    """Windows of the triplets at a size, as a batch without known intrinsics."""
    cut = [
        np.stack([cv2.resize(f[y : y + h, x : x + w], tuple(size), interpolation=cv2.INTER_AREA) for f in frames])
        for frames, (x, y, w, h) in zip(drive, windows, strict=True)
    ]
    frames = torch.from_numpy(np.stack(cut)).permute(0, 1, 4, 2, 3)
    framing = Framing.stack([Framing.window(window, WIDTH, HEIGHT, camera=0) for window in windows])
    unknown = torch.full((len(drive), 4), torch.nan)
    names = tuple(map(str, range(len(drive))))
    batch = Batch(frames[:, 0], frames[:, 1:], unknown, None, None, names)
    return clean_views(replace(batch, framing=framing))


def random_window(random: np.random.Generator, zoom: float) -> tuple[int, int, int, int]:
    """x, y, w, h of a part of the frame, by which it is zoomed by 1 to `zoom`."""
    share = 1 / random.uniform(1, zoom)
    w, h = round(WIDTH * share), round(HEIGHT * share)
    return int(random.integers(WIDTH - w + 1)), int(random.integers(HEIGHT - h + 1)), w, h


def centered_window(zoom: float) -> tuple[int, int, int, int]:
    """The middle of the frame, by which it is zoomed by `zoom`."""
    w, h = round(WIDTH / zoom), round(HEIGHT / zoom)
    return (WIDTH - w) // 2, (HEIGHT - h) // 2, w, h


if __name__ == "__main__":
    main()
