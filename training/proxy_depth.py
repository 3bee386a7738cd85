"""`python -m training proxy_depth`: depth from stereo pairs and posed video, written once, to supervise with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2

from training.command_line import run_function
from training.data.proxy import ProxyOptions
from training.data.proxy_files import proxy_file, write_proxy_depth
from training.data.source import Source


def proxy_depth(
    root: Path,
    sources: list[Source],
    output: Path,
    offsets: list[int] | None = None,
    options: ProxyOptions = ProxyOptions(),
    workers: int = 0,
    camera_height: float | None = None,
) -> int:
    """Triangulate depth of frames that have a stereo partner or posed neighbours, as KITTI depth PNGs.

    Frames that have a file already are skipped, so a stopped run goes on where it stopped. Train on them with
    `proxy: OUTPUT` in a source of the recipe.

    Args:
        root: folder that the sources' paths start from.
        sources: frames, as in a recipe's data.train.
        output: folder to write to, one PNG a frame.
        offsets: neighbours that posed video is triangulated with, in frames; by default -2, -1, 1, 2.
        options: checks that a pixel must pass.
        workers: threads; 0 for one a core.
        camera_height: metres between the camera and the road, for video without poses: its motion is then told by the
            video itself, and its scale by this height. Without it, such video gets no proxy depth.
    """
    cv2.setNumThreads(1)  # one frame a thread
    for source in sources:
        records = source.read(root)
        new = write_proxy_depth(
            records, output, offsets or [-2, -1, 1, 2], options, workers or os.cpu_count() or 1, camera_height
        )
        covered = sum(proxy_file(output, record).is_file() for record in records)
        print(
            f"{source.kind} {' '.join(source.select)}: {covered} of {len(records)} frames have proxy depth, {new} new"
        )
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command-line entry."""
    return run_function(proxy_depth, arguments)
