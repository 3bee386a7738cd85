"""Every backend gives the model's own numbers, says what it runs on, and leaves other threads alone."""

from __future__ import annotations

import importlib.util
import logging
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from depth_node.backends import BACKENDS, Backend, available_backends, create_backend
from depth_node.errors import BackendError
from depth_node.model import ModelFile, ModelSpec, read_model, write_model
from depth_node.resources import cache_directory

pytestmark = pytest.mark.filterwarnings("error")

MakeModel = Callable[..., ModelFile]


@pytest.fixture(params=BACKENDS)
def backend_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in available_backends():
        pytest.skip(f"{name} is not installed")
    return name


def random_image(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)


def convolution_model(path: Path, width: int, height: int, layers: int) -> ModelFile:
    """A model with something to compute: 3x3 convolutions of 64 channels."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["bytes"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["x0"]),
    ]
    weights = [numpy_helper.from_array(np.float32(1 / 255), "scale")]
    for layer in range(layers):
        inputs = 3 if layer == 0 else 64
        kernel = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (64, inputs, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [f"x{layer}", f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"x{layer + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"x{layers}"], ["disparity"], axes=[1], keepdims=0))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])
    output = helper.make_tensor_value_info("disparity", TensorProto.FLOAT, [1, height, width])
    graph = helper.make_graph(nodes, "convolutions", [image], [output], weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    spec = ModelSpec(width, height, 0.1, 100.0, False, (1.0, 1.0, 0.5, 0.5), "none", "Apache-2.0", "random")
    return write_model(model, spec, path)


def test_output_is_the_model_s(backend_name: str, tiny_model_path: Path) -> None:
    backend = create_backend(read_model(tiny_model_path), backend_name, precision="fp32")
    image = random_image(64, 32)
    prediction = backend.infer(image)
    output = prediction.output
    assert prediction.confidence is None
    assert output.dtype == np.float32
    assert output.shape == (1, 32, 64)
    assert output == pytest.approx(0.05 + 0.45 * image.mean(axis=-1) / 255, rel=1e-5)
    assert (backend.name, backend.precision) == (backend_name, "fp32")
    assert backend.device.startswith("CPU")
    backend.close()


def test_confidence_is_the_model_s(backend_name: str, make_tiny_model: MakeModel, tmp_path: Path) -> None:
    backend = create_backend(make_tiny_model(tmp_path / "sure.onnx", confidence=True), backend_name, precision="fp32")
    image = random_image(64, 32)
    grey = image.mean(axis=-1) / 255
    prediction = backend.infer(image)
    assert prediction.output == pytest.approx(0.05 + 0.45 * grey, rel=1e-5)
    assert prediction.confidence is not None
    assert prediction.confidence.dtype == np.float32
    assert prediction.confidence == pytest.approx(grey, rel=1e-5)
    kept = prediction.confidence.copy()
    backend.infer(np.zeros((1, 32, 64, 3), np.uint8))
    assert np.array_equal(prediction.confidence, kept)


def test_outputs_are_told_apart_by_name(backend_name: str, make_tiny_model: MakeModel, tmp_path: Path) -> None:
    """Also in a file that lists the confidence first, and when it comes out of the cache of compiled models."""
    path = make_tiny_model(tmp_path / "sure.onnx", confidence=True).path
    model = onnx.load(path)
    outputs = list(model.graph.output)[::-1]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    swapped = write_model(model, read_model(path).spec, tmp_path / "swapped.onnx")
    for _ in range(2):
        prediction = create_backend(swapped, backend_name, precision="fp32").infer(np.zeros((1, 32, 64, 3), np.uint8))
        assert prediction.output == pytest.approx(0.05)
        assert prediction.confidence is not None
        assert not prediction.confidence.any()


def test_a_foreign_confidence_is_named_by_the_sidecar(backend_name: str, tmp_path: Path) -> None:
    backend = create_backend(foreign_model(tmp_path, "NCHW", "rgb", confidence=True), backend_name, precision="fp32")
    image = random_image(40, 24)
    prediction = backend.infer(image)
    normalised = (image.astype(np.float64) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    assert prediction.output == pytest.approx(normalised @ [1, 10, 100], rel=1e-4, abs=1e-4)
    assert prediction.confidence is not None
    assert prediction.confidence.shape == (1, 24, 40)
    assert prediction.confidence == pytest.approx(1 / (1 + np.exp(-normalised @ [1, 10, 100])), abs=1e-5)


def test_output_is_the_caller_s_own(backend_name: str, tiny_model_path: Path) -> None:
    backend = create_backend(read_model(tiny_model_path), backend_name)
    first = backend.infer(np.zeros((1, 32, 64, 3), np.uint8)).output
    kept = first.copy()
    backend.infer(np.full((1, 32, 64, 3), 255, np.uint8))
    assert np.array_equal(first, kept)


def test_backends_agree_in_fp32(tmp_path: Path) -> None:
    if len(available_backends()) < 2:
        pytest.skip("needs two backends")
    model = convolution_model(tmp_path / "model.onnx", 96, 64, layers=4)
    image = random_image(96, 64)
    first, second = (
        create_backend(model, name, precision="fp32").infer(image).output for name in available_backends()[:2]
    )
    assert first == pytest.approx(second, rel=1e-4)


def test_automatic_precision_stays_near_fp32(backend_name: str, tmp_path: Path) -> None:
    model = convolution_model(tmp_path / "model.onnx", 96, 64, layers=4)
    image = random_image(96, 64)
    exact = create_backend(model, backend_name, precision="fp32").infer(image).output
    backend = create_backend(model, backend_name)
    # bfloat16 keeps 8 bits of a number.
    assert backend.infer(image).output == pytest.approx(
        exact, rel={"fp32": 1e-5, "fp16": 0.005, "bf16": 0.03}[backend.precision]
    )


def test_python_runs_during_inference(backend_name: str, tmp_path: Path) -> None:
    backend = create_backend(convolution_model(tmp_path / "model.onnx", 640, 192, layers=8), backend_name, "fp32")
    image = random_image(640, 192)
    backend.infer(image)
    ticks: list[float] = []
    finished = threading.Event()

    def tick() -> None:
        while not finished.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    started = time.perf_counter()
    backend.infer(image)
    duration = time.perf_counter() - started
    finished.set()
    thread.join()
    middle = [tick for tick in ticks if started + 0.2 * duration < tick < started + 0.8 * duration]
    assert duration > 0.02, "the model is too small for this test"
    assert len(middle) >= 3


def test_threads_do_not_change_the_result(backend_name: str, tmp_path: Path) -> None:
    model = convolution_model(tmp_path / "model.onnx", 96, 64, layers=2)
    image = random_image(96, 64)
    one = create_backend(model, backend_name, "fp32", threads=1).infer(image).output
    assert one == pytest.approx(create_backend(model, backend_name, "fp32").infer(image).output, rel=1e-4)


def foreign_model(folder: Path, layout: str, color: str, confidence: bool = False) -> ModelFile:
    """Weighs the channels differently: 1 a + 10 b + 100 c, so that a wrong order shows; confidence: the sigmoid."""
    shape = [1, 3, 24, 40] if layout == "NCHW" else [1, 24, 40, 3]
    axis = shape.index(3)
    weight = np.array([1, 10, 100], np.float32).reshape([3 if size == 3 else 1 for size in shape])
    nodes = [
        helper.make_node("Mul", ["x", "weight"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["y"], keepdims=int(layout == "NCHW")),
    ]
    initializers = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array([axis], np.int64), "axis"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if confidence:
        nodes.append(helper.make_node("Sigmoid", ["y"], ["sureness"]))
        outputs.insert(0, helper.make_tensor_value_info("sureness", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "foreign", [x], outputs, initializers)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), folder / "f.onnx")
    sidecar: dict[str, Any] = {
        "depth_node.format": 1,
        "kind": "depth",
        "input.color": color,
        "input.layout": layout,
        "input.mean": [0.1, 0.2, 0.3],
        "input.std": [0.5, 0.25, 2.0],
        "output": "disparity",
        "min_depth": 0.1,
        "max_depth": 80,
        "metric": False,
        "intrinsics.prior": [1, 1, 0.5, 0.5],
        "dataset": "none",
        "license": "Apache-2.0",
        "recipe": "none",
        **({"output.confidence": "sureness"} if confidence else {}),
    }
    (folder / "f.yaml").write_text(yaml.safe_dump(sidecar))
    return read_model(folder / "f.onnx")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_foreign_models_get_normalised_channels(backend_name: str, tmp_path: Path, layout: str, color: str) -> None:
    backend = create_backend(foreign_model(tmp_path, layout, color), backend_name, precision="fp32")
    image = random_image(40, 24)
    channels = image.astype(np.float64) / 255
    if color == "bgr":
        channels = channels[..., ::-1]
    expected = ((channels - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]) @ [1, 10, 100]
    assert backend.infer(image).output == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_auto_takes_the_first_installed_and_says_so(tiny_model_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "depth_node"):
        backend = create_backend(read_model(tiny_model_path))
    assert backend.name == available_backends()[0]
    assert f"backend auto: {backend.name}" in caplog.text


def test_auto_passes_over_what_is_not_installed(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hide(monkeypatch, "openvino")
    with caplog.at_level(logging.INFO, "depth_node"):
        backend = create_backend(read_model(tiny_model_path))
    assert backend.name == "onnxruntime"
    assert "openvino is not installed" in caplog.text


def test_auto_falls_back_from_a_library_that_does_not_load(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises: missing libraries are an ImportError, but other NumPy ABIs an AttributeError, and so on."""
    model = read_model(tiny_model_path)
    break_openvino(monkeypatch, tmp_path, "raise AttributeError('_ARRAY_API\\nnot found')")
    assert create_backend(model).name == "onnxruntime"
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith(
        "backend auto: onnxruntime, since backend 'openvino' is installed but does not load (_ARRAY_API not found)"
    )


def test_auto_falls_back_from_a_library_that_cannot_load_the_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = graph_model(tmp_path, helper.make_node("Binarizer", ["grey"], ["disparity"], domain="ai.onnx.ml"))
    backend = create_backend(model)
    assert backend.name == "onnxruntime"
    assert (backend.infer(np.full((1, 8, 8, 3), 255, np.uint8)).output == 1).all()
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    message = record.getMessage()
    assert message.startswith("backend auto: onnxruntime, since OpenVINO ")
    assert message.endswith("ai.onnx.ml.Binarizer")
    assert "\n" not in message
    with pytest.raises(BackendError, match=r"OpenVINO .* cannot load .*model.onnx: .*Binarizer"):
        create_backend(model, "openvino")


def reshaped(rows: NDArray[np.int64]) -> list[onnx.NodeProto]:
    """Disparity reshaped to (rows + brightest grey) x 8: what fits 64 pixels shows only when it runs."""
    return [
        helper.make_node("Constant", [], ["rows"], value=numpy_helper.from_array(rows)),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1], np.int64))),
        helper.make_node("Constant", [], ["eight"], value=numpy_helper.from_array(np.array([8], np.int64))),
        helper.make_node("ReduceMax", ["grey"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["extra"], to=TensorProto.INT64),
        helper.make_node("Add", ["rows", "extra"], ["height"]),
        # In two steps, or ONNX Runtime would put -1 in place of the one number that it does not know.
        helper.make_node("Concat", ["height", "eight"], ["size"], axis=0),
        helper.make_node("Concat", ["one", "size"], ["shape"], axis=0),
        helper.make_node("Reshape", ["grey", "shape"], ["disparity"]),
    ]


def test_a_model_that_loads_but_does_not_run_is_an_error(backend_name: str, tmp_path: Path) -> None:
    model = graph_model(tmp_path, *reshaped(rows=np.array([7])))
    with pytest.raises(BackendError, match=r"cannot run .*model.onnx: .*Reshape") as error:
        create_backend(model, backend_name)
    assert "\n" not in str(error.value)


def test_auto_says_why_no_backend_runs_a_model(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"^no installed backend can be used: OpenVINO .*; ONNX Runtime .*Reshape"):
        create_backend(graph_model(tmp_path, *reshaped(rows=np.array([7]))))


def test_a_failure_in_mid_stream_is_an_error(backend_name: str, tmp_path: Path) -> None:
    backend = create_backend(graph_model(tmp_path, *reshaped(rows=np.array([8]))), backend_name)
    with pytest.raises(BackendError, match=r"cannot run .*model.onnx: .*Reshape"):
        backend.infer(np.full((1, 8, 8, 3), 255, np.uint8))
    assert (backend.infer(np.zeros((1, 8, 8, 3), np.uint8)).output == 0).all()


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Make libraries look as though they were not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in libraries else find_spec(name))


def break_openvino(monkeypatch: pytest.MonkeyPatch, folder: Path, statement: str) -> None:
    """Put another openvino in its place, which does something else when it is imported."""
    (folder / "openvino.py").write_text(statement)
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.startswith(("openvino", "depth_node.backends.openvino"))]:
        monkeypatch.delitem(sys.modules, name)


def test_a_missing_library_is_named_with_its_command(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(tiny_model_path)
    hide(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(BackendError, match="backend 'openvino' needs a library: pip install openvino"):
        create_backend(model, "openvino")
    with pytest.raises(BackendError, match="no inference library is installed: pip install openvino"):
        create_backend(model)


def test_a_broken_library_is_an_error_that_says_so(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_model(tiny_model_path)
    break_openvino(monkeypatch, tmp_path, "raise ImportError('libtbb.so.12: cannot open shared object file')")
    with pytest.raises(BackendError, match=r"does not load \(libtbb.so.12.*pip install --force-reinstall openvino"):
        create_backend(model, "openvino")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cuda"}, "backend 'cuda' is unknown; expected auto or one of: tensorrt, openvino, onnxruntime"),
        ({"precision": "int4"}, "precision 'int4' is unknown; expected one of: auto, fp32, tf32, fp16, int8"),
        (
            {"name": "onnxruntime", "precision": "fp16"},
            "'onnxruntime' has no precision 'fp16'; expected one of: auto, fp32",
        ),
        ({"threads": -1}, "threads is -1; expected 0"),
    ],
)
def test_unknown_choices_are_refused(tiny_model_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        create_backend(read_model(tiny_model_path), **arguments)


def graph_model(folder: Path, *nodes: onnx.NodeProto) -> ModelFile:
    """An 8x8 model whose nodes make `disparity` of `grey`, float32 [1, 8, 8]."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 3])
    output = helper.make_tensor_value_info("disparity", TensorProto.FLOAT, [1, 8, 8])
    grey = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["grey"], axes=[3], keepdims=0),
    ]
    graph = helper.make_graph([*grey, *nodes], "g", [image], [output])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
    spec = ModelSpec(8, 8, 0.1, 100.0, False, (1.0, 1.0, 0.5, 0.5), "none", "Apache-2.0", "none")
    return write_model(model, spec, folder / "model.onnx")


def test_a_graph_that_the_library_cannot_load_is_an_error(backend_name: str, tmp_path: Path) -> None:
    file = graph_model(tmp_path, helper.make_node("NoSuchOperator", ["grey"], ["disparity"], domain="nowhere"))
    with pytest.raises(BackendError, match=r"cannot load .*model.onnx: .*NoSuchOperator") as error:
        create_backend(file, backend_name)
    assert "\n" not in str(error.value)


def test_compiled_models_are_cached_by_content(
    make_tiny_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = np.zeros((1, 32, 64, 3), np.uint8)

    def black(at_black: float) -> tuple[Backend, float]:
        model = make_tiny_model(tmp_path / "same_name.onnx", at_black=at_black)
        backend = create_backend(model, "openvino", "fp32")
        return backend, float(backend.infer(image).output[0, 0, 0])

    assert black(0.05)[1] == pytest.approx(0.05)
    assert black(0.1)[1] == pytest.approx(0.1)
    folders = list(cache_directory("openvino").iterdir())
    assert len(folders) == 2
    assert all(list(folder.glob("*.blob")) for folder in folders)
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in folders)
    assert black(0.1)[1] == pytest.approx(0.1)  # from the cache
    assert len(list(cache_directory("openvino").iterdir())) == 2


def test_without_a_cache_the_model_is_compiled_all_the_same(
    make_tiny_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    backend = create_backend(make_tiny_model(tmp_path / "model.onnx"), "openvino", "fp32")
    assert backend.infer(np.zeros((1, 32, 64, 3), np.uint8)).output == pytest.approx(0.05)
    assert "compiling the model without a cache" in caplog.text
