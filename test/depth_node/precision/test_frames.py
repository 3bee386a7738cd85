"""Frames evenly over a folder or a bag, at the model's size; pairs of them for motion."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node import bag_messages
from depth_node.bags import BagWriter
from depth_node.errors import BagError, DepthNodeError
from depth_node.model import ModelFile
from depth_node.precision.frames import ModelFrames, even_indices, read_frames, synthetic_frames
from motion_model import write_tiny_motion_model


def quiet(what: str, share: float) -> None:
    assert 0 <= share <= 1


@given(st.integers(1, 500), st.integers(1, 100))
def test_even_indices(total: int, count: int) -> None:
    indices = even_indices(total, count)
    assert len(indices) == min(total, count)
    assert indices[0] == 0
    assert max(indices) < total
    if len(indices) > 1:
        assert indices[-1] == total - 1
        steps = np.diff(indices)
        assert steps.max() - steps.min() <= 1
        assert steps.min() >= 1


def write_pictures(folder: Path, count: int) -> Path:
    """Grey pictures whose value is 10 times their number."""
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"frame{number}.png"), np.full((40, 90, 3), 10 * number, np.uint8))
    return folder


def greys(frames: ModelFrames, name: str = "image") -> list[int]:
    return [int(inputs[name].mean()) for inputs in frames.inputs]


def test_a_folder_in_the_natural_order_of_its_names(model: ModelFile, tmp_path: Path) -> None:
    frames = read_frames(model, write_pictures(tmp_path / "drive", 12), 4, quiet)
    assert greys(frames) == [0, 40, 70, 110]
    assert {inputs["image"].shape for inputs in frames.inputs} == {(1, 32, 64, 3)}
    assert frames.source == "4 of the 12 frames of drive, evenly"


def test_pictures_that_cannot_be_decoded_are_left_out_and_counted(model: ModelFile, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "drive", 3)
    (folder / "frame1.png").write_bytes(b"no picture")
    frames = read_frames(model, folder, 3, quiet)
    assert (greys(frames), frames.source) == ([0, 20], "2 of the 3 frames of drive, evenly")


def write_bag(path: Path, topics: tuple[str, ...] = ("/camera/image_raw",), compressed: bool = False) -> Path:
    with BagWriter(path) as bag:
        for number in range(10):
            pixels = np.full((40, 90, 3), 10 * number, np.uint8)
            for topic in topics:
                if compressed:
                    data = cv2.imencode(".png", pixels)[1].tobytes()
                    bag.write(topic, number, bag_messages.compressed_image(number, "camera", data, "png"))
                else:
                    bag.write(topic, number, bag_messages.image(number, "camera", pixels, "rgb8"))
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["drive.mcap", "drive"])
def test_a_bag(model: ModelFile, tmp_path: Path, compressed: bool, name: str) -> None:
    frames = read_frames(model, write_bag(tmp_path / name, compressed=compressed), 4, quiet)
    assert greys(frames) == [0, 30, 60, 90]
    assert frames.source == f"4 of the 10 frames of {name}, evenly"


def test_of_several_topics_one_has_to_be_chosen(model: ModelFile, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "two.mcap", ("/left", "/right"))
    with pytest.raises(BagError, match=r"2 image topics \(/left, /right\); choose one with --topic"):
        read_frames(model, bag, 3, quiet)
    assert len(read_frames(model, bag, 3, quiet, topic="/right").inputs) == 3


def test_motion_models_get_neighbours(tmp_path: Path) -> None:
    model = write_tiny_motion_model(tmp_path / "motion.onnx")
    frames = read_frames(model, write_pictures(tmp_path / "drive", 10), 3, quiet)
    assert (greys(frames, "image_a"), greys(frames, "image_b")) == ([0, 40, 80], [10, 50, 90])


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_place_without_frames(model: ModelFile, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DepthNodeError, match="neither a bag nor a folder"):
        read_frames(model, tmp_path / name, 3, quiet)


def test_synthetic_frames_differ_and_show_something(model: ModelFile) -> None:
    frames = synthetic_frames(model)
    images = [inputs["image"] for inputs in frames.inputs]
    assert {image.shape for image in images} == {(1, 32, 64, 3)}
    assert all(image.std() > 20 for image in images)
    assert np.abs(images[0].astype(int) - images[1]).mean() > 5
    assert len(frames.first(2).inputs) == 2
