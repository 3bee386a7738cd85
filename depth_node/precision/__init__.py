"""Precision comes from the graph: a model's ONNX graph in float32, float16 or int8, and what that costs in accuracy.

Knows neither TensorRT nor torch. `prepare_graph` is what an engine builder calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.graph import clean_graph, outer_nodes
from depth_node.precision.half import to_half
from depth_node.precision.int8 import load_int8

PRECISIONS = ("fp32", "tf32", "fp16", "int8")


@dataclass(frozen=True)
class PreparedGraph:
    """What a parser gets.

    onnx: a serialised ONNX model. float_layers: names of the nodes that are to be computed in float32 in any case.
    description: which part has which precision, in words.
    """

    onnx: bytes
    float_layers: frozenset[str]
    description: str


def prepare_graph(model: ModelFile | MotionModelFile, precision: str, strongly_typed: bool) -> PreparedGraph:
    """The graph of a model in one of `PRECISIONS`.

    strongly_typed: the types of the graph are those of the engine. Otherwise the graph is in float32 (with Q/DQ pairs
    for int8), and the builder has to be allowed float16 for fp16 and int8.

    Raises:
        BackendError: int8, and the model has not been calibrated.
        ModelFileError: a weight is too large for float16.
    """
    graph = clean_graph(onnx.load(model.path))
    float_layers = outer_nodes(graph)
    if precision == "int8":
        quantized = load_int8(model)
        if quantized is None:
            raise BackendError(
                f"int8 needs calibration on frames of your camera, which {model.path.name} has not had: "
                f"python -m depth_node build_engine {model.path} --precision int8 --calibration BAG_OR_FOLDER"
            )
        prepared = to_half(quantized.graph) if strongly_typed else quantized.graph
        return PreparedGraph(prepared.SerializeToString(deterministic=True), float_layers, f"{quantized}, others fp16")
    if precision == "fp16":
        prepared = to_half(graph) if strongly_typed else graph
        description = f"fp16, but for {len(float_layers)} nodes at the start and the end in fp32"
        return PreparedGraph(prepared.SerializeToString(deterministic=True), float_layers, description)
    return PreparedGraph(graph.SerializeToString(deterministic=True), frozenset(), precision)
