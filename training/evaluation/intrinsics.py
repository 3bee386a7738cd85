"""`python -m training evaluate_intrinsics`: error of the camera that a model assumes or estimates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from depth_node.model import read_model
from training.checkpoints import load_depth_network
from training.command_line import run_function
from training.data.records import Intrinsics
from training.data.source import Kind
from training.errors import DataError
from training.evaluation.command import read_records


@dataclass(frozen=True)
class IntrinsicsError:
    """Relative errors |estimate - truth| / truth.

    Those of cx and cy are of (cx + 0.5) / W and (cy + 0.5) / H, the distance from the image's edge, so that no error
    depends on the resolution.
    """

    fx: float
    fy: float
    cx: float
    cy: float


def intrinsics_error(estimate: Intrinsics, truth: Intrinsics) -> IntrinsicsError:
    """Errors of normalised intrinsics (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H)."""
    return IntrinsicsError(*(abs(e - t) / t for e, t in zip(estimate, truth, strict=True)))


def evaluate_intrinsics(
    *,
    root: Path,
    output: Path,
    checkpoint: Path | None = None,
    model: Path | None = None,
    dataset: Kind = "kitti_raw",
    select: list[str] | None = None,
    camera: str | None = None,
) -> int:
    """Compare the camera in a model's metadata, its prior, with the known camera of each sequence.

    Prints the relative errors of fx, fy, cx and cy and writes them to summary.json and summary.md.

    Args:
        root: folder of the data set.
        output: folder to write to.
        checkpoint: checkpoint of `train`.
        model: exported ONNX file.
        dataset: how `root` is laid out; one with calibrations.
        select: names of the drives or sequences; all that are there if not given.
        camera: image folder, for data sets with several.

    Raises:
        DataError: data are missing, no camera is known, or not exactly one of checkpoint and model is given.
    """
    if checkpoint is not None and model is None:
        prior = load_depth_network(checkpoint).card.prior
    elif model is not None and checkpoint is None:
        prior = read_model(model).spec.intrinsics_prior
    else:
        raise DataError("expected one of checkpoint and model")
    records = read_records(dataset, root, select=select, camera=camera)
    cameras = {record.sequence: record.intrinsics for record in records if record.intrinsics is not None}
    if not cameras:
        raise DataError(f"none of {len(records)} frames has a known camera: expected a calibrated data set")
    errors = {name: intrinsics_error(prior, truth) for name, truth in cameras.items()}
    output.mkdir(parents=True, exist_ok=True)
    content = {
        "file": str(checkpoint or model),
        "estimate": list(prior),
        "sequences": {name: {"truth": list(cameras[name]), "error": asdict(error)} for name, error in errors.items()},
    }
    (output / "summary.json").write_text(json.dumps(content, indent=2) + "\n")
    (output / "summary.md").write_text(markdown_intrinsics(errors))
    table = Table("camera", "fx", "fy", "cx", "cy", title=f"relative errors of the prior of {checkpoint or model}")
    for name, error in errors.items():
        table.add_row(name, *_cells(error))
    Console().print(table)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run `evaluate_intrinsics` with options from the command line."""
    return run_function(evaluate_intrinsics, arguments)


def markdown_intrinsics(errors: dict[str, IntrinsicsError]) -> str:
    """One row a camera."""
    rows = [f"| {name} | {' | '.join(_cells(error))} |" for name, error in errors.items()]
    return "\n".join(["| camera | fx | fy | cx | cy |", "| --- | --- | --- | --- | --- |", *rows]) + "\n"


def _cells(error: IntrinsicsError) -> list[str]:
    return [f"{100 * value:.2f} %" for value in (error.fx, error.fy, error.cx, error.cy)]
