"""Decoding of image files, whole and cut off."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.image_files import decode_rgb, read_rgb
from training.errors import FrameError


def encoded(suffix: str) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def test_channels_are_rgb() -> None:
    blue = np.zeros((4, 4, 3), np.uint8)
    blue[..., 0] = 255
    content = cv2.imencode(".png", blue)[1].tobytes()
    assert decode_rgb(content, "blue")[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_what_is_cut_off_is_no_image(suffix: str, share: float, tmp_path: Path) -> None:
    content = encoded(suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FrameError, match=r"cut\.\w+ cannot be decoded as an image"):
        read_rgb(path)


def test_bytes_after_the_end_of_a_jpeg_do_not_matter() -> None:
    content = encoded(".jpg")
    assert np.array_equal(decode_rgb(content + b"camera's own data", "a"), decode_rgb(content, "b"))


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"none\.jpg cannot be read: No such file"):
        read_rgb(tmp_path / "none.jpg")
