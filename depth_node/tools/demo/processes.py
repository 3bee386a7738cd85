"""The demo's two processes: the depth node and the replayer, as a user would start them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from depth_node.tools.demo.source import Drive

STOP_SECONDS = 10.0


def node_command(drive: Drive, parameters: dict[str, str]) -> list[str]:
    """The depth node, listening to the drive's topics."""
    command = [sys.executable, "-m", "depth_node.node_main", "--ros-args", "-r", f"image:={drive.image}"]
    if drive.camera_info:
        command += ["-r", f"camera_info:={drive.camera_info}"]
    parameters = {**parameters, "image_transport": "compressed" if drive.is_compressed else "raw"}
    for name, value in parameters.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]  # YAML, which else would take a name like 12 for a number
    return command


def replay_command(drive: Drive, rate: float) -> list[str]:
    """The replayer, playing what the node listens to."""
    topics = [topic for topic in (drive.camera_info, drive.image) if topic]
    command = [sys.executable, "-m", "depth_node", "replay", str(drive.bag), "--rate", str(rate)]
    return [*command, "--wait-for-subscribers", *(word for topic in topics for word in ("--topic", topic))]


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to `log`; ended as by Ctrl-C if it still runs when the body is done."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
