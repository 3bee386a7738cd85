"""`python -m depth_node [TOOL] [ARGUMENTS]`: the tools of `ros2 run depth_node TOOL`, without ROS."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from depth_node.tools import EXIT_ERROR, TOOLS, run


def usage() -> str:
    """The list of tools."""
    width = max(len(name) for name in TOOLS)
    lines = [f"  {name:<{width}}  {tool.description}" for name, tool in TOOLS.items()]
    return "\n".join(["usage: python -m depth_node TOOL [ARGUMENTS]   (TOOL --help says more)", "", *lines])


def main(argv: Sequence[str]) -> int:
    """Run the tool that the first argument names; list the tools without one."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *arguments = argv
    if name not in TOOLS:
        print(f"unknown tool '{name}'\n\n{usage()}", file=sys.stderr)
        return EXIT_ERROR
    return run(name, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
