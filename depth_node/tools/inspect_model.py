"""Check a model file and print its contract; optionally time it on the installed backends."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from depth_node.backends import available_backends, create_backend, create_motion_backend
from depth_node.backends.engine_cache import EngineCache, EngineRecord
from depth_node.backends.interface import Loaded
from depth_node.model import ModelFile, ModelSpec, MotionModelFile, read_any_model
from depth_node.precision.int8 import load_int8
from depth_node.precision.parity import Deviation
from depth_node.resources import find_model
from depth_node.tools.build_engine import engine_rows

BENCHMARK_RUNS = 30


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when the file follows the contract.

    Raises:
        ModelFileError: it does not; the message says what was found and expected.
    """
    parser = argparse.ArgumentParser(prog="inspect_model", description=__doc__)
    parser.add_argument("model", help="path of an ONNX file, or the name of a shipped model")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--benchmark", action="store_true", help="time inference on every installed backend")
    arguments = parser.parse_args(argv)

    model = read_any_model(find_model(arguments.model))
    timings = [time_backend(model, name) for name in available_backends()] if arguments.benchmark else []
    built, quantized = EngineCache().of_model(model.checksum), load_int8(model)
    if arguments.json:
        spec = dataclasses.asdict(model.spec)
        if isinstance(model, ModelFile):
            spec["has_confidence"] = model.spec.has_confidence
        engines = [{"path": str(record.path), **record.key, **record.facts} for record in built]
        contract = {"path": str(model.path), "checksum": model.checksum, **spec, "engines": engines}
        print(json.dumps({**contract, "benchmark": timings} if arguments.benchmark else contract, indent=2))
        return 0
    console = Console()
    console.print(contract_table(model))
    if quantized is not None:
        console.print(f"{quantized}; deviation: {Deviation(**quantized.facts['deviation'])}", soft_wrap=True)
    for record in built:
        console.print(engine_table(record))
    if timings:
        console.print(timing_table(timings))
    return 0


def time_backend(model: ModelFile | MotionModelFile, name: str) -> dict[str, Any]:
    """Median and 95th percentile of inference in milliseconds."""
    rng = np.random.default_rng(0)
    size = (1, model.spec.input_height, model.spec.input_width, 3)
    images = [rng.integers(0, 256, size, np.uint8) for _ in model.inputs]
    infer, backend = _loaded(model, name)
    infer(*images)
    seconds = []
    for _ in range(BENCHMARK_RUNS):
        started = perf_counter()
        infer(*images)
        seconds.append(perf_counter() - started)
    backend.close()
    median, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return {
        "backend": name,
        "precision": backend.precision,
        "device": backend.device,
        "median_ms": round(float(median), 3),
        "p95_ms": round(float(p95), 3),
    }


def _loaded(model: ModelFile | MotionModelFile, name: str) -> tuple[Callable[..., object], Loaded]:
    """Inference from the model's images, and what is to be closed after it."""
    if isinstance(model, MotionModelFile):
        motion = create_motion_backend(model, name)
        return motion.infer, motion
    depth = create_backend(model, name)
    return depth.infer, depth


def contract_table(model: ModelFile | MotionModelFile) -> Table:
    """The contract, one row a property."""
    spec = model.spec
    table = Table(title=str(model.path), show_header=False, title_justify="left")
    rows = {
        "kind": spec.kind,
        **(_motion_rows(model) if isinstance(model, MotionModelFile) else _depth_rows(model.spec)),
        "arithmetic": "int8 where the graph has Q/DQ pairs" if model.is_quantized else "the backend's choice",
        "dataset": spec.dataset,
        "license": spec.license,
        "recipe": spec.recipe,
        "checksum": f"{model.checksum} (matches)",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _motion_rows(model: MotionModelFile) -> dict[str, str]:
    spec = model.spec
    return {
        "input": f"{', '.join(model.inputs)}: each uint8 [1, {spec.input_height}, {spec.input_width}, 3], {spec.color}",
        "output": ", ".join(model.outputs),
        "metric": "yes" if spec.metric else "no: translations are up to one unknown scale",
    }


def _depth_rows(spec: ModelSpec) -> dict[str, str]:
    fx, fy, cx, cy = spec.intrinsics_prior
    unit = "m" if spec.metric else "(up to scale)"
    return {
        "input": _input_text(spec),
        "output": spec.output
        if spec.float_input
        else f"{spec.output} float32 [1, {spec.input_height}, {spec.input_width}]",
        "confidence": f"'{spec.confidence_output}', 0 to 1 (sure)" if spec.has_confidence else "none",
        "depth range": f"{spec.min_depth:g} to {spec.max_depth:g} {unit}",
        "metric": "yes, for the prior's focal length" if spec.metric else "no: up to one unknown scale",
        "intrinsics prior": f"fx/W {fx:.4f}, fy/H {fy:.4f}, (cx + 0.5)/W {cx:.4f}, (cy + 0.5)/H {cy:.4f}",
    }


def engine_table(record: EngineRecord) -> Table:
    """A TensorRT engine of the model in the cache: what it is for, and how far its numbers are from the model's."""
    key = record.key
    title = f"engine {key['precision']}: {key['device']} ({key['compute_capability']}), TensorRT {key['tensorrt']}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_row("file", str(record.path))
    table.add_row("inputs", ", ".join(f"{name} {list(shape)}" for name, shape in key["shapes"].items()))
    for name, value in engine_rows(record.facts).items():
        table.add_row(name, value)
    return table


def timing_table(timings: list[dict[str, Any]]) -> Table:
    """One row a backend."""
    table = Table("backend", "precision", "device", "median ms", "p95 ms")
    for timing in timings:
        table.add_row(*(str(value) for value in timing.values()))
    return table


def _input_text(spec: ModelSpec) -> str:
    height, width = spec.input_height, spec.input_width
    if spec.float_input is None:
        return f"image uint8 [1, {height}, {width}, 3], {spec.color}"
    shape = f"[1, 3, {height}, {width}]" if spec.float_input.layout == "NCHW" else f"[1, {height}, {width}, 3]"
    return f"float32 {shape}, {spec.color}, mean {spec.float_input.mean}, std {spec.float_input.std}"
