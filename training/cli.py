"""`python -m training COMMAND`: the list of commands; a command's module is imported only when it runs."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

from depth_node.errors import DepthNodeError

COMMANDS = {
    "train": ("training.train", "train a network by a recipe (config/training/*.yaml)"),
    "evaluate": ("training.evaluation.command", "depth metrics of a checkpoint, a model file or a baseline"),
    "evaluate_pose": ("training.evaluation.pose_command", "trajectory errors of a pose network against known poses"),
    "evaluate_intrinsics": ("training.evaluation.intrinsics", "error of a model's camera against the known ones"),
    "evaluate_robustness": ("training.evaluation.robustness", "depth metrics in fog, snow, rain and darkness"),
    "ablate": ("training.ablation.command", "recipes against each other on equal budgets, as one table"),
    "report": ("training.report.command", "runs side by side: metrics, cost, curves and pictures on one page"),
    "import_monodepth2": ("training.monodepth2", "weights in Monodepth2's published layout to a checkpoint"),
    "export": ("training.export", "checkpoint to one self-describing ONNX file for the node"),
    "zoo": ("training.zoo.command", "from data to a shipped model: trainings, export, int8, scores, card"),
    "quantize": ("training.zoo.quantize", "a model file in int8, calibrated on frames of the training data"),
    "score": ("training.zoo.scores", "all that is measured of a shipped model, on several data sets, as JSON"),
    "latency": ("training.zoo.latency", "time models in all backends, in turns"),
    "proxy_depth": ("training.proxy_depth", "triangulate depth from stereo or posed video, to train on"),
    "prepare": ("training.prepare.command", "decode any recordings once, at the resolution that is trained at"),
    "synthesize": ("training.synthesize", "render synthetic drives with exact depth, to train on"),
    "kitti_to_bag": ("training.kitti_to_bag", "write a KITTI raw drive as a ROS 2 bag"),
}
"""Name -> module with `main(arguments) -> exit code`, and what the command does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it went well, 2 after an error that the user can mend."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    name = name.replace("-", "_")
    if name not in COMMANDS:
        print(f"unknown command {name!r}\n\n{_overview()}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    module, _ = COMMANDS[name]
    try:
        return int(importlib.import_module(module).main(rest))
    except DepthNodeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m training COMMAND [options]", "", *lines, "", "COMMAND --help explains its options."]
    )
