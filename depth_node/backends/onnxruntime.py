"""ONNX Runtime on the CPU: the second backend, and the one that runs wherever wheels exist."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from depth_node.backends.interface import one_line
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile


class OnnxRuntimeSession:
    """One session with the CPU provider; its arithmetic is float32 but where the graph says int8."""

    name = "onnxruntime"

    def __init__(self, model: ModelFile | MotionModelFile, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # it warns about every weight that it folds, and raises what are errors
        try:
            self._session = ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class of their own
            raise BackendError(f"ONNX Runtime {ort.__version__} cannot load {model.path}: {one_line(error)}") from error
        self.precision = "int8" if model.is_quantized else "fp32"
        self._path = model.path
        self._outputs = model.outputs
        self.device = f"CPU ({platform.machine()})"

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `Session.run`."""
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise BackendError(f"ONNX Runtime {ort.__version__} cannot run {self._path}: {one_line(error)}") from error
        return dict(zip(self._outputs, outputs, strict=True))

    def close(self) -> None:
        """See `Loaded.close`."""
        del self._session
