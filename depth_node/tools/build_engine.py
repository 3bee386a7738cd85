"""Build a TensorRT engine of a model ahead of time; calibrate a model for int8; or write its graph in a precision."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from depth_node.backends.engine_cache import CachedEngine
from depth_node.backends.engine_cache import Progress as Report
from depth_node.backends.tensorrt.options import ENGINE_PRECISIONS, EngineOptions
from depth_node.errors import BackendError, ModelFileError
from depth_node.model import ModelFile, MotionModelFile, read_any_model, write_model, write_motion_model
from depth_node.precision.frames import ModelFrames, read_frames
from depth_node.precision.int8 import Int8Graph, as_model, calibrate_int8, save_int8
from depth_node.precision.parity import Deviation
from depth_node.precision.recipe import MeasuredRecipe, calibrated
from depth_node.resources import find_model

CALIBRATION_FRAMES = 64


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when the engine is there (or the graph is written).

    Raises:
        DepthNodeError: it cannot be built; the message says why and what to do.
    """
    arguments = _parser().parse_args(argv)
    console = Console()
    model = read_any_model(find_model(arguments.model))
    frames = None
    with _progress(console) as report:
        if arguments.calibration is not None:
            frames = read_frames(model, arguments.calibration, arguments.frames, report, arguments.topic)
            console.print(f"frames: {frames.source}")
            if arguments.precision == "int8":
                quantized = calibrate_int8(model, frames, report)
                save_int8(model, quantized)
                console.print(f"{quantized}; deviation: {Deviation(**quantized.facts['deviation'])}", soft_wrap=True)
                console.print(kept_table(quantized))
        if arguments.graph is not None:
            write_graph(model, arguments.precision, arguments.graph, report)
            console.print(f"written: {arguments.graph}")
            return 0
        options = EngineOptions(arguments.precision, arguments.workspace, arguments.batch)
        engine = _build(model, options, frames, report, arguments.rebuild)
    console.print(engine_table(model, options, engine))
    return 0


def write_graph(model: ModelFile | MotionModelFile, precision: str, path: Path, report: Report) -> None:
    """The graph that an engine of this precision is built from, as a model file that every backend runs.

    In int8 it stores the quantised weights as int8, and the others as float16.

    Raises:
        BackendError: int8, and the model has not been calibrated.
        ModelFileError: the model is a foreign one, whose normalisation is in its sidecar.
    """
    import onnx

    if precision == "int8":
        graph = as_model(calibrated(model))
    else:
        prepared = MeasuredRecipe().prepare(model, EngineOptions(precision), report)
        graph = onnx.load_model_from_string(prepared.onnx)
    if isinstance(model, MotionModelFile):
        write_motion_model(graph, model.spec, path)
    elif model.spec.float_input is None:
        write_model(graph, model.spec, path)
    else:
        raise ModelFileError(f"{model.path} is described by a sidecar; expected a model of `python -m training export`")


def kept_table(quantized: Int8Graph) -> Table:
    """The layers that are not in int8, and why."""
    table = Table("not in int8", "it alone would move 5 % of the pixels by more than")
    for layer, p95 in quantized.facts["kept"].items():
        table.add_row(layer, f"{p95:.1%}")
    return table


def engine_table(model: ModelFile | MotionModelFile, options: EngineOptions, engine: CachedEngine) -> Table:
    """What was built, or found."""
    title = f"{model.path.name}, {options.precision}: {'built' if engine.is_new else 'was in the cache already'}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_row("file", str(engine.path or "could not be kept"))
    for name, value in engine_rows(engine.facts).items():
        table.add_row(name, value)
    return table


def engine_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """What is known of an engine, in words, by what it is."""
    if "refused" in facts:
        return {"refused": facts["refused"]}
    rows = {
        "size": f"{facts['engine_bytes'] / 2**20:.1f} MiB, {facts['device_bytes'] / 2**20:.1f} MiB of device memory",
        "built in": f"{facts['build_seconds']:.0f} s",
        "deviation from the model": str(Deviation(**facts["parity"])),
    }
    if "int8" in facts:
        calibrated = facts["int8"]
        kept = len(calibrated["kept"])
        total = kept + len(calibrated["quantized"])
        rows["int8"] = f"{total - kept} of {total} layers, calibrated on {calibrated['frames']}"
    return rows


def _build(
    model: ModelFile | MotionModelFile,
    options: EngineOptions,
    frames: ModelFrames | None,
    report: Report,
    rebuild: bool,
) -> CachedEngine:
    try:
        from depth_node.backends.tensorrt.engines import build_engine
    except ImportError as error:
        raise BackendError(f"TensorRT cannot be used here ({error}): pip install 'depth_node[tensorrt]'") from error
    return build_engine(model, options, MeasuredRecipe(frames), report, rebuild=rebuild)


@contextmanager
def _progress(console: Console) -> Iterator[Report]:
    """One bar that says what is going on; lines where the output is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None)
        said: list[str] = []

        def report(what: str, share: float) -> None:
            if not console.is_terminal and [what] != said[-1:]:
                said.append(what)
                console.print(what)
            known = math.isfinite(share)
            bars.update(task, description=what, total=1.0 if known else None, completed=share if known else 0.0)

        yield report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build_engine", description=__doc__)
    parser.add_argument("model", help="path of an ONNX file, or the name of a shipped model")
    parser.add_argument("--precision", choices=ENGINE_PRECISIONS, default="fp16")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="PATH",
        help="bag, or folder of pictures, of your camera: int8 is calibrated and the engine compared on its frames",
    )
    parser.add_argument("--topic", help="image topic of the bag, where it has several")
    parser.add_argument(
        "--frames",
        type=int,
        default=CALIBRATION_FRAMES,
        metavar="N",
        help="frames to take, evenly over the bag or folder (%(default)s)",
    )
    parser.add_argument(
        "--workspace",
        type=int,
        default=0,
        metavar="MIB",
        help="device memory that a layer may use, in MiB; 0: all there is",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images of one inference (the node has 1)")
    parser.add_argument("--rebuild", action="store_true", help="build even if there is one in the cache")
    parser.add_argument(
        "--graph",
        type=Path,
        metavar="FILE",
        help="write the graph in that precision as a model file, which every backend runs, and build no engine",
    )
    return parser
