"""Sessions that take several images at once: for evaluation, which has thousands of them; the robot has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from depth_node.backends import available_backends
from depth_node.backends.engine_cache import Progress
from depth_node.backends.interface import Session
from depth_node.backends.tensorrt.options import TensorRtOptions
from depth_node.errors import BackendError, ModelFileError
from depth_node.model import ModelFile
from depth_node.precision.batch import with_batch
from depth_node.precision.graph import clean_graph


def open_batch_session(
    model: ModelFile, batch: int, name: str = "auto", precision: str = "auto", progress: Progress = lambda *_: None
) -> Session:
    """A session of a model of our own whose inputs and outputs have `batch` in place of 1.

    name: a backend, `auto` for the best one there is; precision: as `BackendOptions` has it.

    Raises:
        BackendError: the backend is not there, or cannot run the model.
        ModelFileError: the model takes one image at a time.
    """
    if model.spec.float_input is not None:
        raise ModelFileError(f"{model.path} is described by a sidecar, and takes one image at a time")
    available = available_backends()
    if name == "auto" and available:
        name = available[0]
    if name not in available:
        raise BackendError(f"backend '{name}' cannot be had here; there are: {', '.join(available) or 'none'}")
    if name == "tensorrt":
        from depth_node.backends.tensorrt.backend import TensorRtSession

        return TensorRtSession(model, precision, TensorRtOptions(batch=batch), progress)
    with _batched_file(model, batch) as batched:
        if name == "openvino":
            from depth_node.backends.openvino import OpenVinoSession

            return OpenVinoSession(batched, precision)
        from depth_node.backends.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(batched)


@contextmanager
def _batched_file(model: ModelFile, batch: int) -> Iterator[ModelFile]:
    """The model with that batch in a file that a session can be opened on; removed afterwards."""
    with TemporaryDirectory(prefix="depth_node-") as folder:
        path = Path(folder) / model.path.name
        path.write_bytes(with_batch(clean_graph(onnx.load(model.path)), batch).SerializeToString())
        # The checksum is what compiled models are cached under.
        yield replace(model, path=path, checksum=f"{model.checksum}-batch{batch}")
