"""A stand-in for TensorRT's builder: an engine is its ONNX graph, and how it was built is kept."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import onnx
from google.protobuf.message import DecodeError

_TYPES = {onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF"}


class FakeBuilder:
    """What `tensorrt_module` is given. builds: one entry an engine; wrong: factor on what engines compute.

    failure: why no engine can be built; phases: reported to a progress monitor.
    """

    def __init__(self) -> None:
        self.builds: list[SimpleNamespace] = []
        self.wrong: dict[str, float] = {}
        self.failure = ""
        self.phases = (("Building", 2),)
        outer = self

        class Builder:
            def __init__(self, logger: Any) -> None:
                self._logger = logger

            def create_network(self, flags: int = 0) -> SimpleNamespace:
                return SimpleNamespace(flags=flags, layers=[])

            def create_builder_config(self) -> Config:
                return Config()

            def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
                return outer._build(network, config, self._logger)

        class OnnxParser:
            def __init__(self, network: Any, logger: Any) -> None:
                self._network = network
                self._errors: list[str] = []

            def parse(self, model: bytes) -> bool:
                try:
                    graph = onnx.load_model_from_string(model)
                except DecodeError:
                    self._errors.append("Failed to parse the ONNX model")
                    return False
                self._network.graph = graph
                self._network.layers = [Layer(node) for node in graph.graph.node]
                self._network.num_layers = len(self._network.layers)
                self._network.get_layer = self._network.layers.__getitem__
                return True

            @property
            def num_errors(self) -> int:
                return len(self._errors)

            def get_error(self, index: int) -> Any:
                return SimpleNamespace(desc=lambda: self._errors[index])

        self.Builder, self.OnnxParser = Builder, OnnxParser

    def _build(self, network: Any, config: Config, logger: Any) -> bytes | None:
        for name, steps in self.phases if hasattr(config, "progress_monitor") else ():
            config.progress_monitor.phase_start(name, None, steps)
            if not all(config.progress_monitor.step_complete(name, step) for step in range(steps)):
                return None
            config.progress_monitor.phase_finish(name)
        if self.failure:
            logger.log(logger.Severity.ERROR, self.failure)
            return None
        kept = {layer.name for layer in network.layers if layer.precision is not None}
        if fault := _works_on_bytes(network.graph):
            logger.log(logger.Severity.ERROR, fault)
            return None
        self.builds.append(SimpleNamespace(network=network, config=config, kept=kept))
        values = (*network.graph.graph.input, *network.graph.graph.output)
        plan = {
            "tensors": [
                (
                    value.name,
                    [dim.dim_value for dim in value.type.tensor_type.shape.dim],
                    _TYPES[value.type.tensor_type.elem_type],
                )
                for value in values
            ],
            "outputs": [value.name for value in network.graph.graph.output],
            "onnx": base64.b64encode(network.graph.SerializeToString()).decode(),
            "wrong": self.wrong.get(config.precision, 1),
        }
        return json.dumps(plan).encode()


def _works_on_bytes(model: onnx.ModelProto) -> str:
    """TensorRT casts inputs in bytes, and does nothing else with them."""
    images = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    guilty = [n.name for n in model.graph.node if images.intersection(n.input) and n.op_type != "Cast"]
    return f"{guilty[0]}: UINT8 is not supported" if guilty else ""


class Layer:
    """A node; precision as it was set. Outputs are taken to be float32, but for those of casts to other types."""

    def __init__(self, node: Any) -> None:
        self.name = node.name
        self.precision: Any = None
        self._is_float = node.op_type != "Cast" or node.attribute[0].i == onnx.TensorProto.FLOAT

    def get_output(self, index: int) -> Any:
        import tensorrt

        return SimpleNamespace(dtype=tensorrt.DataType.FLOAT if self._is_float else None)


class Config:
    """Of a build. flags: by name; TF32 is on at first, as in TensorRT."""

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.workspace: int | None = None
        self.tactics: int | None = None
        self._timings: Any = None

    @property
    def precision(self) -> str:
        return "fp32" if "TF32" not in self.flags else "other"

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        assert pool.name == "WORKSPACE"
        self.workspace = pool_size

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self.tactics = tactic_sources
        return True

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return SimpleNamespace(content=bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        """Takes timings of its own device alone."""
        assert not ignore_mismatch
        self._timings = cache
        return cache.content in (b"", b"timings")

    def get_timing_cache(self) -> Any:
        self.used_timings = self._timings.content
        return SimpleNamespace(serialize=lambda: b"timings")
