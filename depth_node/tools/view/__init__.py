"""What a depth node sees, live in a browser, or saved as a Rerun recording."""

from depth_node.tools.view.command import main

__all__ = ["main"]
