"""Which layers become int8; what is kept of it; what engines are built with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from depth_node.backends.tensorrt.options import EngineOptions
from depth_node.errors import BackendError
from depth_node.model import ModelFile, write_model
from depth_node.precision import execution, int8
from depth_node.precision.calibration import activation_limits
from depth_node.precision.execution import running
from depth_node.precision.frames import ModelFrames
from depth_node.precision.graph import clean_graph
from depth_node.precision.int8 import calibrate_int8, load_int8, save_int8
from depth_node.precision.parity import Tolerance
from depth_node.precision.quantization import quantizable_layers
from depth_node.precision.recipe import MeasuredRecipe
from depth_node.precision.selection import select_layers
from depth_node.resources import cache_directory
from residual_model import residual_graph, write_residual_model

pytest.importorskip("onnxruntime")


def quiet(what: str, share: float) -> None:
    assert 0 <= share <= 1


@pytest.fixture
def private_cache_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def spiked_model(path: Path) -> ModelFile:
    """A model whose merge layer sees values near 1 and, in one channel that it weighs by 2^-10, 1000 times as large.

    Clipping that channel costs little and its range costs all the others' resolution, at any limit.
    """
    graph = clean_graph(residual_graph())
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name, channel, factor in (("reduce.weight", 0, 2.0**10), ("reduce.bias", 0, 2.0**10)):
        values = numpy_helper.to_array(stored[name]).copy()
        values[channel] *= factor
        stored[name].CopyFrom(numpy_helper.from_array(values, name))
    values = numpy_helper.to_array(stored["merge.weight"]).copy()
    values[:, 0] *= 2.0**-10
    stored["merge.weight"].CopyFrom(numpy_helper.from_array(values, "merge.weight"))
    return write_model(graph, write_residual_model(path.with_name("plain.onnx")).spec, path)


def test_limits_are_those_of_the_activations(model: ModelFile, graph: onnx.ModelProto, frames: ModelFrames) -> None:
    """Against NumPy: no limit is beyond the largest value of its tensor, nor clips more than outliers."""
    limits = activation_limits(model, graph, quantizable_layers(graph), frames.inputs, quiet)
    with running(model, graph, list(limits)) as runner:
        values = [runner.run(inputs) for inputs in frames.inputs]
    for tensor, limit in limits.items():
        magnitudes = np.abs([outputs[tensor] for outputs in values])
        assert 0.2 * magnitudes.max() <= limit <= magnitudes.max()
        assert np.mean(magnitudes > limit) < 0.01
    pixels = np.abs(np.concatenate([inputs["image"] for inputs in frames.inputs]) / 255 - 0.45)
    assert limits["normalized.out"] == pytest.approx(pixels.max(), rel=0.15)


def test_a_layer_that_costs_accuracy_is_found_and_kept(tmp_path: Path, frames: ModelFrames) -> None:
    model = spiked_model(tmp_path / "spiked.onnx")
    graph = clean_graph(onnx.load(model.path))
    limits = activation_limits(model, graph, quantizable_layers(graph), frames.inputs, quiet)
    tolerance = Tolerance(median=0.02, p95=0.06)
    selection = select_layers(model, graph, limits, frames.inputs, tolerance, "frames", quiet)
    assert list(selection.kept) == ["merge"]
    assert selection.kept["merge"] > tolerance.p95
    assert selection.layers == ("stem", "block.1", "block.2", "reduce")
    assert selection.deviation.median <= tolerance.median
    assert selection.deviation.p95 <= tolerance.p95


@pytest.mark.usefixtures("private_cache_here")
def test_calibration_is_kept_for_this_model_alone(
    tmp_path: Path, model: ModelFile, graph: onnx.ModelProto, frames: ModelFrames
) -> None:
    assert load_int8(model) is None
    quantized = calibrate_int8(model, frames, quiet)
    path = save_int8(model, quantized)
    loaded = load_int8(model)
    assert loaded is not None
    assert loaded.facts == quantized.facts
    assert loaded.facts["frames"] == "6 random images"
    assert sorted([*loaded.facts["quantized"], *loaded.facts["kept"]]) == sorted(quantizable_layers(graph))
    assert loaded.facts["deviation"]["p95"] <= int8.TARGET.p95
    assert path.stat().st_mode & 0o777 & ~0o644 == 0
    other = spiked_model(tmp_path / "other.onnx")
    assert load_int8(other) is None
    path.write_bytes(path.read_bytes()[:1000])
    assert load_int8(model) is None


@pytest.mark.usefixtures("private_cache_here")
def test_a_model_that_bears_no_int8_is_refused(
    model: ModelFile, frames: ModelFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "TARGET", Tolerance(median=0.0, p95=1e-9))
    with pytest.raises(BackendError, match="none of its 5 layers can be int8"):
        calibrate_int8(model, frames, quiet)
    assert not list(cache_directory("int8").iterdir())


@pytest.mark.usefixtures("private_cache_here")
def test_recipes_say_what_is_missing_for_int8(model: ModelFile) -> None:
    for call in (
        lambda: MeasuredRecipe().prepare(model, EngineOptions("int8"), quiet),
        lambda: MeasuredRecipe().fingerprint(model, EngineOptions("int8")),
    ):
        with pytest.raises(BackendError, match=r"build_engine .*--precision int8 --calibration BAG_OR_FOLDER"):
            call()


@pytest.mark.usefixtures("private_cache_here")
def test_a_fingerprint_is_that_of_the_calibration(model: ModelFile, frames: ModelFrames) -> None:
    """An engine of an older calibration is not taken for one of the new."""
    fingerprints = []
    for some in (frames, ModelFrames(frames.inputs[:2], "2 images")):
        save_int8(model, calibrate_int8(model, some, quiet))
        fingerprints.append(MeasuredRecipe().fingerprint(model, EngineOptions("int8")))
    assert len({*fingerprints, ""}) == 3
    assert MeasuredRecipe().fingerprint(model, EngineOptions("fp16")) == ""


@pytest.mark.usefixtures("private_cache_here")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
@pytest.mark.parametrize("strongly_typed", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_prepared_graphs_compute_the_model(
    model: ModelFile, frames: ModelFrames, precision: str, strongly_typed: bool, batch: int
) -> None:
    """In ONNX Runtime, as an engine would be checked; one that is 3 % off is refused."""
    import onnxruntime as ort

    if precision == "int8":
        save_int8(model, calibrate_int8(model, frames, quiet))
    built, options = MeasuredRecipe(frames), EngineOptions(precision, batch=batch)
    prepared = built.prepare(model, options, quiet, strongly_typed)
    graph = onnx.load_model_from_string(prepared.onnx)
    onnx.checker.check_model(graph, full_check=True)
    version = 19 if precision == "int8" and strongly_typed else 17
    assert [entry.version for entry in graph.opset_import] == [version]
    is_mixed = precision in ("fp16", "int8")
    assert ("head" in prepared.float_layers) == is_mixed
    has_half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.graph.initializer)
    assert has_half == (is_mixed and strongly_typed)

    session = ort.InferenceSession(prepared.onnx, providers=["CPUExecutionProvider"])

    def run(inputs: Any) -> dict[str, np.ndarray]:
        assert inputs["image"].shape == (batch, 32, 64, 3)
        return {"disparity": session.run(["disparity"], dict(inputs))[0]}

    assert json.loads(json.dumps(prepared.facts)) == prepared.facts
    facts = built.check(model, options, run, quiet)
    assert facts["parity"]["frames"] == 6
    assert facts["parity"]["source"] == "6 random images"
    with pytest.raises(BackendError, match=f"the {precision} engine of residual.onnx computes something else"):
        built.check(model, options, lambda inputs: {"disparity": run(inputs)["disparity"] * 1.03}, quiet)


def test_without_frames_engines_are_checked_on_a_synthetic_street_and_without_onnx_runtime_too(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The onnx package's own evaluator takes ONNX Runtime's place as the reference."""
    with running(model, clean_graph(onnx.load(model.path))) as engine:
        monkeypatch.setattr(execution.importlib.util, "find_spec", lambda name: None)
        parity = MeasuredRecipe().check(model, EngineOptions("fp32"), engine.run, quiet)["parity"]
    assert parity["reference"] == "onnx.reference"
    assert parity["source"] == "3 frames of a synthetic street"
    assert parity["maximum"] < 1e-4


def test_an_engine_of_nothing_but_zeros_is_refused(model: ModelFile, frames: ModelFrames) -> None:
    with pytest.raises(BackendError, match="inf%"):
        MeasuredRecipe(frames).check(
            model, EngineOptions("fp16"), lambda _: {"disparity": np.zeros((1, 32, 64), np.float32)}, quiet
        )


def test_tensors_that_a_graph_lacks_are_named(model: ModelFile, graph: onnx.ModelProto) -> None:
    with pytest.raises(BackendError, match="does not compute nothing"), running(model, graph, ["nothing"]):
        pass
