"""Engines of model files: from the cache, or built, compared with the model, and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from depth_node.backends.engine_cache import BuiltEngine, CachedEngine, EngineCache, EngineKey, Progress
from depth_node.backends.tensorrt import cuda_api, tensorrt_api
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.backends.tensorrt.session import EngineRunner
from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.recipe import PreparedGraph

_REFUSED = "refused"

Run = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[np.float32]]]


class EngineRecipe(Protocol):
    """How a model becomes a graph of some precision, and how an engine of it is proved."""

    def fingerprint(self, model: ModelFile | MotionModelFile, options: EngineOptions) -> str:
        """What the graph depends on beside the model and the options; empty where it is nothing."""
        ...

    def prepare(
        self,
        model: ModelFile | MotionModelFile,
        options: EngineOptions,
        progress: Progress,
        strongly_typed: bool = True,
    ) -> PreparedGraph:
        """The graph to build from. Inputs and outputs are the model's, with `options.batch` in place of 1.

        strongly_typed: whether its types are to be the precision; otherwise the builder's flags are.

        Raises:
            BackendError: it cannot be had in that precision; says what is missing.
        """
        ...

    def check(
        self, model: ModelFile | MotionModelFile, options: EngineOptions, run: Run, progress: Progress
    ) -> Mapping[str, Any]:
        """What was measured on the engine, as JSON has it; kept with it. run: from inputs to outputs, both by name.

        Raises:
            BackendError: the engine must not be used.
        """
        ...


def engine_key(model: ModelFile | MotionModelFile, options: EngineOptions, recipe: EngineRecipe) -> EngineKey:
    """What the engine of a model depends on, on this machine.

    Raises:
        DeviceError: no CUDA device answers.
        BackendError: the recipe has no graph of that precision.
    """
    device = cuda_api.device()
    return EngineKey(
        model=model.checksum,
        device=device.name,
        compute_capability=device.compute_capability,
        tensorrt=tensorrt_api.VERSION,
        precision=options.precision,
        shapes=input_shapes(model, options.batch),
        options={"workspace_mib": options.workspace_mib, "graph": recipe.fingerprint(model, options)},
    )


def input_shapes(model: ModelFile | MotionModelFile, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Shape of every input, by name."""
    spec = model.spec
    shape = (batch, spec.input_height, spec.input_width, 3)
    if isinstance(model, ModelFile) and model.spec.float_input and model.spec.float_input.layout == "NCHW":
        shape = (batch, 3, spec.input_height, spec.input_width)
    return dict.fromkeys(model.inputs, shape)


def build_engine(
    model: ModelFile | MotionModelFile,
    options: EngineOptions,
    recipe: EngineRecipe,
    progress: Progress,
    cache: EngineCache | None = None,
    rebuild: bool = False,
) -> CachedEngine:
    """The engine of a model: from the cache, or built in this process, checked, and kept.

    facts of the engine: those of `PreparedGraph` and of `EngineRecipe.check`, and `build_seconds`, `engine_bytes`,
    `device_bytes` (of its execution context).

    Raises:
        BackendError: no device answers, TensorRT cannot build it, or the recipe refuses it.
    """
    key = engine_key(model, options, recipe)

    def build(timings: bytes) -> BuiltEngine:
        started = time.monotonic()
        graph = recipe.prepare(model, options, progress, tensorrt_api.STRONGLY_TYPED)
        engine, timings = tensorrt_api.build(graph, options, timings, progress)
        seconds = time.monotonic() - started
        progress("checking the engine", float("nan"))
        runner = EngineRunner(engine)
        device_bytes = runner.device_bytes
        try:
            measured = recipe.check(model, options, runner.run, progress)
        except BackendError as error:  # kept, so that it is not built once more at every start
            return BuiltEngine(b"", timings, {_REFUSED: str(error)})
        finally:
            runner.close()
        facts = {"build_seconds": round(seconds, 1), "engine_bytes": len(engine), "device_bytes": device_bytes}
        return BuiltEngine(engine, timings, {**graph.facts, **measured, **facts})

    engine = (cache or EngineCache()).get(key, build, progress, rebuild)
    raise_if_refused(engine)
    return engine


def raise_if_refused(engine: CachedEngine) -> None:
    """Raise BackendError for the record of an engine that its recipe refused."""
    if _REFUSED in engine.facts:
        raise BackendError(engine.facts[_REFUSED])
