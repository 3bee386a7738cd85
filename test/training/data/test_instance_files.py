"""Instance masks as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.instance_files import decode_instances, encode_instances, instance_file, read_instances
from training.errors import FrameError


def test_masks_survive_their_file(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (37, 53), np.uint8)
    path = instance_file(tmp_path / "0000000012.jpg")
    assert path.name == "0000000012.instances.png"
    path.write_bytes(encode_instances(mask))
    np.testing.assert_array_equal(read_instances(path), mask)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), mask)  # for whoever else writes them


def test_other_images_are_refused(tmp_path: Path) -> None:
    color = cv2.imencode(".png", np.zeros((4, 5, 3), np.uint8))[1].tobytes()
    with pytest.raises(FrameError, match=r"mask is uint8 \[4, 5, 3\]: expected an 8-bit one-channel PNG"):
        decode_instances(color, "mask")
    wide = cv2.imencode(".png", np.zeros((4, 5), np.uint16))[1].tobytes()
    with pytest.raises(FrameError, match="mask is uint16"):
        decode_instances(wide, "mask")
    for damaged in (b"", encode_instances(np.ones((9, 9), np.uint8))[:30]):
        with pytest.raises(FrameError, match="cannot be decoded"):
            decode_instances(damaged, "mask")
    with pytest.raises(FrameError, match="No such file"):
        read_instances(tmp_path / "absent.png")
