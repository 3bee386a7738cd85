"""What weather costs the data: samples per second of one worker, by kind, against a clear sky, in turns.

A sample is a target with two sources, decoded from JPEG and resized. Processor time, not the clock's, since what else
a machine does would be in that.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from time import process_time

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from common import report

from training.data.dataset import FrameDataset
from training.data.source import Source
from training.data.weather import Weather

KINDS = [field.name for field in fields(Weather)]
CLEAR = dict.fromkeys(KINDS, 0.0)
SKIES: dict[str, Weather | None] = {
    "clear": None,
    "weather (0.3 each)": Weather(),
    **{f"{kind} always": Weather(**{**CLEAR, kind: 1.0}) for kind in KINDS},
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="KITTI raw folder")
    parser.add_argument("--select", nargs="*", default=[], help="drives")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 192), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--samples", type=int, default=20, help="of every sky in a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every sky")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    records = Source("kitti_raw", select=arguments.select).read(arguments.root)
    width, height = arguments.size
    samples = {
        name: FrameDataset(records, width, height, source_offsets=(-1, 1), weather=sky) for name, sky in SKIES.items()
    }
    seconds = {name: np.empty(arguments.rounds) for name in SKIES}
    for turn in range(-1, arguments.rounds):  # the first is not counted
        for name, frames in samples.items():
            torch.manual_seed(turn)
            started = process_time()
            for place in range(arguments.samples):
                frames[place % len(frames)]
            if turn >= 0:
                seconds[name][turn] = (process_time() - started) / arguments.samples
    rows = [
        {
            "sky": name,
            "ms a sample": 1e3 * float(np.median(s)),
            "samples/s of a core": 1 / float(np.median(s)),
            "of a clear sky's": float(np.median(seconds["clear"] / s)),
        }
        for name, s in seconds.items()
    ]
    report("weather", rows, size=list(arguments.size), samples=arguments.samples)


if __name__ == "__main__":
    main()
