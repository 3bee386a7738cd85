"""Graphs run in float32 on this machine's CPU: the reference of every engine, and where calibration looks inside."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper
from onnx.reference import ReferenceEvaluator

from depth_node.errors import BackendError
from depth_node.model import ModelFile, MotionModelFile
from depth_node.precision.graph import clean_graph


class Runner(Protocol):
    """A graph, ready to run: arrays in, arrays out. `library` says in words what computes."""

    library: str

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """The outputs by name; `inputs` have the graph's types and shapes."""
        ...


@contextmanager
def running(
    model: ModelFile | MotionModelFile, graph: ModelProto, tensors: Sequence[str] | None = None, threads: int = 0
) -> Iterator[Runner]:
    """A graph made from a model file, in ONNX Runtime where it is installed, else in the `onnx` package's evaluator.

    That one needs no inference library and is slow: seconds a frame.

    tensors: what to give, outputs or any float32 tensor inside; the model's outputs if None.
    """
    names = tuple(model.outputs if tensors is None else tensors)
    wanted = _with_outputs(graph, names)
    if importlib.util.find_spec("onnxruntime") is None:
        yield _Evaluator(wanted, names)
        return
    from depth_node.backends.onnxruntime import OnnxRuntimeSession

    with TemporaryDirectory(prefix="depth_node-") as folder:
        path = Path(folder) / f"{model.path.stem}.onnx"
        path.write_bytes(wanted.SerializeToString())
        session = OnnxRuntimeSession(replace(model, path=path, outputs=names), threads)
        try:
            yield _OnnxRuntime(session)
        finally:
            session.close()


class _OnnxRuntime:
    library = "ONNX Runtime"

    def __init__(self, session: Any) -> None:
        self.run = session.run


class _Evaluator:
    library = "onnx.reference"

    def __init__(self, graph: ModelProto, names: tuple[str, ...]) -> None:
        self._evaluator = ReferenceEvaluator(clean_graph(graph))
        self._names = names

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # overflow in the branch of a `where` that is not taken
            outputs = self._evaluator.run(None, dict(inputs))
        return dict(zip(self._names, outputs, strict=True))


def _with_outputs(graph: ModelProto, names: Sequence[str]) -> ModelProto:
    if [value.name for value in graph.graph.output] == list(names):
        return graph
    wanted = ModelProto()
    wanted.CopyFrom(graph)
    computed = {output for node in graph.graph.node for output in node.output}
    missing = set(names) - computed - {value.name for value in graph.graph.input}
    if missing:
        raise BackendError(f"the graph does not compute {', '.join(sorted(missing))}")
    del wanted.graph.output[:]
    wanted.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return wanted
