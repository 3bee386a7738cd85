"""Inference backends behind one small interface; `create_backend` chooses.

A backend knows tensors only; resizing, scale and depth are the pipeline's.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from depth_node.backends.interface import (
    Backend,
    Loaded,
    MotionBackend,
    MotionPrediction,
    Prediction,
    Session,
    one_line,
)
from depth_node.backends.models import DepthModel, MotionModel
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "MotionBackend",
    "MotionPrediction",
    "Prediction",
    "available_backends",
    "create_backend",
    "create_motion_backend",
]

_Loaded = TypeVar("_Loaded", bound=Loaded)

_LOGGER = logging.getLogger(__name__)

# Best first; the library that each one needs and the pip command's name for it.
_LIBRARIES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}
BACKENDS = tuple(_LIBRARIES)
PRECISIONS = ("auto", "fp32")


def available_backends() -> tuple[str, ...]:
    """Backends whose library is installed, best first."""
    return tuple(name for name, library in _LIBRARIES.items() if importlib.util.find_spec(library))


def create_backend(model: ModelFile, name: str = "auto", precision: str = "auto", threads: int = 0) -> Backend:
    """Load a depth model and run it once, on a black image.

    name: one of `BACKENDS`, or `auto` for the best one that is installed and runs the model (which and why is logged).
    precision: `auto` for the device's own choice, or `fp32`.
    threads: CPU threads; 0 leaves the number to the library.

    Raises:
        BackendError: the backend is unknown or not installed, or it cannot run the model.
    """
    black = np.zeros((1, model.spec.input_height, model.spec.input_width, 3), np.uint8)

    def load(name: str) -> Backend:
        backend = DepthModel(model, _open_session(name, model, precision, threads))
        backend.infer(black)  # some models load, and still cannot be run
        return backend

    return _create(load, name, precision, threads)


def create_motion_backend(
    model: MotionModelFile, name: str = "auto", precision: str = "auto", threads: int = 0
) -> MotionBackend:
    """Load a motion model and run it once, on black images; as `create_backend`."""
    black = np.zeros((1, model.spec.input_height, model.spec.input_width, 3), np.uint8)

    def load(name: str) -> MotionBackend:
        backend = MotionModel(model, _open_session(name, model, precision, threads))
        backend.infer(black, black)
        return backend

    return _create(load, name, precision, threads)


def _create(load: Callable[[str], _Loaded], name: str, precision: str, threads: int) -> _Loaded:
    if precision not in PRECISIONS:
        raise BackendError(f"precision '{precision}' is unknown; expected one of: {', '.join(PRECISIONS)}")
    if threads < 0:
        raise BackendError(f"threads is {threads}; expected 0 (the library decides) or more")
    if name == "auto":
        return _load_best(load)
    if name not in BACKENDS:
        raise BackendError(f"backend '{name}' is unknown; expected auto or one of: {', '.join(BACKENDS)}")
    if name not in available_backends():
        raise BackendError(f"backend '{name}' needs a library: pip install {_LIBRARIES[name]}")
    return load(name)


def _load_best(load: Callable[[str], _Loaded]) -> _Loaded:
    available = available_backends()
    if not available:
        raise BackendError("no inference library is installed: pip install openvino (or onnxruntime)")
    failures: list[str] = []
    for name in available:
        try:
            backend = load(name)
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


def _open_session(name: str, model: ModelFile | MotionModelFile, precision: str, threads: int) -> Session:
    if name == "openvino":
        with _loading(name):
            from depth_node.backends.openvino import OpenVinoSession
        return OpenVinoSession(model, precision, threads)
    with _loading(name):
        from depth_node.backends.onnxruntime import OnnxRuntimeSession
    return OnnxRuntimeSession(model, threads)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a broken library may fail in any way
        raise BackendError(
            f"backend '{name}' is installed but does not load ({one_line(error)}): "
            f"pip install --force-reinstall {_LIBRARIES[name]}"
        ) from error
