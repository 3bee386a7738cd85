"""How networks run: formats that reach every layer, compiled networks that are the same function."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

from training.networks.depth import DepthNetwork
from training.networks.execution import full_precision, prepare_network

ENCODER = "mobilenetv3_small_050"


def network() -> DepthNetwork:
    torch.manual_seed(0)
    return DepthNetwork(ENCODER, pretrained=False, scales=2)


def layouts(prepared: DepthNetwork) -> list[bool]:
    """Whether each convolution of the decoder gives its result in channels-last format (and not in the other)."""
    seen: list[bool] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.shape[1] > 1:
            seen.append(output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous())

    for module in prepared.decoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    prepared(torch.rand(2, 3, 64, 96))
    return seen


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_format_of_the_weights_reaches_the_last_layer(channels_last: bool) -> None:
    prepared = network()
    prepare_network(prepared, channels_last, compiled=False)
    seen = layouts(prepared)
    assert len(seen) == 10
    assert set(seen) == {channels_last}


def test_the_format_changes_no_value() -> None:
    plain, prepared = network(), network()
    prepare_network(prepared, channels_last=True, compiled=False)
    image = torch.rand(2, 3, 64, 96)
    for got, expected in zip(prepared(image), plain(image), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_precision_ends_where_it_is_told() -> None:
    weights = torch.rand(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (weights @ weights).dtype == torch.bfloat16
        with full_precision(weights.device):
            assert (weights @ weights).dtype == torch.float32


def test_compiling_keeps_names_of_weights() -> None:
    plain, prepared = network(), network()
    prepare_network(prepared, channels_last=False, compiled=True)
    assert list(prepared.state_dict()) == list(plain.state_dict())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_part_is_the_same_function() -> None:
    class Small(nn.Module):
        """A network in the two parts that are compiled."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Conv2d(3, 4, 3), nn.Sequential(nn.ELU(), nn.Conv2d(4, 1, 1))

        def forward(self, image: Tensor) -> Tensor:
            result: Tensor = self.decoder(self.encoder(image))
            return result

    torch.manual_seed(0)
    small = Small()
    image = torch.rand(1, 3, 8, 8)
    expected = small(image)
    torch._dynamo.reset()
    prepare_network(small, channels_last=True, compiled=True)
    torch.testing.assert_close(small(image), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
