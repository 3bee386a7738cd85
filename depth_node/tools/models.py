"""List the models that come with the package, verify their files, or explain one: its card and what it is not for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from rich import box
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Column, Table

from depth_node.backends import available_backends, create_backend, create_motion_backend
from depth_node.errors import BackendError, ModelFileError
from depth_node.model import ModelFile, MotionModelFile, read_any_model
from depth_node.model_graph import weight_count
from depth_node.precision.frames import synthetic_frames
from depth_node.precision.parity import Inputs
from depth_node.shipped_models import MeasuredFacts, ShippedModel, shipped_model, shipped_models


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 when a model does not pass `verify`.

    Raises:
        ModelFileError: there is no model of that name, or one that is to be listed is damaged.
    """
    arguments = _parser().parse_args(argv)
    console = Console()
    if arguments.action == "verify":
        chosen = [shipped_model(name) for name in arguments.names] if arguments.names else shipped_models()
        checks = [check for model in chosen for check in verify(model)]
        console.print(check_table(checks))
        return 0 if all(check.is_good for check in checks) else 1
    if arguments.action == "explain":
        explain(shipped_model(arguments.name), console)
        return 0
    described = [describe(model) for model in shipped_models()]
    if arguments.json:
        print(json.dumps(described, indent=2))
    else:
        console.print(listing(described))
    return 0


def describe(shipped: ShippedModel) -> dict[str, Any]:
    """What the list has of a model, as JSON has it. score: empty where it was not measured, or on another file."""
    model = read_any_model(shipped.path)
    facts = shipped.facts
    return {
        "name": shipped.name,
        "kind": model.spec.kind,
        "input": f"{model.spec.input_width}x{model.spec.input_height}",
        "arithmetic": "int8" if model.is_quantized else "float",
        "megabytes": round(shipped.path.stat().st_size / 1e6, 1),
        "parameters": weight_count(onnx.load(shipped.path)),
        "license": model.spec.license,
        "score": facts.score if facts and is_of(facts, model) else "",
        "recipe": facts.recipe if facts else model.spec.recipe,
        "path": str(shipped.path),
    }


def is_of(facts: MeasuredFacts, model: ModelFile | MotionModelFile) -> bool:
    """Whether the measurements are of this very file."""
    return facts.checksum == model.checksum


def listing(described: Sequence[dict[str, Any]]) -> Table:
    """One row a model, 80 columns wide; what there is no room for, `explain` says."""
    narrow = [Column(name, no_wrap=True) for name in ("name", "kind", "input", "in", "MB", "weights")]
    table = Table(*narrow, "score", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in described:
        numbers = (f"{row['megabytes']:.1f}", f"{row['parameters'] / 1e6:.1f} M", row["score"] or "-")
        table.add_row(row["name"], row["kind"], row["input"], row["arithmetic"], *numbers)
    return table


@dataclass(frozen=True)
class Check:
    """One thing that was verified of a model, and what came out."""

    model: str
    what: str
    is_good: bool
    result: str


def verify(shipped: ShippedModel) -> list[Check]:
    """Checksum and contract of the file, whether its measurements are of it, and one inference in each backend."""
    try:
        model = read_any_model(shipped.path)
    except ModelFileError as error:
        return [Check(shipped.name, "checksum, contract", False, str(error))]
    checks = [Check(shipped.name, "checksum, contract", True, model.checksum[:12])]
    if shipped.facts is not None:
        is_good = is_of(shipped.facts, model)
        of_this = "of this file" if is_good else f"of another file ({shipped.facts.checksum[:12]})"
        checks.append(Check(shipped.name, "measurements", is_good, of_this))
    inputs = synthetic_frames(model).inputs[0]
    return [*checks, *(_inference(shipped.name, model, backend, inputs) for backend in available_backends())]


def _inference(name: str, model: ModelFile | MotionModelFile, backend: str, inputs: Inputs) -> Check:
    what = f"inference, {backend}"
    try:
        if isinstance(model, MotionModelFile):
            motion = create_motion_backend(model, backend)
            found = motion.infer(*inputs.values())
            motion.close()
            numbers = np.concatenate([found.axis_angle, found.translation, found.intrinsics], axis=None)
            focal = float(np.ravel(found.intrinsics)[0])
            return Check(name, what, bool(np.isfinite(numbers).all() and focal > 0), f"fx/W {focal:.3f}")
        depth = create_backend(model, backend)
        output = depth.infer(*inputs.values()).output
        depth.close()
    except BackendError as error:
        return Check(name, what, False, str(error))
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = 1 / output if model.spec.output == "disparity" else output
    in_range = (metres >= model.spec.min_depth * 0.999) & (metres <= model.spec.max_depth * 1.001)
    if not in_range.any():
        return Check(name, what, False, "no depth within the model's range")
    median = f"median {np.median(metres[in_range]):.1f} {'m' if model.spec.metric else '(up to scale)'}"
    return Check(name, what, True, f"{in_range.mean():.0%} of pixels have depth, {median}, on a synthetic street")


def check_table(checks: Sequence[Check]) -> Table:
    """One row a check."""
    table = Table("model", "what", "", "result")
    for check in checks:
        table.add_row(check.model, check.what, "ok" if check.is_good else "[bold red]FAILED[/]", check.result)
    return table


def explain(shipped: ShippedModel, console: Console) -> None:
    """Print what the list has of a model, and its card."""
    row = describe(shipped)
    table = Table(show_header=False)
    for key in ("name", "kind", "input", "arithmetic", "megabytes", "parameters", "license", "score", "recipe", "path"):
        table.add_row(key, str(row[key]) or "not measured")
    console.print(table)
    if shipped.card is None:
        console.print("It has no card: nothing is known of what it is good for.")
    else:
        console.print(Markdown(shipped.card.read_text(encoding="utf-8")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="models", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    actions = parser.add_subparsers(dest="action", metavar="{list,verify,explain}")
    actions.add_parser("list", help="names, sizes, scores and licences (this is what happens without an action)")
    check = actions.add_parser("verify", help="checksums, contracts, one inference in each installed backend")
    check.add_argument("names", nargs="*", metavar="NAME", help="models to verify; all if none is named")
    card = actions.add_parser("explain", help="the card of a model: data, training, scores, and what it is not for")
    card.add_argument("name", metavar="NAME")
    return parser
