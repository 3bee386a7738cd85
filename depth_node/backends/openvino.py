"""OpenVINO on the CPU: the embedded default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.absent_modules import absent_modules
from depth_node.backends.interface import one_line
from depth_node.backends.model_cache import model_cache
from depth_node.backends.signal_stack import kept_signal_stack
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile

# The converter is slow to load, and reports every import to its vendor: over the network, by a fork of this process.
with absent_modules("openvino.tools.ovc"):
    import openvino as ov

_PRECISION_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}


class OpenVinoSession:
    """One inference request, compiled for latency. Compiled models are kept in the user's cache."""

    name = "openvino"

    def __init__(self, model: ModelFile | MotionModelFile, precision: str = "auto", threads: int = 0) -> None:
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
        self.precision = "int8" if model.is_quantized else _PRECISION_NAMES.get(element_type, element_type)
        self.device = f"CPU ({core.get_property('CPU', 'FULL_DEVICE_NAME').strip()})"
        # By name: the order of inputs and outputs is the file's own.
        self._inputs = {name: _index(compiled.inputs, name) for name in model.inputs}
        self._outputs = {name: _index(compiled.outputs, name) for name in model.outputs}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `Session.run`."""
        for name, array in inputs.items():
            self._request.set_input_tensor(self._inputs[name], ov.Tensor(array, shared_memory=True))
        try:
            self._request.infer()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {ov.__version__} cannot run {self._path}: {_reason(error)}") from error
        return {name: self._request.get_output_tensor(index).data.copy() for name, index in self._outputs.items()}

    def close(self) -> None:
        """See `Loaded.close`."""
        del self._request


def _index(ports: list[ov.ConstOutput], name: str) -> int:
    """Which of the ports goes by that name, among others that OpenVINO may know it by."""
    return next(index for index, port in enumerate(ports) if name in port.names)


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says, without the places in its source."""
    return re.sub(r"Exception from \S+: |Check '.*?' failed at \S+: ", "", one_line(error))
