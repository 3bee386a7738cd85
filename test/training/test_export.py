"""The exported file computes what the network computes, in every backend, and says what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from depth_node.backends import create_backend
from depth_node.errors import ModelFileError
from depth_node.model import read_model
from training import cli, onnx_graphs
from training.checkpoints import TrainedDepth
from training.errors import ExportError
from training.export import ExportedDepth, export_depth


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """uint8 [1, 64, 96, 3]."""
    return np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(tiny_depth: TrainedDepth, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Disparity by PyTorch, from the definition: linear in the sigmoid between 1/100 m and 1/0.5 m."""
    with torch.no_grad():
        sigmoid = tiny_depth.network(torch.from_numpy(image).movedim(-1, 1) / 255)[0][:, 0]
    result: NDArray[np.float32] = (0.01 + (2.0 - 0.01) * sigmoid).numpy()
    assert result.std() > 1e-3 * result.mean()  # not a constant
    return result


@pytest.fixture(scope="module")
def files(tiny_depth: TrainedDepth, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Exported files, by whether their weights are float16."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {half: folder / f"{half}.onnx" for half in (False, True)}
    for half, path in paths.items():
        export_depth(tiny_depth, path, "two streets", "Apache-2.0", "none", half_weights=half)
    return paths


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-3), (True, 1e-2)])
def test_backends_agree_with_pytorch(
    files: dict[bool, Path],
    image: NDArray[np.uint8],
    expected: NDArray[np.float32],
    backend: str,
    half: bool,
    tolerance: float,
) -> None:
    disparity = create_backend(read_model(files[half]), backend, precision="fp32").infer(image).output
    assert disparity.dtype == np.float32
    assert disparity.shape == (1, 64, 96)
    np.testing.assert_allclose(disparity, expected, rtol=tolerance)


def test_metadata_is_the_card(files: dict[bool, Path], tiny_depth: TrainedDepth) -> None:
    spec, card = read_model(files[True]).spec, tiny_depth.card
    assert (spec.input_width, spec.input_height) == (card.width, card.height)
    assert (spec.min_depth, spec.max_depth, spec.metric) == (card.min_depth, card.max_depth, card.metric)
    assert spec.intrinsics_prior == pytest.approx(card.prior)
    assert (spec.dataset, spec.license, spec.recipe) == ("two streets", "Apache-2.0", "none")
    assert (spec.output, spec.float_input) == ("disparity", None)


def test_half_weights_halve_the_file(files: dict[bool, Path]) -> None:
    full, half = (files[is_half].stat().st_size for is_half in (False, True))
    assert 0.5 < half / full < 0.58


def test_input_is_one_uint8_nhwc_image(files: dict[bool, Path]) -> None:
    (graph_input,) = onnx.load(files[False]).graph.input
    assert graph_input.name == "image"
    assert graph_input.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in graph_input.type.tensor_type.shape.dim] == [1, 64, 96, 3]


def test_a_changed_file_is_refused(files: dict[bool, Path], tmp_path: Path) -> None:
    content = bytearray(files[True].read_bytes())
    model = onnx.load(files[True])
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data)).raw_data
    content[content.index(weights) + len(weights) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match="checksum"):
        read_model(tmp_path / "changed.onnx")


def test_a_graph_that_computes_something_else_is_not_written(
    tiny_depth: TrainedDepth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = onnx_graphs.trace

    def of_other_range(module: ExportedDepth, *arguments: Any) -> onnx.ModelProto:
        return genuine(ExportedDepth(module.network, min_depth=0.51, max_depth=100.0), *arguments)

    monkeypatch.setattr(onnx_graphs, "trace", of_other_range)
    with pytest.raises(ExportError, match=r"deviates from PyTorch by 0.0\d+ .*at most 0.001"):
        export_depth(tiny_depth, tmp_path / "model.onnx", "", "", "")
    assert not (tmp_path / "model.onnx").exists()


def test_weights_beyond_half_precision_are_not_written(tiny_depth: TrainedDepth, tmp_path: Path) -> None:
    network = copy.deepcopy(tiny_depth.network)
    weight = dict(network.named_parameters())["decoder.merge.4.0.weight"]
    with torch.no_grad():
        weight[0, 0, 0, 0] = 70_000.0  # float16 ends at 65,504
    large = replace(tiny_depth, network=network)
    with pytest.raises(ExportError, match=r"expected at most 0.01: export it with half_weights: false"):
        export_depth(large, tmp_path / "model.onnx", "", "", "")
    export_depth(large, tmp_path / "model.onnx", "", "", "", half_weights=False)


def test_command(
    tiny_depth: TrainedDepth,
    write_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "last.ckpt", tiny_depth), tmp_path / "model.onnx"
    options = ["--dataset", "streets", "--license", "CC0", "--recipe", "r.yaml"]
    assert cli.main(["export", "--checkpoint", str(checkpoint), "--output", str(output), *options]) == 0
    model = read_model(output)
    assert (model.spec.dataset, model.spec.license, model.spec.recipe) == ("streets", "CC0", "r.yaml")
    printed = capsys.readouterr().out
    assert "96x64" in printed
    assert model.checksum[:12] in printed
    assert cli.main(["export", "--checkpoint", str(tmp_path / "absent"), "--output", str(output)]) == 2
    assert "export: no checkpoint at" in capsys.readouterr().err
