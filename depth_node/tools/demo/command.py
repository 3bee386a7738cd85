"""`demo`: take or write a drive, run the node and the replayer over DDS, record, report."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from depth_node.backends import BACKENDS
from depth_node.bags import open_bag
from depth_node.tools.demo.pictures import side_by_side, write_animation, write_cloud, write_frames
from depth_node.tools.demo.processes import node_command, replay_command, running, tail
from depth_node.tools.demo.recorder import Recorder, recording
from depth_node.tools.demo.report import build_report, report_table
from depth_node.tools.demo.source import Drive, find_drive, write_image_folder, write_synthetic_drive
from depth_node.tools.demo.truth import TruthReader
from depth_node.tools.isolation import isolated_environment

EXIT_FAILED = 1
ANIMATED_FRAMES = 120
STILL_FRAMES = 6
START_SECONDS = 120.0  # the backend may compile the model first
SILENCE_SECONDS = 30.0


class DemoFailure(Exception):
    """The node or the replayer ended early, or nothing came of it. Says so, with the end of a log."""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when depth was published and the pictures are there, 1 when it was not.

    Raises:
        DepthNodeError: the bag, its topic or the folder cannot be used.
    """
    arguments = parse_arguments(argv)
    output: Path = arguments.output
    clear_output(output)
    drive = prepare_drive(arguments)
    os.environ.update(isolated_environment())
    try:
        recorder = run_drive(drive, arguments)
    except DemoFailure as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return EXIT_FAILED
    leave_results(drive, recorder, arguments.rate, output)
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Run the depth node on a synthetic drive, on a bag, or on a folder of frames, in processes of its "
        "own over DDS, and leave an animation, frames, a point cloud and report.json.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--bag", type=Path, help="ROS 2 mcap or db3, or ROS 1 .bag (default: a synthetic street)")
    source.add_argument("--images", type=Path, metavar="DIR", help="folder of JPEG or PNG frames")
    parser.add_argument("--topic", help="image topic of the bag (default: its only one)")
    parser.add_argument("--output", type=Path, default=Path("out/demo"), metavar="DIR", help="default: out/demo")
    parser.add_argument("--model", help="model file, or name of a shipped model (default: the node's)")
    parser.add_argument("--backend", choices=("auto", *BACKENDS), default="auto", help="default: auto")
    parser.add_argument("--frames", type=_positive(int), default=100, help="length of the synthetic drive (100)")
    parser.add_argument("--image-rate", type=_positive(float), default=10.0, metavar="HZ", help="of a folder (10)")
    parser.add_argument("--rate", type=_positive(float), default=1.0, help="speed factor of the replay (1)")
    arguments = parser.parse_args(argv)
    if arguments.topic and not arguments.bag:
        parser.error("--topic goes with --bag")
    return arguments


def clear_output(output: Path) -> None:
    """Make the folder, and take out what an earlier run left."""
    (output / "logs").mkdir(parents=True, exist_ok=True)
    for name in ("animation.gif", "cloud.ply", "report.json", "frame_*.png", "logs/*.log"):
        for file in output.glob(name):
            file.unlink()


def prepare_drive(arguments: argparse.Namespace) -> Drive:
    """The user's bag, or one written into the output folder."""
    if arguments.bag is not None:
        return find_drive(arguments.bag, arguments.topic)
    bag: Path = arguments.output / "drive.mcap"
    bag.unlink(missing_ok=True)
    if arguments.images is not None:
        write_image_folder(arguments.images, bag, arguments.image_rate)
    else:
        write_synthetic_drive(bag, arguments.frames)
    return find_drive(bag, None)


def run_drive(drive: Drive, arguments: argparse.Namespace) -> Recorder:
    """Play the drive to the node, and hear what it publishes until it has nothing more to say.

    Raises:
        DemoFailure: a process ended early, or no depth was published.
    """
    node_log, replay_log = (arguments.output / "logs" / f"{name}.log" for name in ("node", "replay"))
    parameters = {"backend": arguments.backend, **({"model": arguments.model} if arguments.model else {})}
    with ExitStack() as stack:
        truth = TruthReader(stack.enter_context(open_bag(drive.bag)), drive.truth) if drive.truth else None
        recorder = stack.enter_context(recording(drive.frames, ANIMATED_FRAMES, truth))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        progress = stack.enter_context(Progress(*columns))
        task = progress.add_task("starting the depth node", total=None)

        node = stack.enter_context(running(node_command(drive, parameters), node_log))

        def spin_while_node_lives(condition: Callable[[], bool], seconds: float) -> bool:
            done = recorder.spin_until(
                lambda: condition() or node.poll() is not None or recorder.failure != "", seconds
            )
            if node.poll() is not None:
                raise DemoFailure(f"the depth node ended with code {node.poll()}; {_end_of(node_log)}")
            if recorder.failure:
                raise DemoFailure(f"the depth node {recorder.failure}; {_end_of(node_log)}")
            return done

        if not spin_while_node_lives(lambda: recorder.diagnostics.get("state") == "active", START_SECONDS):
            raise DemoFailure(f"the depth node was not active after {START_SECONDS:.0f} s; {_end_of(node_log)}")

        replay = stack.enter_context(running(replay_command(drive, arguments.rate), replay_log))
        progress.update(task, description="depth images", total=drive.frames)

        def replay_ended() -> bool:
            progress.update(task, completed=recorder.frames)
            return replay.poll() is not None

        spin_while_node_lives(replay_ended, math.inf)
        if replay.returncode != 0:
            raise DemoFailure(f"the replayer ended with code {replay.returncode}; {_end_of(replay_log)}")
        _spin_until_idle(recorder, spin_while_node_lives)
        progress.update(task, completed=recorder.frames)
        if recorder.frames == 0 or recorder.camera_info is None:
            fault = recorder.diagnostics["last_error"] or "it reported no fault"
            raise DemoFailure(f"the depth node published no depth image ({fault}); {_end_of(node_log)}")
    return recorder


def leave_results(drive: Drive, recorder: Recorder, rate: float, output: Path) -> None:
    """Write report and pictures, and say what to open."""
    assert recorder.camera_info is not None
    console = Console()
    report = build_report(recorder.diagnostics, recorder.camera_info, recorder.abs_rel)
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    pairs = side_by_side(drive, recorder.previews)
    if pairs:
        with console.status("drawing"):
            write_animation(pairs, output / "animation.gif", rate)
            write_frames(pairs, output, STILL_FRAMES)
    if recorder.cloud is not None:
        write_cloud(recorder.cloud, output / "cloud.ply")
    console.print(report_table(report))
    console.print("To look at next (near is red, far is blue):")
    for name, meaning in (
        ("animation.gif", "camera image beside depth"),
        ("frame_*.png", "some of it in full size"),
        ("cloud.ply", "a point cloud, for MeshLab or CloudCompare"),
        ("report.json", "these numbers"),
    ):
        console.print(f"  {output / name}  [dim]{meaning}[/dim]", highlight=False, soft_wrap=True)


def _spin_until_idle(recorder: Recorder, spin: Callable[[Callable[[], bool], float], bool]) -> None:
    """Receive until the number of published frames is the same in two diagnostics, one second apart."""
    before = None
    while before != recorder.diagnostics["frames_published"]:
        before = recorder.diagnostics["frames_published"]
        expected = recorder.diagnostics_count + 1
        if not spin(partial(recorder.has_diagnostics, expected), SILENCE_SECONDS):
            raise DemoFailure(f"the depth node said nothing on /diagnostics for {SILENCE_SECONDS:.0f} s")


def _end_of(log: Path) -> str:
    return f"the end of {log}:\n{tail(log)}"


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    return parse
