"""Intrinsics follow crops, zooms and mirrors, as the pixels do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depth_node.camera import PinholeCamera
from training.geometry.framing import Framing

WIDTH, HEIGHT = 400, 100
shares = st.floats(0.3, 1.0)


@given(share=shares, left=shares, top=shares, flipped=st.booleans(), x=st.floats(-0.5, 0.5), y=st.floats(-0.2, 0.2))
def test_a_point_lands_where_crop_and_mirror_put_its_pixel(
    share: float, left: float, top: float, flipped: bool, x: float, y: float
) -> None:
    """The projection by the sample's K is the pixel of the whole image, cropped, resized and mirrored."""
    w, h = round(share * WIDTH), round(share * HEIGHT)
    window = round(left * (WIDTH - w)), round(top * (HEIGHT - h)), w, h
    camera = PinholeCamera(WIDTH, HEIGHT, 230.0, 240.0, 190.0, 60.0)
    framing = Framing.window(window, WIDTH, HEIGHT).expand(1).mirrored(torch.tensor([flipped]))
    fx, fy, cx, cy = framing.of_sample(torch.tensor([camera.normalized()], dtype=torch.float64))[0].tolist()

    u, v = camera.fx * x + camera.cx + 0.5, camera.fy * y + camera.cy + 0.5  # edges of the image are 0 and its size
    expected = (u - window[0]) / w, (v - window[1]) / h
    if flipped:
        expected = 1 - expected[0], expected[1]
    seen = fx * (-x if flipped else x) + cx, fy * y + cy
    assert seen == pytest.approx(expected, abs=1e-5)


@given(share=shares, left=shares, flipped=st.booleans())
def test_whole_images_and_samples_are_inverse(share: float, left: float, flipped: bool) -> None:
    w = round(share * WIDTH)
    framing = Framing.window((round(left * (WIDTH - w)), 7, w, 60), WIDTH, HEIGHT).expand(1)
    framing = framing.mirrored(torch.tensor([flipped]))
    intrinsics = torch.tensor([[0.6, 2.2, 0.45, 0.6]])
    torch.testing.assert_close(framing.of_whole_image(framing.of_sample(intrinsics)), intrinsics)


def test_square_pixels_stay_square_in_a_crop_of_another_shape() -> None:
    camera = PinholeCamera(WIDTH, HEIGHT, 230.0, 230.0, 190.0, 60.0)
    framing = Framing.window((20, 10, 100, 80), WIDTH, HEIGHT).expand(1)
    fx, fy, *_ = framing.of_sample(torch.tensor([camera.normalized()]))[0].tolist()
    assert fy / fx == pytest.approx(float(framing.square_focal_ratio)) == pytest.approx(100 / 80)


def test_whole_images_are_what_they_are() -> None:
    framing = Framing.whole(torch.zeros(3, 3, 64, 192), camera=2)
    intrinsics = torch.tensor([[0.6, 1.8, 0.5, 0.5]]).repeat(3, 1)
    assert torch.equal(framing.of_sample(intrinsics), intrinsics)
    assert framing.aspect.tolist() == [3.0] * 3
    assert framing.camera.tolist() == [2] * 3
