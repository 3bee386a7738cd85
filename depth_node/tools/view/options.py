"""Show what a depth node sees, live in a browser on any machine of the network, or save it as a recording.

Examples:
  view                                              image, depth, cloud, intrinsics and status of /depth_node
  view --namespace /front --no-cloud --max-rate 2   the node in /front, on a slow network
  view --image /camera/image_raw/compressed         the camera's own image instead of the node's rgb/image_rect
  view --save drive.rrd --max-rate 0                record every frame, without a viewer; open it with: rerun drive.rrd
  view --bind 127.0.0.1                             for this machine only, or through ssh -L 9090:localhost:9090
                                                    -L 9876:localhost:9876

Start it on the robot, beside the node: images stay on the machine until they are compressed. Only what is shown is
subscribed, since the node computes only what somebody listens to. ROS arguments go last, behind --ros-args.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
from collections.abc import Callable, Sequence
from pathlib import Path

ALL_ADDRESSES = "0.0.0.0"
VIEWER_DEFAULTS = {"port": 9090, "grpc_port": 9876, "bind": ALL_ADDRESSES, "host": [], "memory_limit": "128MB"}


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line without its ROS arguments."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="view", description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what is shown")
    what.add_argument("--namespace", default="", metavar="NS", help="namespace of the depth node (default: /)")
    what.add_argument(
        "--image",
        default="rgb/image_rect",
        metavar="TOPIC",
        help="image topic (default: rgb/image_rect of the node, the image that depth is registered with)",
    )
    what.add_argument(
        "--image-transport",
        choices=("raw", "compressed"),
        help="compressed adds /compressed to the image topic (default: raw, unless the topic ends so)",
    )
    what.add_argument(
        "--cloud",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show the node's coloured cloud; without it the viewer back-projects depth, for half the data "
        "(default: --cloud)",
    )
    what.add_argument("--confidence", action="store_true", help="show depth/confidence, of models that have it")
    what.add_argument("--scan", action="store_true", help="show scan, where the node's parameter scan is true")
    what.add_argument(
        "--color-max-depth",
        type=_number(above=0),
        default=80.0,
        metavar="M",
        help="depth at the end of the colour scale, in metres (default: 80)",
    )
    where = parser.add_argument_group("where to")
    where.add_argument("--save", type=Path, metavar="FILE.rrd", help="write a recording instead of serving a viewer")
    where.add_argument(
        "--duration", type=_number(above=0), default=math.inf, metavar="SECONDS", help="end after so long"
    )
    where.add_argument("--port", type=_port, help="of the page (default: 9090)")
    where.add_argument("--grpc-port", type=_port, help="of the data that the page loads (default: 9876)")
    where.add_argument(
        "--bind",
        type=_ipv4,
        metavar="ADDRESS",
        help="listen on this IPv4 address only (default: 0.0.0.0, all; whoever reaches the ports sees the camera)",
    )
    where.add_argument(
        "--host",
        action="append",
        metavar="NAME",
        help="a name by which browsers reach this machine, beside its own name and addresses; repeat for more",
    )
    how_much = parser.add_argument_group("how much data")
    how_much.add_argument(
        "--max-rate",
        type=_number(at_least=0),
        default=5.0,
        metavar="HZ",
        help="frames a second, the same ones on all topics; 0 shows all (default: 5)",
    )
    how_much.add_argument(
        "--jpeg-quality", type=_integer(1, 100), default=80, metavar="Q", help="of the images, 1 to 100 (default: 80)"
    )
    how_much.add_argument(
        "--max-points",
        type=_integer(1, 100_000_000),
        default=40_000,
        metavar="N",
        help="thin out larger clouds (default: 40000)",
    )
    how_much.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="what is kept for browsers that come later, as in 128MB or 5%%; the oldest goes first (default: 128MB)",
    )
    arguments = parser.parse_args(argv)
    for name, default in VIEWER_DEFAULTS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
        elif arguments.save is not None:
            parser.error(f"--{name.replace('_', '-')} goes with a viewer, not with --save")
    return arguments


def image_topic(arguments: argparse.Namespace) -> str:
    """The image topic as image_transport names it: with `/compressed` behind it for compressed images."""
    topic: str = arguments.image
    if arguments.image_transport == "compressed" and not topic.endswith("/compressed"):
        return f"{topic}/compressed"
    return topic


def _number(above: float = -math.inf, at_least: float = -math.inf) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not (value > above and value >= at_least and value < math.inf):
            limit = f"more than {above:g}" if above > -math.inf else f"{at_least:g} or more"
            raise argparse.ArgumentTypeError(f"{text}; expected {limit}")
        return value

    return number


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{text}; expected {lowest} to {highest}")
        return value

    return integer


_port = _integer(1, 65535)
_port.__name__ = "port"  # what argparse calls a text that is none


def _ipv4(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


_ipv4.__name__ = "IPv4 address"
