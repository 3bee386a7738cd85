"""What a TensorRT engine is built from, and how it is proved. Needs neither TensorRT nor a device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from depth_node.backends.engine_cache import Progress
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.batch import with_batch
from depth_node.precision.execution import running
from depth_node.precision.frames import ModelFrames, synthetic_frames
from depth_node.precision.graph import clean_graph, outer_nodes
from depth_node.precision.half import to_half
from depth_node.precision.image_inputs import cast_images_first
from depth_node.precision.int8 import Int8Graph, load_int8
from depth_node.precision.parity import Run, check_deviation, measure_deviation
from depth_node.precision.storage import restore_quantized_weights

_CHECKED_FRAMES = 8


@dataclass(frozen=True)
class PreparedGraph:
    """What a parser gets.

    onnx: a serialised ONNX model. facts: what is to be kept of it with the engine, as JSON has it. float_layers: names
    of the nodes that are float32 in any case, for builders that do not follow the graph's types.
    """

    onnx: bytes
    facts: Mapping[str, Any]
    float_layers: frozenset[str]


class MeasuredRecipe:
    """The `EngineRecipe` of model files.

    frames: to compare engines with the model on; None for frames of a synthetic street.
    """

    def __init__(self, frames: ModelFrames | None = None) -> None:
        self._frames = frames

    def fingerprint(self, model: ModelFile | MotionModelFile, options: EngineOptions) -> str:
        """What the graph depends on beside the model and the options: the calibration of an int8 graph."""
        if options.precision != "int8" or model.is_quantized:
            return ""
        return hashlib.sha256(calibrated(model).graph.SerializeToString(deterministic=True)).hexdigest()

    def prepare(
        self,
        model: ModelFile | MotionModelFile,
        options: EngineOptions,
        progress: Progress,
        strongly_typed: bool = True,
    ) -> PreparedGraph:
        """The graph of a model in the precision of `options`.

        strongly_typed: its types are those of the engine. Otherwise it is in float32, with Q/DQ pairs for int8, and
        the builder has to be allowed float16 for fp16 and int8.

        Raises:
            BackendError: int8, and the model has not been calibrated; or another precision of a model that is int8
                itself.
            ModelFileError: a weight is too large for float16, something is computed with the image's bytes, or the
                model cannot be run in batches.
        """
        progress("preparing the graph", 0.0)
        facts: dict[str, Any] = {}
        graph = clean_graph(onnx.load(model.path))
        float_layers = outer_nodes(graph)
        if model.is_quantized:
            _expect_int8(model, options)
            restore_quantized_weights(graph)
        elif options.precision == "int8":
            quantized = calibrated(model)
            graph = quantized.graph
            facts["int8"] = quantized.facts
        graph = with_batch(graph, options.batch)
        if options.precision in ("fp16", "int8"):
            facts["fp32_layers"] = sorted(float_layers)
            graph = to_half(graph) if strongly_typed else graph
        else:
            float_layers = frozenset()
        graph = cast_images_first(graph)
        progress("preparing the graph", 1.0)
        return PreparedGraph(graph.SerializeToString(deterministic=True), facts, float_layers)

    def check(
        self, model: ModelFile | MotionModelFile, options: EngineOptions, run: Run, progress: Progress
    ) -> Mapping[str, Any]:
        """The engine's deviation from the model in float32, under `parity` (`Deviation`).

        run: the engine, from inputs to outputs by name, `options.batch` images at once.

        Raises:
            BackendError: it is beyond the tolerance of its precision (`TOLERANCES`).
        """
        frames = (self._frames or synthetic_frames(model)).first(_CHECKED_FRAMES)

        def run_repeated(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
            """The frame in every place of the batch; what the last place gives."""
            outputs = run({name: np.repeat(array, options.batch, axis=0) for name, array in inputs.items()})
            return {name: array[-1:] for name, array in outputs.items()}

        with running(model, clean_graph(onnx.load(model.path))) as reference:
            deviation = measure_deviation(
                model, run_repeated, reference.run, frames.inputs, frames.source, reference.library, progress
            )
        check_deviation(deviation, options.precision, f"the {options.precision} engine of {model.path.name}")
        return {"parity": deviation.to_dict()}


def auto_precisions(model: ModelFile | MotionModelFile) -> tuple[str, ...]:
    """What to try in turn where nobody asked for a precision: an engine that deviates from its model is refused."""
    return ("int8",) if model.is_quantized else ("fp16", "fp32")


def _expect_int8(model: ModelFile | MotionModelFile, options: EngineOptions) -> None:
    if options.precision != "int8":
        raise BackendError(
            f"{model.path.name} is in int8 itself, not in {options.precision}: take precision auto or int8, or the "
            "model that it was made of"
        )


def calibrated(model: ModelFile | MotionModelFile) -> Int8Graph:
    quantized = load_int8(model)
    if quantized is None:
        raise BackendError(
            f"int8 needs calibration on frames of your camera, which {model.path.name} has not had: "
            f"python -m depth_node build_engine {model.path} --precision int8 --calibration BAG_OR_FOLDER"
        )
    return quantized
