"""`python -m training quantize`: a depth model as one int8 file with Q/DQ pairs, for every backend."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from depth_node.model import ModelFile, read_model, write_model
from depth_node.pipeline import resize_image
from depth_node.precision.frames import ModelFrames, even_indices, model_inputs
from depth_node.precision.int8 import as_model, calibrate_int8
from training.command_line import run_function
from training.data.image_files import read_rgb
from training.data.source import Source

logger = logging.getLogger(__name__)


def quantize(
    model: Path, output: Path, root: Path, sources: list[Source], frames: int = 64, facts: Path | None = None
) -> int:
    """Write the int8 variant of an exported depth model, calibrated on frames of the training's sources.

    Each layer is quantised alone and ranked by what that changes; the worst ones stay in floating point until the rest
    is within the limits that `build_engine --precision int8` has. Weights in int8 are stored as int8.

    Args:
        model: file written by `export`.
        output: model file to write, ending in .onnx.
        root: folder that the sources' paths start from.
        sources: frames to calibrate on, as in a recipe's data.train; never those that are scored.
        frames: how many, evenly over each source.
        facts: JSON file for which layers are int8 and what that changes.

    Raises:
        BackendError: not a single layer can be int8.
    """
    read = read_model(model)
    calibrated = calibrate_int8(read, calibration_frames(read, root, sources, frames), _StepLog())
    spec = replace(read.spec, recipe=f"{read.spec.recipe}; {calibrated}")
    written = write_model(as_model(calibrated), spec, output)
    if facts is not None:
        facts.write_text(json.dumps({"summary": str(calibrated), **calibrated.facts}, indent=2) + "\n")
    print(f"{output}: {calibrated}, {output.stat().st_size / 1e6:.1f} MB, sha256 {written.checksum[:12]}")
    return 0


def calibration_frames(model: ModelFile, root: Path, sources: Sequence[Source], count: int) -> ModelFrames:
    """`count` frames of all sources together, the same share of each and evenly over it, as the model's inputs."""
    spec = model.spec
    inputs, described = [], []
    for number, source in enumerate(sources):
        records = source.read(root)
        share = count // len(sources) + (number < count % len(sources))
        chosen = even_indices(len(records), share)
        for index in chosen:
            image = np.empty((1, spec.input_height, spec.input_width, 3), np.uint8)
            resize_image(read_rgb(records[index].image), image[0])
            inputs.append(model_inputs(model, image))
        described.append(f"{len(chosen)} of {source.kind} {' '.join(source.select)}".rstrip())
    return ModelFrames(tuple(inputs), f"{len(inputs)} frames ({', '.join(described)})")


def main(arguments: Sequence[str]) -> int:
    """Run `quantize` with options from the command line or a file."""
    return run_function(quantize, arguments)


class _StepLog:
    """Says each step of the calibration once."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, what: str, share: float) -> None:
        if what != self._said:
            logger.info(what)
            self._said = what
