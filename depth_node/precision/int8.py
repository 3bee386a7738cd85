"""The int8 graph of a model: calibrated, its layers chosen by measurement, kept in the user's cache."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, helper

from depth_node.backends.engine_cache import Progress
from depth_node.errors import BackendError, DepthNodeError
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.calibration import activation_limits
from depth_node.precision.frames import ModelFrames
from depth_node.precision.graph import clean_graph
from depth_node.precision.parity import Tolerance
from depth_node.precision.quantization import quantizable_layers, quantize
from depth_node.precision.selection import Selection, select_layers
from depth_node.precision.storage import store_quantized_weights, store_weights_as_half
from depth_node.resources import cache_directory

# What the choice of layers aims at: half of what an engine may have, which adds float16 and its own kernels.
TARGET = Tolerance(median=5e-3, p95=2.5e-2)

_FACTS_KEY = "depth_node.int8"
_SELECTION_FRAMES = 8

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Int8Graph:
    """A graph with Q/DQ pairs, float32 elsewhere, opset 17; it stores its facts (JSON) as metadata.

    facts: `frames` (what it was calibrated on, in words), `quantized` (layers), `kept` (layers that are not, with the
    95th percentile of the deviation that each alone would cause), `deviation` (of the whole graph: `Deviation`).
    """

    graph: ModelProto
    facts: dict[str, Any]

    def __str__(self) -> str:
        kept, quantized = len(self.facts["kept"]), len(self.facts["quantized"])
        return f"{quantized} of {quantized + kept} layers in int8, calibrated on {self.facts['frames']}"


def calibrate_int8(model: ModelFile | MotionModelFile, frames: ModelFrames, progress: Progress) -> Int8Graph:
    """Quantise as many layers as `TARGET` allows on these frames.

    Raises:
        BackendError: not a single layer can be quantised, the model is int8 already, or ONNX Runtime is not installed.
    """
    if model.is_quantized:
        raise BackendError(f"{model.path} is in int8 already: calibrate the model that it was made of")
    if importlib.util.find_spec("onnxruntime") is None:
        raise BackendError("calibration runs the model in ONNX Runtime: pip install onnxruntime")
    graph = clean_graph(onnx.load(model.path))
    layers = quantizable_layers(graph)
    limits = activation_limits(model, graph, layers, frames.inputs, progress)
    sample = frames.first(_SELECTION_FRAMES)
    selection = select_layers(model, graph, limits, sample.inputs, TARGET, sample.source, progress)
    if not selection.layers:
        raise BackendError(
            f"{model.path}: none of its {len(layers)} layers can be int8 with a relative deviation of at most "
            f"{TARGET.median:.1%} (median) and {TARGET.p95:.1%} (95 %) on {sample.source}; use fp16"
        )
    return _described(quantize(graph, limits, selection.layers), selection, frames.source)


def as_model(quantized: Int8Graph) -> ModelProto:
    """The graph as a model file stores it: quantised weights as int8, the others as float16."""
    model = ModelProto()
    model.CopyFrom(quantized.graph)
    store_quantized_weights(model)
    store_weights_as_half(model)
    del model.metadata_props[:]
    return model


def save_int8(model: ModelFile | MotionModelFile, quantized: Int8Graph) -> Path:
    """Keep it for `load_int8`; replaces the one before."""
    path = _path(model)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(quantized.graph.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load_int8(model: ModelFile | MotionModelFile) -> Int8Graph | None:
    """The int8 graph of this very model (by its checksum), if it has been calibrated."""
    try:
        path = _path(model)
        graph = onnx.load(path)
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        return Int8Graph(graph, json.loads(metadata[_FACTS_KEY]))
    except FileNotFoundError:
        return None
    except (DecodeError, KeyError, json.JSONDecodeError):
        _LOGGER.warning("the calibrated int8 graph %s is damaged and is not used; calibrate again", path)
        return None
    except (DepthNodeError, OSError) as error:
        _LOGGER.warning("the calibrated int8 graph cannot be read: %s", error)
        return None


def _described(graph: ModelProto, selection: Selection, source: str) -> Int8Graph:
    facts = {
        "frames": source,
        "quantized": list(selection.layers),
        "kept": dict(selection.kept),
        "deviation": selection.deviation.to_dict(),
    }
    del graph.metadata_props[:]
    helper.set_model_props(graph, {_FACTS_KEY: json.dumps(facts)})
    return Int8Graph(graph, facts)


def _path(model: ModelFile | MotionModelFile) -> Path:
    return cache_directory("int8") / f"{model.checksum}.onnx"
