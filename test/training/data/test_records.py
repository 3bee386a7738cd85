"""Records and the report of missing files."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.records import FrameRecord, MissingFiles, image_size, missing_numbers, numbered_images
from training.errors import DataError


def test_name_is_sequence_and_ten_digit_index() -> None:
    assert FrameRecord(Path("a.png"), None, "drive/image_02", 7, 0).name == "drive/image_02/0000000007"


def test_image_size_is_width_then_height(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((3, 5, 3), np.uint8))
    assert image_size(tmp_path / "a.png") == (5, 3)


@pytest.mark.parametrize("content", [None, b"", b"not an image"])
def test_image_size_of_no_image_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        image_size(path)


def test_numbered_images_leaves_out_other_files(tmp_path: Path) -> None:
    for name in ("0000000010.jpg", "0000000002.png", "cover.png", "0000000003.txt"):
        (tmp_path / name).touch()
    assert list(numbered_images(tmp_path)) == [2, 10]
    assert numbered_images(tmp_path / "absent") == {}


def test_missing_numbers_are_the_gaps() -> None:
    assert missing_numbers([3, 4, 7]) == [5, 6]
    assert missing_numbers([]) == []


def test_missing_files_are_counted_and_listed(caplog: pytest.LogCaptureFixture) -> None:
    missing = MissingFiles("KITTI", Path("/root"))
    for number in range(7):
        missing.add("image", Path(f"/root/drive/{number}.png"))
    missing.add("depth", Path("/elsewhere/1.png"))
    with caplog.at_level(logging.DEBUG):
        missing.warn(logging.getLogger("test"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "7 missing (image): drive/0.png, " in warnings[0]
    assert "and 2 more" in warnings[0]
    assert warnings[1].endswith("1 missing (depth): /elsewhere/1.png")
    assert "/root/drive/6.png" in caplog.text
