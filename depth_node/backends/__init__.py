"""Inference backends behind one small interface; `create_backend` chooses.

A backend knows tensors only; resizing, scale and depth are the pipeline's.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.prediction import Prediction
from depth_node.errors import BackendError
from depth_node.model import ModelFile

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "Prediction",
    "available_backends",
    "create_backend",
]

_LOGGER = logging.getLogger(__name__)

# Best first; the library that each one needs and the pip command's name for it.
_LIBRARIES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}
BACKENDS = tuple(_LIBRARIES)
PRECISIONS = ("auto", "fp32")


class Backend(Protocol):
    """A depth model, loaded and ready on one device.

    name: as in `BACKENDS`; device: what it runs on, in words; precision: of the arithmetic, such as `fp32` or `bf16`.
    """

    name: str
    device: str
    precision: str

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """The model's raw outputs for an image uint8 [1, H, W, 3] (RGB) of the model's input size.

        The result is the caller's own. Not for two threads at once. Other Python threads run meanwhile.
        """
        ...

    def close(self) -> None:
        """Free the model; no inference afterwards."""
        ...


def available_backends() -> tuple[str, ...]:
    """Backends whose library is installed, best first."""
    return tuple(name for name, library in _LIBRARIES.items() if importlib.util.find_spec(library))


def create_backend(model: ModelFile, name: str = "auto", precision: str = "auto", threads: int = 0) -> Backend:
    """Load a model.

    name: one of `BACKENDS`, or `auto` for the best one that is installed (which and why is logged).
    precision: `auto` for the device's own choice, or `fp32`.
    threads: CPU threads; 0 leaves the number to the library.

    Raises:
        BackendError: the backend is unknown or not installed, or it cannot run the model.
    """
    if precision not in PRECISIONS:
        raise BackendError(f"precision '{precision}' is unknown; expected one of: {', '.join(PRECISIONS)}")
    if threads < 0:
        raise BackendError(f"threads is {threads}; expected 0 (the library decides) or more")
    chosen = _choose() if name == "auto" else name
    if chosen not in BACKENDS:
        raise BackendError(f"backend '{chosen}' is unknown; expected auto or one of: {', '.join(BACKENDS)}")
    if chosen not in available_backends():
        raise BackendError(f"backend '{chosen}' needs a library: pip install {_LIBRARIES[chosen]}")
    try:
        if chosen == "openvino":
            from depth_node.backends.openvino import OpenVinoBackend

            return OpenVinoBackend(model, precision, threads)
        from depth_node.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(model, threads)
    except ImportError as error:
        library = _LIBRARIES[chosen]
        raise BackendError(
            f"backend '{chosen}' is installed but does not load ({error}): pip install --force-reinstall {library}"
        ) from error


def _choose() -> str:
    available = available_backends()
    if not available:
        raise BackendError("no inference library is installed: pip install openvino (or onnxruntime)")
    missing = BACKENDS[: BACKENDS.index(available[0])]
    why = f"not installed: {', '.join(missing)}" if missing else "the preferred one"
    _LOGGER.info("backend auto: %s (%s)", available[0], why)
    return available[0]
