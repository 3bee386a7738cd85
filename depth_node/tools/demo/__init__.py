"""The main job end to end: a drive in a bag, the depth node and the replayer as processes, pictures, numbers."""

from depth_node.tools.demo.command import main

__all__ = ["main"]
