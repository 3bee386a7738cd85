"""ONNX Runtime on the CPU: the second backend, and the one that runs wherever wheels exist."""

from __future__ import annotations

import platform

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from depth_node.backends.float_image import input_adaptor
from depth_node.backends.interface import Prediction, one_line
from depth_node.errors import BackendError
from depth_node.model import ModelFile


class OnnxRuntimeBackend:
    """One session with the CPU provider; its arithmetic is float32."""

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, model: ModelFile, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # it warns about every weight that it folds, and raises what are errors
        try:
            self._session = ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class of their own
            raise BackendError(f"ONNX Runtime {ort.__version__} cannot load {model.path}: {one_line(error)}") from error
        self._path = model.path
        self.device = f"CPU ({platform.machine()})"
        self._input_name = self._session.get_inputs()[0].name
        confidence = model.spec.confidence_output
        self._outputs = [value.name for value in self._session.get_outputs() if value.name != confidence]
        if confidence is not None:
            self._outputs.append(confidence)
        self._adapt = input_adaptor(model.spec)

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """See `Backend.infer`."""
        try:
            outputs = self._session.run(self._outputs, {self._input_name: self._adapt(image)})
        except Exception as error:
            raise BackendError(f"ONNX Runtime {ort.__version__} cannot run {self._path}: {one_line(error)}") from error
        maps = [output.reshape(1, *output.shape[-2:]) for output in outputs]
        return Prediction(maps[0], maps[1] if len(maps) > 1 else None)

    def close(self) -> None:
        """See `Backend.close`."""
        del self._session
