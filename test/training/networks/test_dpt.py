"""DPT: shapes, positions, readout, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from training.errors import RecipeError
from training.networks.depth import DepthNetwork
from training.networks.dpt import DPTDecoder, VisionTransformerEncoder, with_fixed_input_size
from training.networks.encoders import feature_info


@pytest.fixture(scope="module")
def network() -> DepthNetwork:
    """A tiny transformer with patches of 16 pixels, made for images of 160x160."""
    torch.manual_seed(0)
    return DepthNetwork("test_vit", pretrained=False, scales=1, decoder="dpt").eval()


@pytest.mark.parametrize("size", [(64, 96), (80, 80), (160, 160), (112, 208)])
def test_disparity_has_the_images_size(network: DepthNetwork, size: tuple[int, int]) -> None:
    with torch.no_grad():
        disparities = network(torch.rand(2, 3, *size))
    assert [tuple(d.shape) for d in disparities] == [(2, 1, *size)]
    assert ((disparities[0] > 0) & (disparities[0] < 1)).all()


def test_taps_are_spread_to_the_last_block() -> None:
    with torch.device("meta"):
        assert VisionTransformerEncoder("vit_base_patch16_224", pretrained=False).taps == [2, 5, 8, 11]  # the paper's


def test_reassembled_channels_are_those_of_dpt_base() -> None:
    with torch.device("meta"):
        decoder = DPTDecoder(768, patch=16)
    assert [layer.weight.shape[0] for layer in decoder.project] == [96, 192, 384, 768]
    strides = [decoder.resample[0](torch.rand(1, 96, 4, 4, device="meta")).shape[-1]]
    strides += [decoder.resample[1](torch.rand(1, 192, 4, 4, device="meta")).shape[-1]]
    strides += [decoder.resample[3](torch.rand(1, 768, 4, 4, device="meta")).shape[-1]]
    assert strides == [16, 8, 2]


def test_positions_fixed_for_one_size_change_nothing(network: DepthNetwork) -> None:
    fixed = with_fixed_input_size(network, 96, 64)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(fixed(image)[0], network(image)[0])
    encoder = fixed.encoder
    assert isinstance(encoder, VisionTransformerEncoder)
    assert encoder.vit.pos_embed is not None
    assert encoder.vit.pos_embed.shape[1] == 1 + 4 * 6
    kept = network.encoder.get_submodule("vit").get_parameter("pos_embed")
    assert kept.shape[1] == 1 + 10 * 10


def test_class_token_is_joined_to_every_map() -> None:
    torch.manual_seed(0)
    encoder = VisionTransformerEncoder("test_vit", pretrained=False).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(image)
        for readout in encoder.readouts:
            readout[0].weight[:, encoder.vit.embed_dim :] = 0  # what sees the class token
        after = encoder(image)
    assert len(before) == 4
    assert all(not torch.allclose(a, b) for a, b in zip(before, after, strict=True))


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = DepthNetwork("test_vit", pretrained=False, scales=1, decoder="dpt")
    network(torch.rand(2, 3, 64, 96))[0].mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_transformer_without_class_token() -> None:
    encoder = VisionTransformerEncoder("test_vit3", pretrained=False)
    if encoder.vit.cls_token is not None:
        pytest.fail("test_vit3 has got a class token: choose another model")
    assert [tuple(m.shape[-2:]) for m in encoder(torch.rand(1, 3, 64, 96))] == [(4, 6)] * 4


def test_patches_of_14_pixels() -> None:
    """644 is 46 patches of 14 pixels, 196 is 14; 640x192 is refused before anything is computed."""
    network = DepthNetwork("vit_small_patch14_dinov2", pretrained=False, scales=1, decoder="dpt").eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 70, 98))[0].shape == (1, 1, 70, 98)
    assert feature_info(network.encoder).reduction() == [14] * 4
    network.check_input_size(644, 196)
    with pytest.raises(RecipeError, match=r"640x192; vit_small.* with dpt needs multiples of 14.* 644 and 196"):
        network.check_input_size(640, 192)


def test_only_a_transformer() -> None:
    with pytest.raises(RecipeError, match=r"dpt needs a vision transformer such as .*, not resnet18"):
        DepthNetwork("resnet18", pretrained=False, scales=1, decoder="dpt")
    with pytest.raises(RecipeError, match=r"dpt needs a vision transformer such as .*, not swin_tiny"):
        DepthNetwork("swin_tiny_patch4_window7_224", pretrained=False, scales=1, decoder="dpt")
