"""TensorRT as a `Session`: the engine of a model, from the cache or built first, at work on the device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.engine_cache import CachedEngine, EngineCache, Progress
from depth_node.backends.tensorrt import cuda_api
from depth_node.backends.tensorrt.build_process import build_apart
from depth_node.backends.tensorrt.engines import build_engine, engine_key, raise_if_refused
from depth_node.backends.tensorrt.options import EngineOptions, TensorRtOptions
from depth_node.backends.tensorrt.session import EngineRunner
from depth_node.backends.tensorrt.tensorrt_api import EngineUnreadableError
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.recipe import MeasuredRecipe, auto_precisions

# The sessions of this process, which share the device.
_OPEN: set[TensorRtSession] = set()
_OPEN_LOCK = threading.Lock()

_LOGGER = logging.getLogger(__name__)


class TensorRtSession:
    """The engine of a model on the first CUDA device.

    precision: `auto` or one of `ENGINE_PRECISIONS`. progress: told how far a build is, which takes minutes.

    Raises:
        DeviceError: no CUDA device answers.
        BackendError: there is no engine, and none can be built; or it cannot be loaded.
    """

    name = "tensorrt"

    def __init__(
        self, model: ModelFile | MotionModelFile, precision: str, options: TensorRtOptions, progress: Progress
    ) -> None:
        self._has_failed = False
        device = cuda_api.device()
        self.device = f"{device.name} (compute capability {device.compute_capability})"
        self.precision, self._runner = _started(model, precision, options, progress)
        with _OPEN_LOCK:
            _OPEN.add(self)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `Session.run`."""
        try:
            return self._runner.run(inputs)
        except BackendError:
            self._has_failed = True
            raise

    def close(self) -> None:
        """See `Loaded.close`."""
        self._runner.close()
        with _OPEN_LOCK:
            _OPEN.discard(self)
            # Most errors of a device stay with the process until the last user of the device is gone.
            if self._has_failed and not _OPEN:
                cuda_api.reset_device()


def _started(
    model: ModelFile | MotionModelFile, precision: str, options: TensorRtOptions, progress: Progress
) -> tuple[str, EngineRunner]:
    """Precision and engine."""
    wanted = auto_precisions(model) if precision == "auto" else (precision,)
    for candidate in wanted[:-1]:
        try:
            return candidate, _runner(model, _engine_options(candidate, options), options, progress)
        except cuda_api.DeviceError:
            raise
        except BackendError as error:
            _LOGGER.warning("no engine in %s: %s", candidate, error)
    return wanted[-1], _runner(model, _engine_options(wanted[-1], options), options, progress)


def _engine_options(precision: str, options: TensorRtOptions) -> EngineOptions:
    return EngineOptions(precision, options.workspace_mib, options.batch)


def _runner(
    model: ModelFile | MotionModelFile, engine: EngineOptions, options: TensorRtOptions, progress: Progress
) -> EngineRunner:
    cached = _engine(model, engine, progress)
    try:
        return EngineRunner(cached.engine, options.cuda_graph)
    except EngineUnreadableError as error:  # another driver, or libraries that were changed in place
        _LOGGER.warning("building the TensorRT engine again: %s", error)
        EngineCache().remove(cached)
    return EngineRunner(_engine(model, engine, progress).engine, options.cuda_graph)


def _engine(model: ModelFile | MotionModelFile, options: EngineOptions, progress: Progress) -> CachedEngine:
    cache, recipe = EngineCache(), MeasuredRecipe()
    key = engine_key(model, options, recipe)
    if not cache.is_usable:
        return build_engine(model, options, recipe, progress, cache)
    if (found := cache.find(key)) is None:
        build_apart(model.path, options, progress)
        found = cache.find(key)
    if found is None:
        raise BackendError("the TensorRT engine was built, but is not in the cache: see the warning before this")
    raise_if_refused(found)
    return found
