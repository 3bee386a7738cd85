"""Frames to calibrate and compare models on: from a bag or a folder, evenly over it; else of a synthetic street."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.backends.engine_cache import Progress
from depth_node.backends.float_image import input_adaptor
from depth_node.camera import PinholeCamera
from depth_node.compressed_images import rgb_from_compressed
from depth_node.errors import BagError, DepthNodeError, ImageError
from depth_node.images import rgb_from_image
from depth_node.model import ModelFile, MotionModelFile
from depth_node.pipeline import resize_image
from depth_node.synthetic import street_drive, street_world

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
BAG_SUFFIXES = (".bag", ".mcap", ".db3")

_SYNTHETIC_FRAMES = 3
_SYNTHETIC_SPACING = 20.0  # metres between them


@dataclass(frozen=True)
class ModelFrames:
    """Inputs of a model, by name, one mapping a frame (for a motion model: a frame and the next one).

    source: where they are from and how many, in words.
    """

    inputs: tuple[dict[str, NDArray[Any]], ...]
    source: str

    def first(self, count: int) -> ModelFrames:
        """`count` of them, evenly."""
        if len(self.inputs) <= count:
            return self
        chosen = even_indices(len(self.inputs), count)
        return ModelFrames(tuple(self.inputs[index] for index in chosen), f"{len(chosen)} of {self.source}")


def even_indices(total: int, count: int) -> list[int]:
    """At most `count` of 0..total - 1, evenly from first to last."""
    return [int(index) for index in np.unique(np.rint(np.linspace(0, total - 1, min(count, total))).astype(int))]


def read_frames(
    model: ModelFile | MotionModelFile, path: Path, count: int, progress: Progress, topic: str | None = None
) -> ModelFrames:
    """`count` frames of a bag or a folder of pictures, evenly over its length, as the model's inputs.

    topic: image topic of the bag; may be None where it has one. Pictures of a folder are in the order of their names.

    Raises:
        DepthNodeError: there are no images, or several topics to choose from.
    """
    is_bag = path.suffix in BAG_SUFFIXES or any(file.suffix in BAG_SUFFIXES for file in path.glob("*"))
    read, total = _bag_images(path, topic) if is_bag else _folder_images(path)
    pair = isinstance(model, MotionModelFile)
    chosen = even_indices(total - 1 if pair else total, count)
    wanted = sorted({number for index in chosen for number in ((index, index + 1) if pair else (index,))})
    images: dict[int, NDArray[np.uint8]] = {}
    for done, (number, rgb) in enumerate(read(wanted)):
        progress(f"reading frames of {path.name}", done / len(wanted))
        images[number] = _resized(model, rgb)
    progress(f"reading frames of {path.name}", 1.0)
    groups = [[images.get(index + offset) for offset in range(2 if pair else 1)] for index in chosen]
    whole = [[image for image in group if image is not None] for group in groups if all(i is not None for i in group)]
    if not whole:
        raise DepthNodeError(f"{path} has no frame that can be decoded ({total} images); expected {count} or more")
    inputs = tuple(model_inputs(model, *group) for group in whole)
    return ModelFrames(inputs, f"{len(inputs)} of the {total} frames of {path.name}, evenly")


def synthetic_frames(model: ModelFile | MotionModelFile) -> ModelFrames:
    """Frames of a ray-cast street, for models that come without frames of their own."""
    spec = model.spec
    width, height = spec.input_width, spec.input_height
    camera = PinholeCamera.from_normalized(_street_camera(width, height), width, height)
    world = street_world(seed=0)
    frames = []
    for number in range(_SYNTHETIC_FRAMES):
        count = 2 if isinstance(model, MotionModelFile) else 1
        drive = street_drive(world, camera, count, start=number * _SYNTHETIC_SPACING)
        frames.append(model_inputs(model, *(frame.rgb[None] for frame in drive)))
    return ModelFrames(tuple(frames), f"{_SYNTHETIC_FRAMES} frames of a synthetic street")


def model_inputs(model: ModelFile | MotionModelFile, *images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The inputs of one run by name; images: uint8 [1, H, W, 3], RGB, of the input size."""
    if isinstance(model, MotionModelFile):
        return dict(zip(model.inputs, images, strict=True))
    adapt = input_adaptor(model.spec)
    return {model.inputs[0]: adapt(images[0]).copy()}


def _resized(model: ModelFile | MotionModelFile, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = np.empty((1, model.spec.input_height, model.spec.input_width, 3), np.uint8)
    resize_image(rgb, image[0])
    return image


def _street_camera(width: int, height: int) -> tuple[float, float, float, float]:
    """About 80 degrees across, with square pixels."""
    return 0.6, 0.6 * width / height, 0.5, 0.5


_Images = Iterator[tuple[int, NDArray[np.uint8]]]


def _folder_images(folder: Path) -> tuple[Callable[[Sequence[int]], _Images], int]:
    files = sorted((file for file in folder.glob("*") if file.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order)
    if not files:
        raise DepthNodeError(f"{folder} is neither a bag nor a folder with .jpg or .png files; expected one of them")

    def read(wanted: Sequence[int]) -> _Images:
        for number in wanted:
            bgr = cv2.imread(str(files[number]), cv2.IMREAD_COLOR)
            if bgr is not None:
                yield number, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[misc]

    return read, len(files)


def _bag_images(path: Path, topic: str | None) -> tuple[Callable[[Sequence[int]], _Images], int]:
    from depth_node.bags import open_bag  # rosbags is not on every robot

    with open_bag(path) as bag:
        if topic is None:
            topics = bag.image_topics()
            if len(topics) != 1:
                there = ", ".join(topics) or "none"
                raise BagError(f"bag {path} has {len(topics)} image topics ({there}); choose one with --topic")
            (topic,) = topics
        total = bag.message_count([topic])
        compressed = bag.topics()[topic].endswith("CompressedImage")

    def read(wanted: Sequence[int]) -> _Images:
        numbers = set(wanted)
        with open_bag(path) as bag:
            for number, (_, _, message) in enumerate(bag.messages([topic])):
                if number > max(numbers):
                    return
                if number not in numbers:
                    continue
                try:
                    yield number, rgb_from_compressed(message) if compressed else rgb_from_image(message)
                except ImageError:
                    continue  # a damaged frame among good ones: the count of those read is what is said

    return read, total


def _natural_order(file: Path) -> list[tuple[int, str]]:
    """frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", file.name)]
