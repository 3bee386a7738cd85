"""The one place that knows cuda-python: the device, memory, streams and graphs. Errors are one sentence each."""

from __future__ import annotations

import ctypes
import importlib.metadata
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from depth_node.backends.interface import one_line
from depth_node.errors import BackendError

try:
    from cuda.bindings import runtime
except ImportError:  # cuda-python before 12.8
    from cuda import cudart as runtime

# From here on its calls let other Python threads run, so that one may wait inside of them.
_RELEASES_GIL = (12, 9, 1)
_POLL_S = 50e-6
# Longer than the driver of a Jetson takes to start.
_PATIENCE_S = 30.0


class DeviceError(BackendError):
    """No usable CUDA device answers."""


@dataclass(frozen=True)
class Device:
    """A CUDA device. name: in NVIDIA's words; compute_capability: such as `8.7`."""

    name: str
    compute_capability: str


def device() -> Device:
    """The device that CUDA gives first (`CUDA_VISIBLE_DEVICES` chooses).

    Raises:
        DeviceError: none answers, or its driver is too old.
    """
    answers: queue.SimpleQueue[Device | BackendError] = queue.SimpleQueue()
    # A driver in trouble may never answer.
    threading.Thread(target=lambda: answers.put(_first_device()), name="CUDA device", daemon=True).start()
    try:
        answer = answers.get(timeout=_PATIENCE_S)
    except queue.Empty:
        raise DeviceError(f"the NVIDIA driver has not answered for {_PATIENCE_S:g} s") from None
    if isinstance(answer, BackendError):
        raise answer
    return answer


def _first_device() -> Device | BackendError:
    try:
        error, count = runtime.cudaGetDeviceCount()
    except RuntimeError as fault:  # cuda-python before 12.8, without libcuda
        return DeviceError(f"no NVIDIA driver is loaded ({one_line(fault)})")
    if error == runtime.cudaError_t.cudaErrorInsufficientDriver:
        return DeviceError(_driver_fault())
    if error == runtime.cudaError_t.cudaErrorNoDevice or (error == runtime.cudaError_t.cudaSuccess and count == 0):
        return DeviceError("no CUDA device answers")
    if error != runtime.cudaError_t.cudaSuccess:
        return DeviceError(f"no CUDA device answers ({_describe(error)})")
    try:
        properties = check("reading the device's properties", runtime.cudaGetDeviceProperties(0))
    except BackendError as fault:
        return fault
    return Device(properties.name.decode(errors="replace").strip("\0 "), f"{properties.major}.{properties.minor}")


def _driver_fault() -> str:
    _, driver = runtime.cudaDriverGetVersion()
    if not driver:
        return "no NVIDIA driver is loaded"
    _, needed = runtime.cudaRuntimeGetVersion()
    return (
        f"the NVIDIA driver is made for CUDA {_version(driver)}, but cuda-python for {_version(needed)}: "
        f"update the driver, or pip install 'cuda-python=={driver // 1000}.*'"
    )


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def check(action: str, result: tuple[Any, ...]) -> Any:
    """What a call of the CUDA runtime gave: nothing, one value, or a tuple of them.

    Raises:
        BackendError: it failed; says at what.
    """
    error, *values = result
    if error != runtime.cudaError_t.cudaSuccess:
        raise BackendError(f"CUDA failed at {action}: {_describe(error)}")
    return values[0] if len(values) == 1 else tuple(values) or None


def _describe(error: Any) -> str:
    _, text = runtime.cudaGetErrorString(error)
    return text.decode() if text else str(error)


class Buffer:
    """Device memory and page-locked host memory of one tensor. array: the host's side, of `shape` and `dtype`."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._host = self._device = 0
        try:
            self._host = check(f"allocating {self.bytes} bytes of host memory", runtime.cudaHostAlloc(self.bytes, 0))
            self._device = check(f"allocating {self.bytes} bytes of device memory", runtime.cudaMalloc(self.bytes))
        except BackendError:
            self.close()
            raise
        memory = memoryview((ctypes.c_uint8 * self.bytes).from_address(int(self._host)))
        self.array: NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)

    @property
    def address(self) -> int:
        """Of the device's side."""
        return int(self._device)

    def to_device(self, stream: Stream) -> None:
        """Copy host to device, in the order of the stream."""
        self._copy(self._device, self._host, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def to_host(self, stream: Stream) -> None:
        """Copy device to host, in the order of the stream."""
        self._copy(self._host, self._device, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def _copy(self, target: int, source: int, kind: Any, stream: Stream) -> None:
        check("a copy", runtime.cudaMemcpyAsync(target, source, self.bytes, kind, stream.object))

    def close(self) -> None:
        """Free both; `array` must not be used any more. Errors of a device that is lost are not reported again."""
        if self._device:
            runtime.cudaFree(self._device)
        if self._host:
            runtime.cudaFreeHost(self._host)
        self._host = self._device = 0


class Stream:
    """A stream that does not wait for the legacy default stream. object: cuda-python's."""

    def __init__(self) -> None:
        flags = runtime.cudaStreamNonBlocking
        self.object = check("making a stream", runtime.cudaStreamCreateWithFlags(flags))
        # The waiting thread sleeps instead of spinning on a core that the robot needs.
        flags = runtime.cudaEventBlockingSync | runtime.cudaEventDisableTiming
        self._done = check("making an event", runtime.cudaEventCreateWithFlags(flags))

    @property
    def handle(self) -> int:
        """cudaStream_t as a number, for other libraries."""
        return _native_handle(self.object)

    def wait(self) -> None:
        """Until all that was put into the stream is done. Other Python threads run meanwhile."""
        check("an inference", runtime.cudaEventRecord(self._done, self.object))
        if _waits_without_gil():
            check("an inference", runtime.cudaEventSynchronize(self._done))
            return
        while (result := runtime.cudaEventQuery(self._done))[0] == runtime.cudaError_t.cudaErrorNotReady:
            time.sleep(_POLL_S)
        check("an inference", result)

    def close(self) -> None:
        """Destroy it; see `Buffer.close`."""
        runtime.cudaEventDestroy(self._done)
        runtime.cudaStreamDestroy(self.object)


class Graph:
    """The work that `submit` puts into a stream, captured once and launched as one."""

    def __init__(self, stream: Stream, submit: Callable[[], None]) -> None:
        with _captured(stream) as captured:
            submit()
        (graph,) = captured
        try:
            self._executable = check("making a CUDA graph", runtime.cudaGraphInstantiate(graph, 0))
        finally:
            runtime.cudaGraphDestroy(graph)

    def launch(self, stream: Stream) -> None:
        """Put the captured work into the stream."""
        check("launching a CUDA graph", runtime.cudaGraphLaunch(self._executable, stream.object))

    def close(self) -> None:
        """Destroy it; see `Buffer.close`."""
        runtime.cudaGraphExecDestroy(self._executable)


@contextmanager
def _captured(stream: Stream) -> Iterator[list[Any]]:
    """Collects the work of one stream instead of doing it; other threads may call what may not be captured."""
    graphs: list[Any] = []
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    check("beginning a capture", runtime.cudaStreamBeginCapture(stream.object, mode))
    try:
        yield graphs
    except BaseException:
        runtime.cudaStreamEndCapture(stream.object)  # or the stream stays unusable
        raise
    graphs.append(check("capturing a CUDA graph", runtime.cudaStreamEndCapture(stream.object)))


def reset_device() -> None:
    """Drop everything that this process has on the device, after an error that would otherwise stay for ever.

    Whatever else in the process uses the device is lost.
    """
    runtime.cudaDeviceReset()


def _native_handle(handle: Any) -> int:
    try:
        from cuda.bindings.utils import get_cuda_native_handle
    except ImportError:  # cuda-python before 12.9.1
        return int(handle)
    return int(get_cuda_native_handle(handle))


@lru_cache(maxsize=1)
def _waits_without_gil() -> bool:
    for package in ("cuda-bindings", "cuda-python"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        numbers = [int(part) for part in version.split(".")[:3] if part.isdigit()]
        return tuple(numbers) >= _RELEASES_GIL
    return False
