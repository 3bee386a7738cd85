"""An engine at work: pinned memory, copies and kernels on a stream of its own, replayed as a CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.tensorrt.cuda_api import Buffer, Graph, Stream
from depth_node.backends.tensorrt.tensorrt_api import Engine
from depth_node.errors import BackendError

_LOGGER = logging.getLogger(__name__)


class EngineRunner:
    """Runs one engine. Several may be at work at once, each on its own stream and in its own thread.

    cuda_graph: whether to capture the inference once and replay it, which costs the CPU one call for each image.

    Raises:
        BackendError: the engine does not load, or there is too little memory.
    """

    def __init__(self, serialized: bytes, cuda_graph: bool = False) -> None:
        self._engine: Engine | None = None
        self._stream: Stream | None = None
        self._graph: Graph | None = None
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}
        try:
            self._engine = Engine(serialized)
            self._stream = Stream()
            for tensor in self._engine.tensors:
                buffer = Buffer(tensor.shape, tensor.dtype)
                (self._inputs if tensor.is_input else self._outputs)[tensor.name] = buffer
                self._engine.bind(tensor.name, buffer.address)
            if cuda_graph:
                self._capture()
        except BaseException:
            self.close()
            raise

    @property
    def device_bytes(self) -> int:
        """Device memory of the execution context and of inputs and outputs, beside the weights."""
        assert self._engine is not None
        buffers = (*self._inputs.values(), *self._outputs.values())
        return self._engine.device_bytes + sum(buffer.bytes for buffer in buffers)

    @property
    def has_graph(self) -> bool:
        """Whether inferences are replayed as a CUDA graph."""
        return self._graph is not None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `Session.run`.

        Raises:
            BackendError: the device fails, or the inputs are not those of the engine.
        """
        if self._stream is None:
            raise BackendError("the engine was closed")
        for name, buffer in self._inputs.items():
            array = inputs[name]
            if array.shape != buffer.array.shape or array.dtype != buffer.array.dtype:
                expected = f"{buffer.array.dtype} {list(buffer.array.shape)}"
                raise BackendError(f"'{name}' is {array.dtype} {list(array.shape)}; the engine takes {expected}")
            np.copyto(buffer.array, array)
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._submit()
        self._stream.wait()
        return {name: buffer.array.astype(np.float32) for name, buffer in self._outputs.items()}

    def _submit(self) -> None:
        """Put one inference into the stream: inputs to the device, kernels, outputs to the host."""
        assert self._engine is not None
        assert self._stream is not None
        for buffer in self._inputs.values():
            buffer.to_device(self._stream)
        self._engine.enqueue(self._stream.handle)
        for buffer in self._outputs.values():
            buffer.to_host(self._stream)

    def _capture(self) -> None:
        assert self._stream is not None
        self._submit()  # TensorRT sets itself up in the first inference, which cannot be captured
        self._stream.wait()
        try:
            self._graph = Graph(self._stream, self._submit)
        except BackendError as error:  # engines with loops or conditions cannot be captured
            _LOGGER.warning("inference without a CUDA graph: %s", error)

    def close(self) -> None:
        """See `Loaded.close`. May be called again, and after a failure."""
        if self._graph is not None:
            self._graph.close()
        if self._engine is not None:
            self._engine.close()
        for buffer in (*self._inputs.values(), *self._outputs.values()):
            buffer.close()
        if self._stream is not None:
            self._stream.close()
        self._graph = self._engine = self._stream = None
        self._inputs, self._outputs = {}, {}
