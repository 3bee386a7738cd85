"""Stand-ins for cuda-python's runtime and TensorRT, for machines without a device.

They keep the rules that a mistake would break on a real device: work that is put into a stream is done only when
somebody waits for it; copies go between memory of the right kind, inside of its bounds; what is freed is not used, and
nothing is freed twice; while a stream is captured, nothing is done, and nobody may wait. An engine computes
(first input) x gain + (last input), as its plan says, or its ONNX graph, where a builder made it (fake_builder.py).
Names are those of a version of TensorRT (tensorrt_names.txt).
"""

from __future__ import annotations

import base64
import ctypes
import enum
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

RECORD = Path(__file__).resolve().parents[1] / "depth_node" / "tensorrt_names.txt"
MODULES = ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.bindings.utils")


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


Work = Callable[[], None]


class FakeStream:
    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None

    def put(self, work: Work) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)

    def finish(self, error: cudaError_t) -> None:
        """Do what waits; a lost device drops it."""
        waiting, self.waiting = self.waiting, []
        for work in waiting if not error else ():
            work()


class FakeCuda:
    """The state of a device. `error`: what every call gives from now on; memory_bytes: more is not to be had."""

    def __init__(self, memory_bytes: int = 2**26) -> None:
        self.error = cudaError_t.cudaSuccess
        self.memory_bytes = memory_bytes
        self.host: dict[int, Any] = {}
        self.device: dict[int, Any] = {}
        self.streams: dict[int, FakeStream] = {}
        self.handles: set[int] = set()  # of events and graphs
        self.launches = 0
        self.resets = 0
        self.driver_version = 12060
        self.can_capture = True
        self._next_handle = 1000

    @property
    def is_empty(self) -> bool:
        """Whether all that was made has been freed."""
        return not (self.host or self.device or self.streams or self.handles)

    def allocated(self, pointer: int, size: int) -> dict[int, Any]:
        """The memory that holds these bytes: host's or device's."""
        for memory in (self.host, self.device):
            for start, buffer in memory.items():
                if start <= pointer and pointer + size <= start + len(buffer):
                    return memory
        raise AssertionError(f"{size} bytes at {pointer} are not allocated")

    def runtime(self) -> ModuleType:
        """The module cuda.bindings.runtime."""
        module = ModuleType("cuda.bindings.runtime")
        for enumeration in (cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode):
            setattr(module, enumeration.__name__, enumeration)
        module.cudaStreamNonBlocking, module.cudaEventBlockingSync, module.cudaEventDisableTiming = 1, 1, 2  # type: ignore[attr-defined]
        for name in dir(self):
            if name.startswith("cuda"):
                setattr(module, name, getattr(self, name))
        return module

    def handle(self) -> int:
        self._next_handle += 1
        return self._next_handle

    # What follows has the names and results of the CUDA runtime.

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self.error, None if self.error else 1

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, self.driver_version

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, 13040

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, error.name.encode()

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return self.error, SimpleNamespace(name=b"Fake GPU\0\0", major=8, minor=7)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self._allocate(self.host, size)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if sum(map(len, self.device.values())) + size > self.memory_bytes:
            return cudaError_t.cudaErrorMemoryAllocation, None
        return self._allocate(self.device, size)

    def _allocate(self, memory: dict[int, Any], size: int) -> tuple[Any, ...]:
        if self.error:
            return self.error, None
        buffer = (ctypes.c_uint8 * size)()
        memory[ctypes.addressof(buffer)] = buffer
        return cudaError_t.cudaSuccess, ctypes.addressof(buffer)

    def cudaFree(self, pointer: int) -> tuple[Any, ...]:
        self._finish()
        del self.device[pointer]
        return (self.error,)

    def cudaFreeHost(self, pointer: int) -> tuple[Any, ...]:
        self._finish()
        del self.host[pointer]
        return (self.error,)

    def _finish(self) -> None:
        """Freeing memory waits for all that the device still does."""
        for stream in self.streams.values():
            stream.finish(self.error)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:
        to_device = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        assert self.allocated(target, size) is (self.device if to_device else self.host)
        assert self.allocated(source, size) is (self.host if to_device else self.device)
        self.streams[stream].put(lambda: ctypes.memmove(target, source, size))
        return (self.error,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        if self.error:
            return self.error, None
        handle = self.handle()
        self.streams[handle] = FakeStream(handle)
        return cudaError_t.cudaSuccess, handle

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        assert not self.streams.pop(stream).waiting
        return (self.error,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self.error, self._new()

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        assert event in self.handles
        self._recorded = stream
        return (self.error,)

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        assert event in self.handles
        stream = self.streams[self._recorded]
        if stream.captured is not None:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        stream.finish(self.error)
        return (self.error,)

    def cudaEventQuery(self, event: int) -> tuple[Any, ...]:
        """Not ready at first; done at the second question."""
        self._questions = getattr(self, "_questions", 0) + 1
        return (cudaError_t.cudaErrorNotReady,) if self._questions % 2 else self.cudaEventSynchronize(event)

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        self.handles.remove(event)
        return (self.error,)

    def cudaStreamBeginCapture(self, stream: int, mode: cudaStreamCaptureMode) -> tuple[Any, ...]:
        assert not self.streams[stream].waiting
        self.streams[stream].captured = []
        return (self.error,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        captured, self.streams[stream].captured = self.streams[stream].captured, None
        if not self.can_capture:
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        graph = self._new()
        self._graphs = {**getattr(self, "_graphs", {}), graph: captured}
        return self.error, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        assert graph in self.handles
        executable = self._new()
        self._graphs[executable] = self._graphs[graph]
        return self.error, executable

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Any, ...]:
        assert executable in self.handles
        self.launches += 1
        for work in self._graphs[executable]:
            self.streams[stream].put(work)
        return (self.error,)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        self.handles.remove(graph)
        return (self.error,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaDeviceReset(self) -> tuple[Any, ...]:
        assert self.is_empty
        self.resets += 1
        self.error = cudaError_t.cudaSuccess
        return (self.error,)

    def _new(self) -> int:
        handle = self.handle()
        self.handles.add(handle)
        return handle


class FakeEngine:
    """Made of a plan: JSON of `plan`."""

    def __init__(self, cuda: FakeCuda, types: Any, modes: Any, plan: dict[str, Any]) -> None:
        self._cuda = cuda
        self._plan = plan
        self._tensors: list[tuple[str, list[int], str]] = plan["tensors"]
        self._types, self._modes = types, modes
        self.num_io_tensors = len(self._tensors)
        self.device_memory_size = self.device_memory_size_v2 = 4096

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index][0]

    def _tensor(self, name: str) -> tuple[str, list[int], str]:
        return next(tensor for tensor in self._tensors if tensor[0] == name)

    def get_tensor_shape(self, name: str) -> list[int]:
        return self._tensor(name)[1]

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._types, self._tensor(name)[2])

    def get_tensor_mode(self, name: str) -> Any:
        return self._modes.OUTPUT if is_output(self._plan, name) else self._modes.INPUT

    def create_execution_context(self) -> Any:
        return None if self._plan.get("needs_too_much") else FakeContext(self._cuda, self._plan)


class FakeContext:
    def __init__(self, cuda: FakeCuda, plan: dict[str, Any]) -> None:
        self._cuda, self._plan = cuda, plan
        self._addresses: dict[str, int] = {}
        self._runs = 0

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return not self._plan.get("refuses_memory")

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = self._cuda.streams[stream_handle]
        assert self._runs or stream.captured is None, "the first inference cannot be captured"
        self._runs += 1
        stream.put(self._compute)
        return not self._plan.get("does_not_run") and not self._cuda.error

    def _compute(self) -> None:
        tensors = self._plan["tensors"]
        arrays = {tensor[0]: self._array(*tensor) for tensor in tensors}
        inputs = {name: array for name, array in arrays.items() if not is_output(self._plan, name)}
        if "onnx" in self._plan:
            found = run_onnx(base64.b64decode(self._plan["onnx"]), inputs)
        else:
            first, *_, last = [*inputs.values()] * 2
            found = dict.fromkeys(arrays, first.astype(np.float64) * self._plan["gain"] + last)
        for name, array in arrays.items():
            if name not in inputs:
                array[:] = found[name] * self._plan.get("wrong", 1)

    def _array(self, name: str, shape: list[int], type_name: str) -> Any:
        dtype = np.dtype({"UINT8": np.uint8, "HALF": np.float16, "FLOAT": np.float32}[type_name])
        size = int(np.prod(shape)) * dtype.itemsize
        assert self._cuda.allocated(self._addresses[name], size) is self._cuda.device
        memory = (ctypes.c_uint8 * size).from_address(self._addresses[name])
        return np.frombuffer(memoryview(memory), dtype).reshape(shape)


def is_output(plan: dict[str, Any], name: str) -> bool:
    return name in plan.get("outputs", ["out"])


def run_onnx(graph: bytes, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def plan(**changes: Any) -> bytes:
    """A serialised engine: out = 0.5 image + image, float16."""
    tensors = [("image", [1, 4, 6, 3], "UINT8"), ("out", [1, 4, 6, 3], "HALF")]
    return json.dumps({"tensors": tensors, "gain": 0.5, **changes}).encode()


def tensorrt_module(version: str, cuda: FakeCuda, builder: Any = None) -> ModuleType:
    """TensorRT's module with what that version has; another name is an AttributeError, as it is there."""
    short = ".".join(version.split(".")[:2])
    lines = [line.split() for line in RECORD.read_text().splitlines() if not line.startswith("#")]
    known = [name for name, *versions in lines if short in versions]
    module = ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    for cls in ("DataType", "BuilderFlag", "NetworkDefinitionCreationFlag", "TacticSource", "MemoryPoolType"):
        members = [name.split(".")[1] for name in known if name.startswith(f"{cls}.")]
        setattr(module, cls, enum.IntEnum(cls, {member: value for value, member in enumerate(members)}))
    module.TensorIOMode = enum.Enum("TensorIOMode", ("INPUT", "OUTPUT"))  # type: ignore[attr-defined]

    class ILogger:
        Severity = enum.Enum("Severity", ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO"))

        def __init__(self) -> None:
            pass

    class IProgressMonitor:
        def __init__(self) -> None:
            pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, serialized: bytes) -> FakeEngine | None:
            try:
                content = json.loads(serialized)
            except ValueError:
                self._logger.log(ILogger.Severity.ERROR, "deserializeCudaEngine: magic tag\ndoes not match")
                return None
            return FakeEngine(cuda, module.DataType, module.TensorIOMode, content)

    module.ILogger, module.Runtime = ILogger, Runtime  # type: ignore[attr-defined]
    if "IProgressMonitor" in known:
        module.IProgressMonitor = IProgressMonitor  # type: ignore[attr-defined]
    if builder is not None:
        module.Builder, module.OnnxParser = builder.Builder, builder.OnnxParser  # type: ignore[attr-defined]
    return module


def install(monkeypatch: Any, cuda: FakeCuda, version: str = "10.3.0", builder: Any = None) -> None:
    """Put them in the place of the real modules, and have ours imported anew."""
    cuda_package, bindings, utils = ModuleType("cuda"), ModuleType("cuda.bindings"), ModuleType("cuda.bindings.utils")
    cuda_package.bindings, bindings.runtime = bindings, cuda.runtime()  # type: ignore[attr-defined]
    utils.get_cuda_native_handle = int  # type: ignore[attr-defined]
    modules = (tensorrt_module(version, cuda, builder), cuda_package, bindings, cuda.runtime(), utils)
    package = importlib.import_module("depth_node.backends.tensorrt")
    for name in ("cuda_api", "tensorrt_api", "session", "engines", "backend"):
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)  # so that it is undone in any case
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}")
        monkeypatch.delattr(package, name, raising=False)
    for name, module in zip(MODULES, modules, strict=True):
        monkeypatch.setitem(sys.modules, name, module)
