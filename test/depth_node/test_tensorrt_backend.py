"""From a model file to an engine at work, on stand-ins for CUDA and TensorRT, whose engines compute on the CPU."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fake_cuda
from depth_node.backends import (
    BackendOptions,
    DepthModel,
    SupervisedSession,
    TensorRtOptions,
    available_backends,
    create_backend,
    create_motion_backend,
    supervise,
)
from depth_node.backends.engine_cache import EngineCache
from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError
from depth_node.model import ModelFile, read_any_model, read_model
from depth_node.precision.frames import ModelFrames, model_inputs
from depth_node.precision.recipe import MeasuredRecipe, PreparedGraph
from fake_builder import FakeBuilder
from fake_cuda import FakeCuda, cudaError_t
from motion_model import INTRINSICS, write_tiny_motion_model

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)
DISPARITY = 0.05 + 0.45 * IMAGE.mean(3) / 255


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder()


@pytest.fixture
def use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: FakeCuda, builder: FakeBuilder
) -> Iterator[Callable[[str], None]]:
    """Has a version of TensorRT installed, whose engines are built in this process; nothing may stay on the device."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in fake_cuda.MODULES or find_spec(name))

    def install(version: str) -> None:
        fake_cuda.install(monkeypatch, cuda, version, builder)
        backend = module("backend")

        def build_here(path: Path, options: EngineOptions, progress: Any) -> None:
            file = read_any_model(path)
            frames = ModelFrames((model_inputs(file, *[IMAGE] * len(file.inputs)),), "noise")
            module("engines").build_engine(file, options, MeasuredRecipe(frames), progress)

        monkeypatch.setattr(backend, "build_apart", build_here)

    yield install
    assert cuda.is_empty


def module(name: str) -> ModuleType:
    return importlib.import_module(f"depth_node.backends.tensorrt.{name}")


@pytest.fixture
def model(tiny_model_path: Path) -> ModelFile:
    return read_model(tiny_model_path)


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.0"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_precisions_of_every_version(
    use: Callable[[str], None], builder: FakeBuilder, model: ModelFile, version: str, precision: str
) -> None:
    use(version)
    backend = create_backend(model, "tensorrt", precision, tensorrt=TensorRtOptions(workspace_mib=64))
    rel = 1e-6 if precision != "fp16" or version == "8.6.0" else 2e-3  # 8.6 is given the graph in float32
    assert backend.infer(IMAGE).output == pytest.approx(DISPARITY, rel=rel)
    assert (backend.name, backend.precision) == ("tensorrt", precision)
    assert backend.device == "Fake GPU (compute capability 8.7)"
    backend.close()

    (build,) = builder.builds
    assert ("TF32" in build.config.flags) == (precision != "fp32")
    assert build.config.workspace == 64 * 2**20
    assert ("FP16" in build.config.flags) == (version == "8.6.0" and precision == "fp16")
    if version == "8.6.0" and precision == "fp16":
        assert build.kept, "normalisation and disparity stay in float32"
        assert "PREFER_PRECISION_CONSTRAINTS" in build.config.flags
    assert (build.config.tactics is not None) == (version == "8.6.0")
    flags = importlib.import_module("tensorrt").NetworkDefinitionCreationFlag
    wanted = flags.EXPLICIT_BATCH if version == "8.6.0" else flags.STRONGLY_TYPED
    assert build.network.flags == 1 << int(wanted)


def test_an_engine_is_built_once_with_its_facts(
    use: Callable[[str], None], builder: FakeBuilder, model: ModelFile
) -> None:
    use("10.3.0")
    for _ in range(2):
        create_backend(model, "tensorrt", "fp16").close()
    create_backend(model, "tensorrt", "fp32").close()
    assert [build.config.used_timings for build in builder.builds] == [b"", b"timings"]
    engines = module("engines")
    recipe = MeasuredRecipe()
    found = EngineCache().find(engines.engine_key(model, EngineOptions("fp16"), recipe))
    assert found is not None
    assert found.facts["parity"]["median"] < 2e-3
    assert found.facts["engine_bytes"] == len(found.engine)
    assert found.facts["device_bytes"] == 4096 + IMAGE.nbytes + 4 * 32 * 64


def test_motion_models_run_too(use: Callable[[str], None], tmp_path: Path) -> None:
    use("10.3.0")
    backend = create_motion_backend(write_tiny_motion_model(tmp_path / "motion.onnx"), "tensorrt", "fp32")
    found = backend.infer(np.full_like(IMAGE, 51), np.full_like(IMAGE, 102))
    assert found.axis_angle == pytest.approx([0.2] * 3, abs=1e-6)
    assert found.intrinsics == pytest.approx(INTRINSICS)
    backend.close()


def test_an_engine_that_computes_something_else_is_refused_for_good(
    use: Callable[[str], None], builder: FakeBuilder, model: ModelFile
) -> None:
    use("10.3.0")
    builder.wrong = {"other": 1.1}
    for _ in range(2):
        with pytest.raises(BackendError, match=r"fp16 engine of tiny.onnx computes something else than the model"):
            create_backend(model, "tensorrt", "fp16")
    assert len(builder.builds) == 1


def test_auto_takes_float32_where_float16_is_refused(
    use: Callable[[str], None], builder: FakeBuilder, model: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    use("10.3.0")
    create_backend(model).close()
    builder.wrong = {"other": 1.1}
    EngineCache().remove(
        EngineCache().find(module("engines").engine_key(model, EngineOptions("fp16"), MeasuredRecipe()))  # type: ignore[arg-type]
    )
    backend = create_backend(model)
    assert (backend.name, backend.precision) == ("tensorrt", "fp32")
    assert backend.infer(IMAGE).output == pytest.approx(DISPARITY, rel=1e-6)
    assert "no engine in fp16: the fp16 engine" in caplog.text
    backend.close()


def test_auto_prefers_tensorrt_and_says_so(
    use: Callable[[str], None], model: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    use("10.3.0")
    assert available_backends()[0] == "tensorrt"
    with caplog.at_level(logging.INFO):
        backend = create_backend(model)
    assert (backend.name, backend.precision) == ("tensorrt", "fp16")
    assert "backend auto: tensorrt (the preferred one)" in caplog.text
    backend.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (cudaError_t.cudaErrorNoDevice, "no CUDA device answers"),
        (cudaError_t.cudaErrorInsufficientDriver, "the NVIDIA driver is made for CUDA 12.6"),
    ],
)
def test_auto_falls_back_where_no_device_answers(
    use: Callable[[str], None],
    cuda: FakeCuda,
    model: ModelFile,
    caplog: pytest.LogCaptureFixture,
    error: cudaError_t,
    reason: str,
) -> None:
    use("10.3.0")
    cuda.error = error
    backend = create_backend(model, precision="fp16")
    assert backend.name == "openvino"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith(f"backend auto: openvino (no tensorrt: {reason}")
    assert "tensorrt" not in available_backends()
    with pytest.raises(BackendError, match=f"^{reason}"):
        create_backend(model, "tensorrt")


@pytest.mark.parametrize("failure", ["out of memory", "no implementation for node /conv"])
def test_auto_falls_back_where_no_engine_can_be_built(
    use: Callable[[str], None],
    builder: FakeBuilder,
    model: ModelFile,
    caplog: pytest.LogCaptureFixture,
    failure: str,
) -> None:
    use("10.3.0")
    builder.failure = failure
    assert create_backend(model).name == "openvino"
    assert f"since TensorRT 10.3.0 cannot build the engine: {failure}" in caplog.text


def test_too_little_memory_falls_back(
    use: Callable[[str], None], cuda: FakeCuda, model: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    use("10.3.0")
    create_backend(model).close()
    cuda.memory_bytes = 100
    assert create_backend(model).name == "openvino"
    assert "bytes of device memory" in caplog.text


def test_an_old_tensorrt_is_refused(use: Callable[[str], None], model: ModelFile) -> None:
    use("8.6.0")
    module("tensorrt_api").VERSION = "8.5.2"
    with pytest.raises(BackendError, match=r"TensorRT 8.5.2 is too old; expected 8.6 or newer"):
        create_backend(model, "tensorrt")


def test_an_engine_that_the_library_does_not_take_is_built_again(
    use: Callable[[str], None], builder: FakeBuilder, model: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    """The key has all that we know of; a driver may still refuse it."""
    use("10.3.0")
    create_backend(model, "tensorrt", "fp16").close()
    api = module("tensorrt_api")
    deserialize, refused = api.trt.Runtime.deserialize_cuda_engine, []

    def refuse_once(runtime: Any, serialized: bytes) -> Any:
        if not refused:
            refused.append(serialized)
            return None
        return deserialize(runtime, serialized)

    api.trt.Runtime.deserialize_cuda_engine = refuse_once
    create_backend(model, "tensorrt", "fp16").close()
    assert len(builder.builds) == 2
    assert "building the TensorRT engine again: TensorRT 10.3.0 cannot make an engine" in caplog.text


def test_without_a_cache_the_engine_is_built_in_place(
    use: Callable[[str], None],
    builder: FakeBuilder,
    model: ModelFile,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use("10.3.0")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        create_backend(model, "tensorrt", "fp16").close()
    assert len(builder.builds) == 2
    assert caplog.text.count("there is no cache for TensorRT engines, which take minutes to build") == 2


def test_the_device_is_reset_when_its_last_user_has_gone(
    use: Callable[[str], None], cuda: FakeCuda, model: ModelFile, tmp_path: Path
) -> None:
    """An illegal access stays with the process until then; whoever else uses the device fails at its next inference."""
    use("10.3.0")
    motion_model = write_tiny_motion_model(tmp_path / "motion.onnx")
    depth, motion = create_backend(model, "tensorrt", "fp32"), create_motion_backend(motion_model, "tensorrt", "fp32")
    cuda.error = cudaError_t.cudaErrorIllegalAddress
    for infer in (lambda: depth.infer(IMAGE), lambda: motion.infer(IMAGE, IMAGE)):
        with pytest.raises(BackendError):
            infer()
    depth.close()
    assert cuda.resets == 0
    motion.close()
    assert cuda.resets == 1
    again = create_backend(model, "tensorrt", "fp32")
    assert again.infer(IMAGE).output == pytest.approx(DISPARITY, rel=1e-6)
    again.close()
    assert cuda.resets == 1


def test_a_supervised_session_outlives_a_lost_device(
    use: Callable[[str], None], cuda: FakeCuda, model: ModelFile
) -> None:
    use("10.3.0")
    session = supervise(model, BackendOptions("tensorrt", "fp32"))
    backend = DepthModel(model, session)
    try:
        wait_until_open(session)
        assert backend.infer(IMAGE).output == pytest.approx(DISPARITY, rel=1e-6)
        lose_and_find_again(cuda, session, backend)
    finally:
        session.close()


def wait_until_open(session: SupervisedSession) -> None:
    with session._changed:
        assert session._changed.wait_for(lambda: session._session is not None, 20)


def lose_and_find_again(cuda: FakeCuda, session: SupervisedSession, backend: DepthModel) -> None:
    cuda.error = cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match="CUDA failed"):
        backend.infer(IMAGE)
    wait_until_open(session)
    assert backend.infer(IMAGE).output == pytest.approx(DISPARITY, rel=1e-6)
    assert (backend.name, session.state.fault, session.state.failures) == ("tensorrt", "", 1)
    assert cuda.resets == 1


def test_progress_is_told_and_can_stop_a_build(
    use: Callable[[str], None], builder: FakeBuilder, model: ModelFile
) -> None:
    use("10.3.0")
    builder.phases = (("Building engine", 2), ("Tactic timing", 4))
    engines, recipe = module("engines"), MeasuredRecipe()
    told: list[tuple[str, float]] = []
    engines.build_engine(model, EngineOptions("fp32"), recipe, lambda step, share: told.append((step, share)))
    assert [share for step, share in told if step == "Building engine"] == [0.5, 1.0]
    assert [share for step, share in told if step == "Tactic timing"] == [0.25, 0.5, 0.75, 1.0]

    def stop(step: str, share: float) -> None:
        if step == "Tactic timing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engines.build_engine(model, EngineOptions("fp32"), recipe, stop, rebuild=True)
    assert len(builder.builds) == 1


def test_a_model_that_tensorrt_cannot_read(use: Callable[[str], None], model: ModelFile) -> None:
    use("10.3.0")
    api = module("tensorrt_api")
    graph = PreparedGraph(b"not ONNX", {}, frozenset())
    with pytest.raises(BackendError, match="cannot read the model: Failed to parse the ONNX model"):
        api.build(graph, EngineOptions("fp32"), b"", lambda step, share: None)


def test_foreign_timings_are_left_out(use: Callable[[str], None], builder: FakeBuilder, model: ModelFile) -> None:
    use("10.3.0")
    prepared = MeasuredRecipe().prepare(model, EngineOptions("fp32"), lambda step, share: None)
    module("tensorrt_api").build(prepared, EngineOptions("fp32"), b"of another device", lambda step, share: None)
    assert builder.builds[0].config.used_timings == b""
