"""Inference backends behind one small interface; `create_backend` chooses.

A backend knows tensors only; resizing, scale and depth are the pipeline's.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

import numpy as np

from depth_node.backends.interface import Backend, Prediction, one_line
from depth_node.errors import BackendError
from depth_node.model import ModelFile

__all__ = ["BACKENDS", "PRECISIONS", "Backend", "Prediction", "available_backends", "create_backend"]

_LOGGER = logging.getLogger(__name__)

# Best first; the library that each one needs and the pip command's name for it.
_LIBRARIES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}
BACKENDS = tuple(_LIBRARIES)
PRECISIONS = ("auto", "fp32")


def available_backends() -> tuple[str, ...]:
    """Backends whose library is installed, best first."""
    return tuple(name for name, library in _LIBRARIES.items() if importlib.util.find_spec(library))


def create_backend(model: ModelFile, name: str = "auto", precision: str = "auto", threads: int = 0) -> Backend:
    """Load a model and run it once, on a black image.

    name: one of `BACKENDS`, or `auto` for the best one that is installed and runs the model (which and why is logged).
    precision: `auto` for the device's own choice, or `fp32`.
    threads: CPU threads; 0 leaves the number to the library.

    Raises:
        BackendError: the backend is unknown or not installed, or it cannot run the model.
    """
    if precision not in PRECISIONS:
        raise BackendError(f"precision '{precision}' is unknown; expected one of: {', '.join(PRECISIONS)}")
    if threads < 0:
        raise BackendError(f"threads is {threads}; expected 0 (the library decides) or more")
    if name == "auto":
        return _load_best(model, precision, threads)
    if name not in BACKENDS:
        raise BackendError(f"backend '{name}' is unknown; expected auto or one of: {', '.join(BACKENDS)}")
    if name not in available_backends():
        raise BackendError(f"backend '{name}' needs a library: pip install {_LIBRARIES[name]}")
    return _load(name, model, precision, threads)


def _load_best(model: ModelFile, precision: str, threads: int) -> Backend:
    available = available_backends()
    if not available:
        raise BackendError("no inference library is installed: pip install openvino (or onnxruntime)")
    failures: list[str] = []
    for name in available:
        try:
            backend = _load(name, model, precision, threads)
        except BackendError as error:
            failures.append(str(error))
            continue
        if failures:
            _LOGGER.warning("backend auto: %s, since %s", name, "; ".join(failures))
        else:
            missing = BACKENDS[: BACKENDS.index(name)]
            why = f"not installed: {', '.join(missing)}" if missing else "the preferred one"
            _LOGGER.info("backend auto: %s (%s)", name, why)
        return backend
    raise BackendError(f"no installed backend can be used: {'; '.join(failures)}")


def _load(name: str, model: ModelFile, precision: str, threads: int) -> Backend:
    backend = _constructor(name)(model, precision, threads)
    # Some models load, and still cannot be run.
    backend.infer(np.zeros((1, model.spec.input_height, model.spec.input_width, 3), np.uint8))
    return backend


def _constructor(name: str) -> Callable[[ModelFile, str, int], Backend]:
    try:
        if name == "openvino":
            from depth_node.backends.openvino import OpenVinoBackend

            return OpenVinoBackend
        from depth_node.backends.onnxruntime import OnnxRuntimeBackend

        return lambda model, precision, threads: OnnxRuntimeBackend(model, threads)
    except Exception as error:  # a broken library may fail in any way
        raise BackendError(
            f"backend '{name}' is installed but does not load ({one_line(error)}): "
            f"pip install --force-reinstall {_LIBRARIES[name]}"
        ) from error
