"""OpenVINO on the CPU: the embedded default."""

from __future__ import annotations

import re

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from depth_node.backends.float_image import input_adaptor
from depth_node.backends.interface import Prediction, one_line
from depth_node.backends.model_cache import model_cache
from depth_node.backends.signal_stack import kept_signal_stack
from depth_node.errors import BackendError
from depth_node.model import ModelFile

_PRECISION_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}


class OpenVinoBackend:
    """One inference request, compiled for latency. Compiled models are kept in the user's cache."""

    name = "openvino"

    def __init__(self, model: ModelFile, precision: str = "auto", threads: int = 0) -> None:
        config: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "fp32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        self._path = model.path
        # OpenVINO itself would key its cache by file name and time, which says nothing about the content.
        key = f"{ov.__version__.split('-')[0]}-{model.checksum}-{precision}-{threads}"
        try:
            with model_cache("openvino", key) as folder, kept_signal_stack():
                core = ov.Core()
                compiled = core.compile_model(
                    str(model.path), "CPU", config if folder is None else {**config, "CACHE_DIR": str(folder)}
                )
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {ov.__version__} cannot load {model.path}: {_reason(error)}") from error
        element_type = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = _PRECISION_NAMES.get(element_type, element_type)
        self.device = f"CPU ({core.get_property('CPU', 'FULL_DEVICE_NAME').strip()})"
        self._adapt = input_adaptor(model.spec)
        # By name: the order of the outputs is the file's own.
        confidence = model.spec.confidence_output
        (self._output_index,) = (i for i, port in enumerate(compiled.outputs) if confidence not in port.names)
        self._confidence_index = 1 - self._output_index if confidence is not None else None

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """See `Backend.infer`."""
        self._request.set_input_tensor(ov.Tensor(self._adapt(image), shared_memory=True))
        try:
            self._request.infer()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {ov.__version__} cannot run {self._path}: {_reason(error)}") from error
        confidence = None if self._confidence_index is None else self._map(self._confidence_index)
        return Prediction(self._map(self._output_index), confidence)

    def close(self) -> None:
        """See `Backend.close`."""
        del self._request

    def _map(self, index: int) -> NDArray[np.float32]:
        output = self._request.get_output_tensor(index).data
        return output.reshape(1, *output.shape[-2:]).copy()


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says, without the places in its source."""
    return re.sub(r"Exception from \S+: |Check '.*?' failed at \S+: ", "", one_line(error))
