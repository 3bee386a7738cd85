"""Inference backends behind one small interface; `create_backend` chooses.

A backend knows tensors only; resizing, scale and depth are the pipeline's.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from depth_node.backends.engine_cache import Progress
from depth_node.backends.interface import Backend, MotionBackend, MotionPrediction, Prediction, Session, one_line
from depth_node.backends.models import DepthModel, MotionModel, black_inputs
from depth_node.backends.supervision import SupervisedSession, SupervisedState
from depth_node.backends.tensorrt.options import ENGINE_PRECISIONS, TensorRtOptions
from depth_node.backends.watchdog import WatchedSession
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "BackendOptions",
    "DepthModel",
    "MotionBackend",
    "MotionModel",
    "MotionPrediction",
    "Prediction",
    "SupervisedSession",
    "SupervisedState",
    "TensorRtOptions",
    "available_backends",
    "create_backend",
    "create_motion_backend",
    "supervise",
]

# Best first: the modules that each one needs, and what pip has to install for them.
_MODULES = {
    "tensorrt": ("tensorrt", "cuda"),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
}
_INSTALL = {"tensorrt": "tensorrt cuda-python", "openvino": "openvino", "onnxruntime": "onnxruntime"}
BACKENDS = tuple(_MODULES)
PRECISIONS = ("auto", *ENGINE_PRECISIONS)
# What each one has beside `auto`.
_PRECISIONS = {"tensorrt": ENGINE_PRECISIONS, "openvino": ("fp32",), "onnxruntime": ("fp32",)}

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackendOptions:
    """What is loaded, and how.

    name: one of `BACKENDS`, or `auto` for the best one that is installed and runs the model (which and why is logged).
    precision: `auto` for the device's own choice (float16 with TensorRT), or one of `PRECISIONS`; where `auto` chooses
        a backend that lacks it, that one takes its own.
    threads: CPU threads; 0 leaves the number to the library.
    timeout_s: seconds after which an inference is given up; 0 waits for ever.

    Raises:
        BackendError: a name is unknown, or a backend has no such precision.
    """

    name: str = "auto"
    precision: str = "auto"
    threads: int = 0
    tensorrt: TensorRtOptions = TensorRtOptions()
    timeout_s: float = 0.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BackendError(f"precision '{self.precision}' is unknown; expected one of: {', '.join(PRECISIONS)}")
        if self.threads < 0:
            raise BackendError(f"threads is {self.threads}; expected 0 (the library decides) or more")
        if self.name != "auto" and self.name not in BACKENDS:
            raise BackendError(f"backend '{self.name}' is unknown; expected auto or one of: {', '.join(BACKENDS)}")
        if self.name != "auto" and not _has_precision(self.name, self.precision):
            known = ", ".join(("auto", *_PRECISIONS[self.name]))
            raise BackendError(f"backend '{self.name}' has no precision '{self.precision}'; expected one of: {known}")


def available_backends() -> tuple[str, ...]:
    """Backends whose library is installed, and TensorRT only where a CUDA device answers; best first."""
    return tuple(name for name in BACKENDS if not _absence(name))


def create_backend(
    model: ModelFile,
    name: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    tensorrt: TensorRtOptions = TensorRtOptions(),
) -> Backend:
    """Load a depth model and run it once, on a black image; see `BackendOptions`.

    Raises:
        BackendError: the backend is unknown or not installed, or it cannot run the model.
    """
    return DepthModel(model, _create_session(model, BackendOptions(name, precision, threads, tensorrt)))


def create_motion_backend(
    model: MotionModelFile,
    name: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    tensorrt: TensorRtOptions = TensorRtOptions(),
) -> MotionBackend:
    """Load a motion model and run it once, on black images; as `create_backend`."""
    return MotionModel(model, _create_session(model, BackendOptions(name, precision, threads, tensorrt)))


def supervise(
    model: ModelFile | MotionModelFile, options: BackendOptions, serves_meanwhile: bool = True
) -> SupervisedSession:
    """A session that is opened in the background, and again when it fails; for `DepthModel` and `MotionModel`.

    serves_meanwhile: whether another backend serves while an engine is built, and while the device is lost.

    Raises:
        BackendError: the backend is not installed.
    """
    available = available_backends()
    if options.name == "auto":
        if not available:
            raise BackendError(_NOTHING_INSTALLED)
        wanted, others = available[0], available[1:]
        _log_choice(wanted)
    else:
        _expect_installed(options.name)
        wanted, others = options.name, tuple(name for name in available if name != options.name)

    def open_wanted(progress: Progress) -> Session:
        return _open(wanted, model, options, progress)

    def open_other(progress: Progress) -> Session:
        return _open_first(others, model, options, progress)[0]

    return SupervisedSession(
        wanted,
        open_wanted,
        open_other if others else None,
        is_choice=options.name == "auto",
        serves_meanwhile=serves_meanwhile,
    )


_NOTHING_INSTALLED = "no inference library is installed: pip install openvino (or onnxruntime)"


def _create_session(model: ModelFile | MotionModelFile, options: BackendOptions) -> Session:
    if options.name != "auto":
        _expect_installed(options.name)
        return _open(options.name, model, options, _log_progress)
    available = available_backends()
    if not available:
        raise BackendError(_NOTHING_INSTALLED)
    session, failures = _open_first(available, model, options, _log_progress)
    if failures:
        _LOGGER.warning("backend auto: %s, since %s", session.name, "; ".join(failures))
    else:
        _log_choice(session.name)
    return session


def _log_choice(name: str) -> None:
    better = BACKENDS[: BACKENDS.index(name)]
    absences = [_absence(other) for other in better]
    # What is installed was meant to be used.
    level = logging.WARNING if any(map(_is_installed, better)) else logging.INFO
    _LOGGER.log(level, "backend auto: %s (%s)", name, "; ".join(absences) or "the preferred one")


def _expect_installed(name: str) -> None:
    if not _is_installed(name):
        raise BackendError(f"backend '{name}' needs a library: pip install {_INSTALL[name]}")


def _absence(name: str) -> str:
    """Why a backend cannot be had here; empty if it can."""
    if not _is_installed(name):
        return f"{name} is not installed"
    if name == "tensorrt":
        try:
            with _loading(name):
                from depth_node.backends.tensorrt.cuda_api import device
            device()
        except BackendError as error:
            return f"no {name}: {error}"
    return ""


def _is_installed(name: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in _MODULES[name])


def _has_precision(name: str, precision: str) -> bool:
    return precision == "auto" or precision in _PRECISIONS[name]


def _open_first(
    names: Sequence[str], model: ModelFile | MotionModelFile, options: BackendOptions, progress: Progress
) -> tuple[Session, list[str]]:
    """The first backend that runs the model, and why those before it do not."""
    failures: list[str] = []
    for name in names:
        try:
            return _open(name, model, options, progress), failures
        except BackendError as error:
            failures.append(str(error))
    raise BackendError(f"no installed backend can be used: {'; '.join(failures)}")


def _open(name: str, model: ModelFile | MotionModelFile, options: BackendOptions, progress: Progress) -> Session:
    """A session that has run once: some models load, and still cannot be run."""
    precision = options.precision
    if not _has_precision(name, precision):
        _LOGGER.info("%s has no precision '%s', and takes its own", name, precision)
        precision = "auto"
    session = _load(name, model, precision, options, progress)
    if options.timeout_s:
        session = WatchedSession(session, options.timeout_s)
    try:
        session.run(black_inputs(model))
    except BackendError:
        session.close()
        raise
    return session


def _load(
    name: str, model: ModelFile | MotionModelFile, precision: str, options: BackendOptions, progress: Progress
) -> Session:
    if name == "tensorrt":
        with _loading(name):
            from depth_node.backends.tensorrt.backend import TensorRtSession
        return TensorRtSession(model, precision, options.tensorrt, progress)
    if name == "openvino":
        with _loading(name):
            from depth_node.backends.openvino import OpenVinoSession
        return OpenVinoSession(model, precision, options.threads)
    with _loading(name):
        from depth_node.backends.onnxruntime import OnnxRuntimeSession
    return OnnxRuntimeSession(model, options.threads)


def _log_progress(step: str, share: float) -> None:
    _LOGGER.debug("%s: %.0f %%", step, 100 * share)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a broken library may fail in any way
        raise BackendError(
            f"backend '{name}' is installed but does not load ({one_line(error)}): "
            f"pip install --force-reinstall {_INSTALL[name]}"
        ) from error
