"""The package's command-line tools: `ros2 run depth_node TOOL`, or `python -m depth_node TOOL` without ROS.

Every tool is a module with `main(argv: list[str] | None = None) -> int`, imported only when it is run.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from depth_node.errors import DepthNodeError

EXIT_ERROR = 2  # as argparse


@dataclass(frozen=True)
class Tool:
    """Where a tool is, and one line on what it does."""

    module: str
    description: str


TOOLS = {
    "build_engine": Tool("depth_node.tools.build_engine", "build a TensorRT engine, calibrate int8, write its graph"),
    "calibrate": Tool("depth_node.tools.calibrate", "learn a camera's intrinsics from a bag of its images"),
    "demo": Tool("depth_node.tools.demo", "run the node on a synthetic drive, a bag or a folder, and leave pictures"),
    "inspect_model": Tool("depth_node.tools.inspect_model", "check a model file and print its contract"),
    "models": Tool("depth_node.tools.models", "list, verify and explain the models that come with the package"),
    "replay": Tool("depth_node.tools.replay", "play a bag's topics with their stamps"),
    "rviz_frame": Tool("depth_node.tools.rviz_frame", "connect the camera with RViz, where TF does not"),
    "view": Tool("depth_node.tools.view", "show live in a browser what the node sees, or save a recording"),
}


def run(name: str, argv: Sequence[str]) -> int:
    """Run a tool with its arguments; its exit code. A `DepthNodeError` becomes one line on stderr and exit code 2."""
    try:
        return int(importlib.import_module(TOOLS[name].module).main(list(argv)))
    except DepthNodeError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "depth_node":
            raise
        hint = "`pip install depth_node[ros,cpu,tools]` brings all that the tools need"
        print(f"{name}: needs the Python package '{error.name}'; {hint}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells have it
