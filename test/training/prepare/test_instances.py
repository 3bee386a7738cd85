"""Instance masks made once: what is kept, what is merged, and what a user without weights is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.models.detection import maskrcnn_resnet50_fpn

from training.data.instance_files import read_instances
from training.data.prepared import read_prepared
from training.errors import DataError
from training.prepare import mask_rcnn
from training.prepare.command import main as prepare
from training.prepare.frames import PrepareOptions, RawFrame
from training.prepare.instances import write_instance_masks
from training.prepare.mask_rcnn import MaskRcnn, merged_instances
from training.prepare.writer import prepare_stream

PERSON, BICYCLE, CAR, DOG, BENCH = 1, 2, 3, 18, 15


class Lights:
    """Frames with one bright square, further right in each."""

    name, source, expected_frames = "lights", "lights", 3

    def frames(self, first: int) -> Iterator[RawFrame]:
        for index in range(first, 3):
            rgb = np.zeros((64, 96, 3), np.uint8)
            rgb[20:40, 20 * index : 20 * index + 20] = 255
            yield RawFrame(rgb, index * 100_000_000)


def bright(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(4 * (rgb[..., 0] > 128), np.uint8)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    prepare_stream(Lights(), tmp_path, PrepareOptions(96, 64, format="png"))
    return tmp_path


def test_masks_lie_beside_their_images_and_are_made_once(prepared: Path) -> None:
    assert write_instance_masks(prepared, bright) == 3
    for index, record in enumerate(read_prepared(prepared)):
        assert record.instances == record.image.with_name(f"{index:010d}.instances.png")
        expected = np.zeros((64, 96), np.uint8)
        expected[20:40, 20 * index : 20 * index + 20] = 4
        np.testing.assert_array_equal(read_instances(record.instances), expected)
    (prepared / "lights" / "0000000001.instances.png").unlink()
    assert write_instance_masks(prepared, lambda rgb: np.full(rgb.shape[:2], 9, np.uint8)) == 1
    masks = [read_instances(r.instances) for r in read_prepared(prepared) if r.instances is not None]
    assert [int(mask.max()) for mask in masks] == [4, 9, 4]


def test_a_damaged_frame_has_no_mask(prepared: Path, caplog: pytest.LogCaptureFixture) -> None:
    (prepared / "lights" / "0000000001.png").write_bytes(b"")
    assert write_instance_masks(prepared, bright) == 2
    assert "no instance mask" in caplog.text


def rectangle(*edges: int) -> torch.Tensor:
    left, top, right, bottom = edges
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def merged(*found: tuple[torch.Tensor, int, float]) -> NDArray[np.uint8]:
    masks, labels, scores = zip(*found, strict=True)
    return merged_instances(torch.stack(masks), torch.tensor(labels), torch.tensor(scores))


def test_only_sure_and_movable_things_count() -> None:
    boxes = [rectangle(12 * i, 0, 12 * i + 10, 10) for i in range(5)]
    numbers = merged(
        (boxes[0], CAR, 0.9), (boxes[1], CAR, 0.69), (boxes[2], BENCH, 0.99), (boxes[3], DOG, 0.7), (boxes[4], 9, 0.8)
    )
    assert [int(numbers[boxes[i].numpy()].max()) for i in range(5)] == [1, 0, 0, 3, 2]


def test_the_surer_of_two_is_in_front_and_small_ones_are_left_out() -> None:
    behind, front, small = rectangle(0, 0, 20, 20), rectangle(10, 0, 30, 20), rectangle(40, 0, 47, 9)
    numbers = merged((behind, CAR, 0.8), (front, CAR, 0.95), (small, CAR, 0.99))
    assert numbers[5, 15] == numbers[5, 25] != 0
    assert numbers[5, 5] not in (0, numbers[5, 15])
    assert numbers[5, 42] == 0


def test_riders_are_one_with_what_they_ride() -> None:
    rider, bicycle, alone = rectangle(5, 0, 15, 20), rectangle(0, 15, 20, 35), rectangle(30, 15, 50, 35)
    numbers = merged((rider, PERSON, 0.8), (bicycle, BICYCLE, 0.9), (alone, BICYCLE, 0.85))
    assert numbers[30, 2] == numbers[2, 10] != 0
    assert numbers[20, 40] not in (0, numbers[2, 10])
    assert len(np.unique(numbers)) == 3


def test_torchvisions_network_with_weights_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At random weights it finds nothing of use; what matters is that images go in and numbers come out."""
    torch.manual_seed(0)
    network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    monkeypatch.setattr(mask_rcnn, "MIN_SCORE", 0.0)
    segment = MaskRcnn(tmp_path / "weights.pth")
    segment._network.transform.min_size, segment._network.transform.max_size = (64,), 96
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    numbers = segment(rgb)
    assert numbers.shape == (64, 96)
    assert numbers.dtype == np.uint8
    np.testing.assert_array_equal(segment(rgb), numbers)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other.pth is no state dict of torchvision's maskrcnn_resnet50_fpn"):
        MaskRcnn(tmp_path / "other.pth")
    (tmp_path / "damaged.pth").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"damaged\.pth cannot be read as weights"):
        MaskRcnn(tmp_path / "damaged.pth")


def test_without_internet_a_user_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_internet)
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        prepare([str(folder), "--output", str(tmp_path / "out"), "--instances", "true"])
    for hint in ("cannot be downloaded", "maskrcnn_resnet50_fpn_coco", "--instances-weights", "hub/checkpoints"):
        assert hint in str(error.value)
    assert not (tmp_path / "out" / "frames").exists()  # nothing was begun


def no_internet(*_: object, **__: object) -> None:
    raise OSError("no route to host")
