"""The stand-ins of fake_cuda.py for processes of their own: installed by a folder in PYTHONPATH, ruled by files.

In the folder `GPU_FOLDER` of the environment: while `lost` exists, every call to the device fails; while `hanging`
exists, inferences do not end; while `building` exists, an engine is being built.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from fake_builder import FakeBuilder
from fake_cuda import FakeCuda, cudaError_t, tensorrt_module

FOLDER = "GPU_FOLDER"
_MODULES = {
    "tensorrt.py": "TENSORRT",
    "cuda/__init__.py": "",
    "cuda/bindings/__init__.py": "",
    "cuda/bindings/runtime.py": "RUNTIME",
}


class Gpu:
    """The rules of one such device, for the test."""

    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        self._folder = folder
        for name, stand_in in _MODULES.items():
            path = folder / "modules" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            imported = f"import sys\nfrom fake_gpu import {stand_in}\nsys.modules[__name__] = {stand_in}\n"
            path.write_text(imported if stand_in else "")
        places = (folder / "modules", Path(__file__).parent)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
        monkeypatch.setenv(FOLDER, str(folder))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))

    @property
    def has_launched(self) -> bool:
        """Whether an inference was replayed as a CUDA graph."""
        return (self._folder / "launched").exists()

    @property
    def engines(self) -> list[bytes]:
        """The files of the engines that were built."""
        return [path.read_bytes() for path in self._folder.glob("cache/depth_node/tensorrt/*.engine")]

    def set(self, rule: str, holds: bool) -> None:
        """`lost`, `hanging` or `building`."""
        if holds:
            (self._folder / rule).touch()
        else:
            (self._folder / rule).unlink()


def _holds(rule: str) -> bool:
    return (Path(os.environ[FOLDER]) / rule).exists()


class _RuledCuda(FakeCuda):
    @property
    def error(self) -> cudaError_t:
        return cudaError_t.cudaErrorIllegalAddress if _holds("lost") else cudaError_t.cudaSuccess

    @error.setter
    def error(self, error: cudaError_t) -> None:
        pass

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Any, ...]:
        (Path(os.environ[FOLDER]) / "launched").touch()
        return super().cudaGraphLaunch(executable, stream)

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        while _holds("hanging"):
            time.sleep(0.05)
        return super().cudaEventSynchronize(event)


class _RuledBuilder(FakeBuilder):
    def _build(self, network: Any, config: Any, logger: Any) -> bytes | None:
        config.progress_monitor.phase_start("Building", None, 4)
        while _holds("building"):
            config.progress_monitor.step_complete("Building", 0)
            time.sleep(0.05)
        return super()._build(network, config, logger)


if FOLDER in os.environ:
    CUDA = _RuledCuda()
    RUNTIME = CUDA.runtime()
    TENSORRT = tensorrt_module("10.3.0", CUDA, _RuledBuilder())
