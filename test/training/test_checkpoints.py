"""Checkpoints: what is written is rebuilt, and files that are something else are refused without running their code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.checkpoints import (
    CARD,
    DepthNetworkCard,
    TrainedDepth,
    initialize_depth_network,
    load_depth_network,
    read_checkpoint,
    write_card,
)
from training.errors import CheckpointError
from training.networks.depth import Decoder, DepthNetwork
from training.networks.unet import DECODER_CHANNELS


def test_a_checkpoint_rebuilds_its_network(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path]
) -> None:
    loaded = load_depth_network(write_checkpoint(tmp_path / "a.ckpt", tiny_depth))
    assert loaded.card == tiny_depth.card
    assert loaded.steps == 7
    assert not loaded.network.training
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded.network(image)[0], tiny_depth.network(image)[0])


def test_the_card_is_plain_values(tiny_depth: TrainedDepth) -> None:
    """The names are the file format: checkpoints of earlier versions have them."""
    checkpoint: dict[str, Any] = {}
    write_card(checkpoint, tiny_depth.card)
    names = ["encoder", "scales", "min_depth", "max_depth", "metric", "prior", "width", "height"]
    assert list(checkpoint) == ["depth_network_card"]
    assert list(checkpoint[CARD]) == [*names, "decoder", "decoder_channels"]
    assert DepthNetworkCard(**checkpoint[CARD]) == tiny_depth.card


def test_other_weights_in_the_file_do_not_matter(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path]
) -> None:
    weights = read_checkpoint(write_checkpoint(tmp_path / "a.ckpt", tiny_depth))["state_dict"]
    both = {**weights, "pose_network.bias": torch.ones(3)}
    assert load_depth_network(write_checkpoint(tmp_path / "b.ckpt", tiny_depth, state_dict=both)).steps == 7


class Payload:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "ran")


def test_code_in_a_file_is_not_run(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path]
) -> None:
    trap = tmp_path / "trap"
    path = write_checkpoint(tmp_path / "a.ckpt", tiny_depth, callbacks=Payload(trap))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_depth_network(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists()  # the trap would have worked


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*absent.ckpt"):
        load_depth_network(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("size", [0, 100, 0.5, 0.999])
def test_a_damaged_file(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path], size: float
) -> None:
    path = write_checkpoint(tmp_path / "a.ckpt", tiny_depth)
    content = path.read_bytes()
    path.write_bytes(content[: int(size * len(content)) if 0 < size < 1 else int(size)])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_depth_network(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.ones(3)])
def test_a_file_of_another_program(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="it was not written by `python -m training train`"):
        load_depth_network(tmp_path / "other.pth")


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "resnet10t"},
        {"encoder": "no_such_network"},
        {"scales": 2},
        {"scales": 9},
        {"unknown": 1},
        {"prior": None},
    ],
)
def test_a_card_that_does_not_fit(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path], change: dict[str, Any]
) -> None:
    card = {**asdict(tiny_depth.card), **change}
    path = write_checkpoint(tmp_path / "a.ckpt", tiny_depth, depth_network_card=card)
    with pytest.raises(CheckpointError, match="does not fit this version of the package"):
        load_depth_network(path)


@pytest.mark.parametrize(("trained", "started"), [(1, 4), (4, 1)])
def test_fine_tuning_starts_from_the_weights_but_for_heads_of_its_own(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path], trained: int, started: int
) -> None:
    encoder = tiny_depth.card.encoder
    source = DepthNetwork(encoder, pretrained=False, scales=trained)
    card = replace(tiny_depth.card, scales=trained)
    path = write_checkpoint(tmp_path / "a.ckpt", replace(tiny_depth, network=source, card=card))
    network = DepthNetwork(encoder, pretrained=False, scales=started)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialize_depth_network(network, path)
    expected = {**before, **{k: v for k, v in source.state_dict().items() if k in before}}
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("saved", "started"), [("resnet10t", "mobilenetv3_small_050"), ("resnet34", "resnet18")])
def test_fine_tuning_another_architecture_is_refused(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path], saved: str, started: str
) -> None:
    """ResNet-34 holds all that ResNet-18 has, and more."""
    card = replace(tiny_depth.card, encoder=saved)
    other = replace(tiny_depth, network=DepthNetwork(saved, pretrained=False, scales=1), card=card)
    path = write_checkpoint(tmp_path / "a.ckpt", other)
    with pytest.raises(CheckpointError, match=f"holds a {saved} network"):
        initialize_depth_network(DepthNetwork(started, pretrained=False), path)


def test_a_checkpoint_from_before_decoders_could_be_chosen(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path]
) -> None:
    card = {name: value for name, value in asdict(tiny_depth.card).items() if name != "decoder"}
    loaded = load_depth_network(write_checkpoint(tmp_path / "a.ckpt", tiny_depth, depth_network_card=card))
    assert loaded.card.decoder == "unet"
    assert all(torch.equal(v, loaded.network.state_dict()[k]) for k, v in tiny_depth.network.state_dict().items())


@pytest.mark.parametrize(("encoder", "decoder"), [("test_vit", "dpt"), ("mobilenetv3_small_050", "unet_espcn")])
def test_another_decoder_is_rebuilt_from_the_card(
    tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path], encoder: str, decoder: Decoder
) -> None:
    channels = DECODER_CHANNELS if decoder == "dpt" else (8, 16, 16, 32, 32)
    network = DepthNetwork(encoder, False, scales=1, decoder=decoder, decoder_channels=channels).eval()
    card = replace(tiny_depth.card, encoder=encoder, decoder=decoder, decoder_channels=channels)
    trained = replace(tiny_depth, network=network, card=card)
    loaded = load_depth_network(write_checkpoint(tmp_path / "a.ckpt", trained)).network
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image))
