"""What float16 and int8 cost in accuracy: relative deviation of depth from float32, on pictures of your own; no GPU.

float16 is computed with the roundings that tensor cores make (half_rounding.py). int8 needs a model that was calibrated
(`build_engine --precision int8 --calibration PATH --graph FILE`), on other pictures than these.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from common import report
from half_rounding import rounded_like_half

from depth_node.backends import available_backends, create_backend
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.model import ModelFile, read_model, write_model
from depth_node.precision.execution import running
from depth_node.precision.frames import ModelFrames, read_frames
from depth_node.precision.graph import clean_graph
from depth_node.precision.int8 import load_int8
from depth_node.precision.parity import Inputs, measure_deviation
from depth_node.precision.recipe import MeasuredRecipe
from depth_node.resources import find_model


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+", help="bags or folders of pictures, each with rows of its own")
    parser.add_argument("--model", default="depth-base", help="model file, or the name of a shipped one (%(default)s)")
    parser.add_argument("--frames", type=int, default=100, help="frames of each, evenly (%(default)s)")
    parser.add_argument("--graphs", type=Path, help="folder to leave the float16 and int8 graphs in, as model files")
    arguments = parser.parse_args()
    model = read_model(find_model(arguments.model))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        candidates = precision_models(model, arguments.graphs or Path(folder))
        for pictures in arguments.pictures:
            frames = read_frames(model, pictures, arguments.frames, lambda *_: None)
            for name, (file, backend) in candidates.items():
                if backend not in available_backends():
                    continue
                rows.append({"pictures": pictures.name, "precision": name, **deviation(model, file, backend, frames)})
    report("precision", rows, model=model.path.name)
    return 0


def precision_models(model: ModelFile, folder: Path) -> dict[str, tuple[ModelFile, str]]:
    """Model file and backend of each row."""
    half = MeasuredRecipe().prepare(model, EngineOptions("fp16"), lambda *_: None)
    graph = rounded_like_half(onnx.load_model_from_string(half.onnx))
    found = {"fp16": (write_model(graph, model.spec, folder / "fp16.onnx"), "onnxruntime")}
    quantized = load_int8(model)
    if quantized is None:
        print("no int8 rows: the model has not been calibrated")
    else:
        file = write_model(quantized.graph, model.spec, folder / "int8.onnx")
        found |= {"int8, others fp32": (file, "onnxruntime"), "int8 as OpenVINO runs it": (file, "openvino")}
    return found | {"OpenVINO's own choice": (model, "openvino")}


def deviation(model: ModelFile, file: ModelFile, backend: str, frames: ModelFrames) -> dict[str, Any]:
    """From the model in float32."""
    candidate = create_backend(file, backend)

    def run(inputs: Inputs) -> dict[str, Any]:
        return {model.outputs[0]: candidate.infer(inputs[model.inputs[0]]).output}

    with running(model, clean_graph(onnx.load(model.path))) as reference:
        measured = measure_deviation(model, run, reference.run, frames.inputs, frames.source, reference.library)
    candidate.close()
    names = ("median", "p95", "maximum", "worst_frame_median")
    return {"frames": measured.frames, **{f"{name}_percent": 100 * getattr(measured, name) for name in names}}


if __name__ == "__main__":
    sys.exit(main())
