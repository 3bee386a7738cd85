"""Learn a camera's intrinsics from a bag of its images."""

from depth_node.tools.calibrate.command import main

__all__ = ["main"]
