"""STDC encoders against the sizes of the paper (Fan et al., CVPR 2021, table 3)."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from training.errors import RecipeError
from training.networks.encoders import create_encoder, feature_info
from training.networks.stdc import STDCNet

CLASSIFIER = (
    (1024 * 1024 + 2 * 1024) + 1024 * 1024 + 1024 * 1000
)  # convolution with batch norm, two layers without bias


@pytest.mark.parametrize(("name", "parameters", "operations"), [("stdc1", 8.44e6, 813e6), ("stdc2", 12.47e6, 1446e6)])
def test_size_and_cost_are_the_papers(name: str, parameters: float, operations: float) -> None:
    """With the classifier, 1024 channels on 7x7 and two layers; operations are multiplications with addition."""
    with torch.device("meta"):
        network = STDCNet(name)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count + CLASSIFIER == pytest.approx(parameters, rel=1e-3)
    classifier = 7 * 7 * 1024 * 1024 + 1024 * 1024 + 1024 * 1000
    assert counter.get_total_flops() / 2 + classifier == pytest.approx(operations, rel=0.01)


@pytest.mark.parametrize("name", ["stdc1", "stdc2"])
def test_features(name: str) -> None:
    network = STDCNet(name).eval()
    info = feature_info(network)
    assert (info.channels(), info.reduction()) == ([32, 64, 256, 512, 1024], [2, 4, 8, 16, 32])
    features = network(torch.rand(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(info.channels(), info.reduction(), strict=True)
    ]
    last = {name: network.get_submodule(name) for name in info.module_name()}
    outputs = OrderedDict[str, torch.Tensor]()
    for name_of_stage, module in last.items():
        module.register_forward_hook(lambda _, __, output, key=name_of_stage: outputs.update({key: output}))
    again = network(torch.rand(1, 3, 64, 96))
    assert all(a is b for a, b in zip(outputs.values(), again, strict=True))


def test_weights_of_the_authors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their file has the classifier, too, and may come from several GPUs; without it, a recipe says what it lacks."""
    source = STDCNet("stdc1")
    state = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": {**state, "module.linear.weight": torch.ones(2, 2)}}, tmp_path / "stdc.tar")
    loaded = create_encoder("stdc1", pretrained=True, weights=tmp_path / "stdc.tar")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.state_dict().items())
    with pytest.raises(RecipeError, match=r"stdc.tar does not hold the authors' weights of stdc2"):
        create_encoder("stdc2", pretrained=True, weights=tmp_path / "stdc.tar")
    assert not caplog.records
    create_encoder("stdc1", pretrained=True)
    assert "stdc1 starts from random weights" in caplog.text
