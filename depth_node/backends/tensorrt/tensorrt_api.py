"""The one place that knows TensorRT, 8.6 to 11: engines built from ONNX, engines loaded and run.

Versions differ in where precision comes from (`STRONGLY_TYPED`): from 10 on, the graph's types are the precision, and
11 knows nothing else; in 8.6, flags allow the builder less than float32, and layers may be kept in it.

Without a device, TensorRT 8.6 ends the whole process (`Runtime`): ask `cuda_api.device` first.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import tensorrt as trt

from depth_node.backends.engine_cache import Progress
from depth_node.backends.interface import one_line
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError
from depth_node.precision.recipe import PreparedGraph

VERSION: str = trt.__version__
MAJOR = int(VERSION.split(".", maxsplit=1)[0])
STRONGLY_TYPED = MAJOR >= 10

_OLDEST = (8, 6)
_NUMPY_TYPES = {trt.DataType.FLOAT: np.float32, trt.DataType.HALF: np.float16, trt.DataType.UINT8: np.uint8}

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine. dtype: of numpy."""

    name: str
    shape: tuple[int, ...]
    dtype: type
    is_input: bool


class EngineUnreadableError(BackendError):
    """A serialised engine that this TensorRT, device or driver does not take."""


class _TrtLogger(trt.ILogger):
    """Keeps the last errors, which TensorRT reports in no other way."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=3)
        self._warnings: deque[str] = deque(maxlen=1)

    def log(self, severity: Any, message: str) -> None:
        """Called by TensorRT, from any of its threads."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self._errors.append(message)
        elif severity == trt.ILogger.Severity.WARNING:
            self._warnings.append(message)
            _LOGGER.debug("TensorRT: %s", message)

    def reason(self, otherwise: str = "it does not say why") -> str:
        """The last errors in one line, or else the last warning; they are forgotten."""
        errors = list(self._errors) or list(self._warnings)
        self._errors.clear()
        self._warnings.clear()
        return " ".join("; ".join(errors).split()) or otherwise


@lru_cache(maxsize=1)
def _logger() -> _TrtLogger:
    """One for the process, since TensorRT takes no other after the first."""
    if tuple(int(part) for part in VERSION.split(".")[:2]) < _OLDEST:
        raise BackendError(f"TensorRT {VERSION} is too old; expected 8.6 or newer")
    return _TrtLogger()


def build(graph: PreparedGraph, options: EngineOptions, timings: bytes, progress: Progress) -> tuple[bytes, bytes]:
    """A serialised engine, and the timing cache after it. Takes minutes; other Python threads run meanwhile.

    graph: prepared for this precision and `STRONGLY_TYPED`.
    timings: of an earlier build on this device, empty if there was none.
    progress: told each phase; what it raises gives the build up (at once from TensorRT 10 on).

    Raises:
        BackendError: TensorRT cannot build it; says why.
    """
    logger = _logger()
    builder = _made("a builder", lambda: trt.Builder(logger))
    network = builder.create_network(_network_flags())
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.onnx):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise BackendError(f"TensorRT {VERSION} cannot read the model: {' '.join(errors.split()) or logger.reason()}")
    config = builder.create_builder_config()
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * 2**20)
    _set_precision(config, network, options.precision, graph.float_layers)
    _set_tactics(config)
    _set_timings(config, timings)
    monitor = _watched(config, progress)
    progress("building", float("nan"))
    engine = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped_by is not None:
        raise monitor.stopped_by
    if engine is None:
        raise BackendError(f"TensorRT {VERSION} cannot build the engine: {logger.reason()}")
    return bytes(engine), bytes(config.get_timing_cache().serialize())


def _network_flags() -> int:
    if MAJOR >= 10:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    else:
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def _set_precision(config: Any, network: Any, precision: str, float_layers: Collection[str]) -> None:
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default
    else:
        config.set_flag(trt.BuilderFlag.TF32)
    if MAJOR < 10 and precision in ("fp16", "int8"):
        config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
        for layer in (network.get_layer(index) for index in range(network.num_layers)):
            if layer.name in float_layers and layer.get_output(0).dtype == trt.DataType.FLOAT:
                layer.precision = trt.DataType.FLOAT
        if precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)


def _set_timings(config: Any, timings: bytes) -> None:
    """Kernels that were timed before are not timed again; timings that TensorRT does not take are left out."""
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _set_tactics(config: Any) -> None:
    """Kernels of TensorRT's own: cuBLAS and cuDNN cost hundreds of megabytes; from 10 on they are off by default."""
    if MAJOR < 10:
        own = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in own))


def _watched(config: Any, progress: Progress) -> Any:
    """Has TensorRT report its progress, where it can; the monitor."""
    if MAJOR >= 10:

        class Monitor(trt.IProgressMonitor):
            """Phases nest; the share is that of the one that reported last. Called from TensorRT's threads."""

            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)
                self.stopped_by: BaseException | None = None
                self._steps: dict[str, int] = {}

            def phase_start(self, name: str, parent: str | None, steps: int) -> None:
                self._steps[name] = steps

            def step_complete(self, name: str, step: int) -> bool:
                try:
                    progress(name, (step + 1) / max(self._steps.get(name, 1), 1))
                except BaseException as error:  # may not pass through TensorRT
                    self.stopped_by = error
                return self.stopped_by is None

            def phase_finish(self, name: str) -> None:
                self._steps.pop(name, None)

        monitor = Monitor()
        config.progress_monitor = monitor
        return monitor
    return None


class Engine:
    """A deserialised engine with one execution context. Device memory goes back with `close`."""

    def __init__(self, serialized: bytes) -> None:
        logger = _logger()
        self._runtime = _made("a runtime", lambda: trt.Runtime(logger))
        try:
            self._engine = _made("an engine", lambda: self._runtime.deserialize_cuda_engine(serialized))
        except BackendError as error:
            raise error if "memory" in str(error).lower() else EngineUnreadableError(str(error)) from error
        self._context = _made("an execution context", self._engine.create_execution_context)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Inputs and outputs.

        Raises:
            BackendError: one has a type that no model of ours has.
        """
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return tuple(self._tensor(name) for name in names)

    def _tensor(self, name: str) -> Tensor:
        dtype = self._engine.get_tensor_dtype(name)
        if dtype not in _NUMPY_TYPES:
            expected = ", ".join(str(known) for known in _NUMPY_TYPES)
            raise BackendError(f"the engine's tensor '{name}' is of {dtype}; expected one of {expected}")
        is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        return Tensor(name, tuple(self._engine.get_tensor_shape(name)), _NUMPY_TYPES[dtype], is_input)

    @property
    def device_bytes(self) -> int:
        """Device memory of the execution context, beside weights, inputs and outputs."""
        if MAJOR >= 10:
            return int(self._engine.device_memory_size_v2)
        else:
            return int(self._engine.device_memory_size)

    def bind(self, name: str, address: int) -> None:
        """Use this device memory for an input or output.

        Raises:
            BackendError: it is refused.
        """
        if not self._context.set_tensor_address(name, address):
            raise BackendError(f"TensorRT {VERSION} refuses memory for '{name}': {_logger().reason()}")

    def enqueue(self, stream: int) -> None:
        """Put one inference into a stream.

        Raises:
            BackendError: it cannot be put there.
        """
        if not self._context.execute_async_v3(stream):
            raise BackendError(f"TensorRT {VERSION} cannot run the engine: {_logger().reason()}")

    def close(self) -> None:
        """Free the device's memory; the engine cannot be used any more."""
        self._context = self._engine = self._runtime = None


def _made(what: str, make: Callable[[], Any]) -> Any:
    """What TensorRT makes; it gives None, or its bindings raise, where it cannot."""
    try:
        made = make()
    except (TypeError, RuntimeError) as error:
        raise BackendError(f"TensorRT {VERSION} cannot make {what}: {_logger().reason(one_line(error))}") from error
    if made is None:
        raise BackendError(f"TensorRT {VERSION} cannot make {what}: {_logger().reason()}")
    return made
