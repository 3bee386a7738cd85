"""Encoders by name: strides, what is added and left out, weights from a file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from training.errors import RecipeError
from training.networks.encoders import create_encoder, feature_info, normalize, read_weights

TINY = "mobilenetv3_small_050"


def test_normalization_is_monodepth2s() -> None:
    assert normalize(torch.tensor([0.45, 0.675, 0.0])).tolist() == pytest.approx([0, 1, -2], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", [64, 64, 128, 256, 512]),
        ("resnet50", [64, 256, 512, 1024, 2048]),
        ("convnext_tiny", [64, 96, 192, 384, 768]),
        ("efficientnet_b0", [16, 24, 40, 112, 320]),
        ("darknet53", [64, 128, 256, 512, 1024]),
        ("densenet169", [64, 256, 512, 1280, 1664]),
        ("densenet201", [64, 256, 512, 1792, 1920]),
        ("mobilenetv3_large_100", [16, 24, 40, 112, 960]),
        ("stdc2", [32, 64, 256, 512, 1024]),
    ],
)
def test_five_maps_from_stride_2_to_32(name: str, channels: list[int]) -> None:
    with torch.device("meta"):
        encoder = create_encoder(name, pretrained=False)
        assert feature_info(encoder).channels() == channels
        maps = encoder(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 32 >> i, 48 >> i) for i, c in enumerate(channels)]


def test_an_encoder_from_stride_4_gets_a_stem_where_it_is_needed() -> None:
    with_stem = create_encoder("test_convnext", pretrained=False)
    assert feature_info(with_stem).reduction() == [2, 4, 8, 16, 32]
    without = create_encoder("test_convnext", pretrained=False, with_stem=False)
    assert feature_info(without).reduction() == [4, 8, 16, 32]


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(RecipeError, match="no encoder 'resnet81': did you mean 'resnet18'"):
        create_encoder("resnet81", pretrained=False)
    with pytest.raises(RecipeError, match="did you mean 'stdc1'"):
        create_encoder("sdtc1", pretrained=False)
    with pytest.raises(RecipeError, match=r"test_vit has features at strides \[16, 16, 16\]"):
        create_encoder("test_vit", pretrained=False)
    with pytest.raises(RecipeError, match="swin_tiny_patch4_window7_224 gives maps with channels last"):
        create_encoder("swin_tiny_patch4_window7_224", pretrained=False)


@pytest.mark.parametrize("in_channels", [3, 6])
def test_weights_from_a_file(tmp_path: Path, in_channels: int) -> None:
    """A whole classifier's, as timm publishes it; for two images, its first convolution sees each at half weight."""
    torch.manual_seed(0)
    model = timm.create_model(TINY, pretrained=False)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "model.pth")
    images = torch.rand(1, 3, 64, 96)
    expected = [f.detach() for f in _features(model, images)]
    for file in ("model.safetensors", "model.pth"):
        encoder = create_encoder(TINY, pretrained=False, in_channels=in_channels, weights=tmp_path / file).eval()
        with torch.no_grad():
            got = encoder(images.repeat(1, in_channels // 3, 1, 1))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_weights_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent.pth cannot be read as weights"):
        read_weights(tmp_path / "absent.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(RecipeError, match=r"list.pth holds a list: expected a dictionary"):
        read_weights(tmp_path / "list.pth")
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(RecipeError, match=rf"no pretrained weights for {TINY} from .*other.pth"):
        create_encoder(TINY, pretrained=False, weights=tmp_path / "other.pth")
    with pytest.raises(RecipeError, match=r"no pretrained weights for resnet18d\.none.* set pretrained: false"):
        create_encoder("resnet18d.none", pretrained=True)


def _features(model: torch.nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """What the model's own feature extractor gives, with its weights."""
    extractor = timm.create_model(TINY, features_only=True)
    extractor.load_state_dict(model.state_dict(), strict=False)
    result: list[torch.Tensor] = extractor.eval()(image)
    return result
