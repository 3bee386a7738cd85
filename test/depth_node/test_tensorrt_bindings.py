"""With NVIDIA's own bindings, on a machine without a device: what is said, and what serves instead.

`pip install tensorrt==8.6.0 cuda-python nvidia-cuda-runtime-cu12` on Python 3.10 is enough, where libcublas.so.12,
libcublasLt.so.12 and libcudnn.so.8 can be loaded, or stand-ins that export what its plugin library asks them for.
"""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_node.backends import BackendOptions, DepthModel, available_backends, create_backend, supervise
from depth_node.backends.tensorrt.build_process import build_apart
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError
from depth_node.model import read_model
from tensorrt_names import SOURCE, used_names

try:
    import tensorrt as trt

    from depth_node.backends.tensorrt import cuda_api, engines, tensorrt_api
    from depth_node.precision.recipe import MeasuredRecipe, PreparedGraph
except ImportError as error:
    pytest.skip(f"TensorRT cannot be imported: {error}", allow_module_level=True)

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = np.zeros((1, 32, 64, 3), np.uint8)


def has_device() -> bool:
    try:
        cuda_api.device()
    except cuda_api.DeviceError:
        return False
    return True


without_device = pytest.mark.skipif(has_device(), reason="a CUDA device answers")


def test_every_name_that_is_used_exists() -> None:
    missing = []
    for name in used_names(SOURCE.read_text(encoding="utf-8"), tensorrt_api.MAJOR):
        found: object = trt
        for part in name.split("."):
            found = getattr(found, part, None)
        missing += [name] if found is None else []
    assert not missing


def test_every_name_of_cuda_that_is_used_exists() -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(Path(cuda_api.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "runtime"
    }
    assert len(used) > 25
    assert not [name for name in used if not hasattr(cuda_api.runtime, name)]


def test_the_logger_is_one_that_tensorrt_takes() -> None:
    logger = tensorrt_api._logger()
    assert isinstance(logger, trt.ILogger)
    assert tensorrt_api._logger() is logger
    logger.log(trt.ILogger.Severity.ERROR, "out of\nmemory")
    assert logger.reason() == "out of memory"


@without_device
def test_no_device_is_one_sentence() -> None:
    with pytest.raises(cuda_api.DeviceError, match=r"^no (NVIDIA driver is loaded|CUDA device answers)"):
        cuda_api.device()
    with pytest.raises(BackendError, match=r"^CUDA failed at allocating 16 bytes of host memory: "):
        cuda_api.Buffer((16,), np.uint8)
    with pytest.raises(BackendError, match=r"^CUDA failed at making a stream: "):
        cuda_api.Stream()


@without_device
def test_the_builder_fails_with_what_tensorrt_says() -> None:
    with pytest.raises(BackendError, match=r"^TensorRT .* cannot make a builder: \S.*") as error:
        tensorrt_api.build(PreparedGraph(b"", {}, frozenset()), EngineOptions("fp32"), b"", lambda step, share: None)
    assert "\n" not in str(error.value)
    assert "initialization failure" in str(error.value)


@without_device
@pytest.mark.parametrize("precision", ["auto", "fp16", "int8"])
def test_auto_serves_on_another_backend_and_says_why(
    tiny_model_path: Path, caplog: pytest.LogCaptureFixture, precision: str
) -> None:
    assert "tensorrt" not in available_backends()
    backend = create_backend(read_model(tiny_model_path), precision=precision)
    assert backend.name == available_backends()[0]
    assert backend.infer(IMAGE).output == pytest.approx(0.05, rel=1e-2)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith(f"backend auto: {backend.name} (no tensorrt: no ")
    backend.close()


@without_device
def test_a_supervised_session_does_so_too(tiny_model_path: Path) -> None:
    model = read_model(tiny_model_path)
    session = supervise(model, BackendOptions())
    session.wait_until_decided()
    assert DepthModel(model, session).infer(IMAGE).output == pytest.approx(0.05, rel=1e-2)
    assert session.name == available_backends()[0]
    session.close()

    asked_for = supervise(model, BackendOptions("tensorrt"))
    with pytest.raises(BackendError, match=r"^no (NVIDIA driver is loaded|CUDA device answers)"):
        asked_for.wait_until_decided()
    asked_for.close()


@without_device
def test_tensorrt_that_was_asked_for_by_name_is_an_error(tiny_model_path: Path) -> None:
    with pytest.raises(BackendError, match=r"^no (NVIDIA driver is loaded|CUDA device answers)"):
        create_backend(read_model(tiny_model_path), "tensorrt")
    with pytest.raises(cuda_api.DeviceError):
        engines.build_engine(
            read_model(tiny_model_path), EngineOptions("fp16"), MeasuredRecipe(), lambda step, share: None
        )


@without_device
def test_the_process_that_builds_says_so_too(tiny_model_path: Path) -> None:
    with pytest.raises(BackendError, match=r"^no (NVIDIA driver is loaded|CUDA device answers)"):
        build_apart(tiny_model_path, EngineOptions("fp16"), lambda step, share: None)


@without_device
def test_build_engine_says_so_without_a_traceback(tiny_model_path: Path) -> None:
    command = [sys.executable, "-m", "depth_node", "build_engine", str(tiny_model_path)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "Traceback" not in run.stderr + run.stdout
    assert "no NVIDIA driver is loaded" in run.stderr or "no CUDA device answers" in run.stderr


def test_tensorrt_is_not_imported_before_it_is_needed() -> None:
    script = "import sys, depth_node.backends, depth_node.parameters; print({'tensorrt', 'cuda'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
