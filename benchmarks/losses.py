"""What each choice of losses costs in a training step: processor time against Monodepth2's, in turns.

Forward and backward pass of both networks and the losses, without loading. Processor time, not the clock's, since
what else a machine does would be in that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import process_time

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from common import report

from training.data.sample import Views
from training.losses.options import GeometryConsistency, InstanceCoherence, OutlierMask, SelfSupervisedLosses
from training.networks.depth import DepthNetworkOptions
from training.tasks.self_supervised import SelfSupervisedDepth

CHOICES = {
    "Monodepth2": SelfSupervisedLosses(),
    "no minimum": SelfSupervisedLosses(minimum_reprojection=False),
    "no auto-mask": SelfSupervisedLosses(automask=False),
    "scales at their own resolution": SelfSupervisedLosses(full_resolution=False),
    "outlier mask": SelfSupervisedLosses(outlier_mask=OutlierMask(), mean_over="trained"),
    "DiPE": SelfSupervisedLosses(
        automask=False,
        static_mask=True,
        outlier_mask=OutlierMask(),
        mean_over="trained",
        full_resolution=False,
        scale_decay=0.25,
    ),
    "consistency": SelfSupervisedLosses(consistency=GeometryConsistency()),
    "instances": SelfSupervisedLosses(instances=InstanceCoherence()),
    "velocity": SelfSupervisedLosses(velocity=0.05),
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 192), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every choice")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = DepthNetworkOptions(arguments.encoder)
    task = SelfSupervisedDepth(network, arguments.encoder, pretrained=False)
    views = random_views(*arguments.size, arguments.batch_size)
    seconds = {name: np.empty(arguments.rounds) for name in CHOICES}
    for turn in range(-1, arguments.rounds):  # the first is not counted
        for name, losses in CHOICES.items():
            task.losses = losses
            started = process_time()
            task.reprojection(views)[0].backward()
            if turn >= 0:
                seconds[name][turn] = process_time() - started
    usual = seconds["Monodepth2"]
    rows = [
        {"losses": name, "CPU s a step": float(np.median(s)), "of Monodepth2's": float(np.median(s / usual))}
        for name, s in seconds.items()
    ]
    report("losses", rows, size=list(arguments.size), batch_size=arguments.batch_size, encoder=arguments.encoder)


def random_views(width: int, height: int, batch_size: int) -> Views:
    """Noise, two sources, three instances an image, a known speed."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(batch_size, 3, 3, height, width, generator=generator)
    instances = torch.zeros(batch_size, 1, height, width, dtype=torch.uint8)
    for number in (1, 2, 3):
        left = number * width // 5
        instances[..., height // 3 : height - 10, left : left + width // 6] = number
    return Views(
        image=frames[:, 0],
        sources=frames[:, 1:],
        network_image=frames[:, 0],
        network_sources=frames[:, 1:],
        intrinsics=torch.tensor([[0.58, 1.9, 0.49, 0.46]]).repeat(batch_size, 1),
        depth=None,
        T_source_target=None,
        instances=instances,
        distances=torch.ones(batch_size, 2),
    )


if __name__ == "__main__":
    main()
