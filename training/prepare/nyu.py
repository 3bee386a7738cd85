"""NYU Depth v2 (Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012).

    nyu_depth_v2_labeled.mat             MATLAB 7.3: `images` and `depths`, 1449 frames of many rooms
    SCENE/rgb_00000.jpg                  and SCENE/sync_depth_00000.png: uint16, millimetres
    SCENE/00000_colors.png               and SCENE/00000_depth.png: uint16, millimetres
    SCENE/1.jpg                          and SCENE/1.png: uint8, 10 m / 255

Depth is registered with the colour image. In the labelled file it is `depths`, whose holes were filled in, as published
results are measured with it; the folders have what their publishers put into them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from training.data.image_files import read_rgb
from training.data.records import image_files
from training.errors import DataError
from training.prepare.frames import RawFrame, UnreadableFrame

# camera_params.m of the data set's toolbox; the published frames are undistorted.
CAMERA = PinholeCamera(width=640, height=480, fx=518.857901, fy=519.469611, cx=325.582449, cy=253.736166)

LAYOUT = "rgb_N.jpg with sync_depth_N.png, N_colors.png with N_depth.png, or N.jpg with N.png"
_COLOR_NAMES = tuple(map(re.compile, (r"rgb_(\d+)\.(?:jpg|png)", r"(\d+)_colors\.(?:png|jpg)", r"(\d+)\.jpg")))
_DEPTH_NAMES = ("sync_depth_{}.png", "{}_depth.png", "{}.png")
_METRES_PER_UNIT = {np.dtype(np.uint16): 1e-3, np.dtype(np.uint8): 10 / 255}


@dataclass(frozen=True)
class LabeledNyu:
    """The labelled frames, `nyu_depth_v2_labeled.mat`: each on its own, none another's neighbour."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.stem

    @property
    def source(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def expected_frames(self) -> int:
        """As many as there are images."""
        with _opened(self.path) as file:
            return int(file["images"].shape[0])

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        """Frames in the file's order; all have stamp 0, since none follows another.

        Raises:
            DataError: the file is not laid out as the data set's.
        """
        with _opened(self.path) as file:
            images, depths = file["images"], file["depths"]
            for index in range(first, images.shape[0]):
                name = f"{self.name}/{index:010d}"
                try:
                    # MATLAB stores columns first: [3, W, H] and [W, H].
                    rgb, depth = np.ascontiguousarray(images[index].transpose(2, 1, 0)), depths[index].T
                except OSError as error:
                    yield UnreadableFrame(name, f"{self.path} is damaged there ({error})")
                    continue
                yield RawFrame(rgb, 0, _camera(rgb), np.ascontiguousarray(depth, np.float32), name=name)


@dataclass(frozen=True)
class NyuFolder:
    """A folder of extracted frames: one scene, in order of their numbers.

    Args:
        root: folder that the scenes' names start from.
        folder: of the scene.
        rate: frames a second.
    """

    root: Path
    folder: Path
    rate: float

    @property
    def name(self) -> str:
        """The folder below the root, with the root's own name."""
        return (Path(self.root.resolve().name) / self.folder.relative_to(self.root)).as_posix()

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def expected_frames(self) -> int:
        """As many as there are colour images with depth."""
        return len(nyu_pairs(self.folder))

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        """Frames by number; numbers that are missing leave gaps in the stamps."""
        for number, (color, depth) in list(nyu_pairs(self.folder).items())[first:]:
            name = f"{self.name}/{number:010d}"
            try:
                rgb, metres = read_rgb(color), read_nyu_depth(depth)
            except DataError as error:
                yield UnreadableFrame(name, str(error))
                continue
            yield RawFrame(rgb, round(number * 1e9 / self.rate), _camera(rgb), metres, name=name)


def nyu_pairs(folder: Path) -> dict[int, tuple[Path, Path]]:
    """Frame number -> colour and depth file, in order of the numbers; empty for a folder of another kind."""
    pairs = {}
    for path in image_files(folder):
        for pattern, depth_name in zip(_COLOR_NAMES, _DEPTH_NAMES, strict=True):
            match = pattern.fullmatch(path.name)
            depth = folder / depth_name.format(match[1]) if match else None
            if match and depth is not None and depth.is_file():
                pairs[int(match[1])] = (path, depth)
    return dict(sorted(pairs.items()))


def read_nyu_depth(path: Path) -> NDArray[np.float32]:
    """Depth in metres, float32 [H, W], 0 where there is none: uint16 millimetres, or uint8 times 10 m / 255.

    Raises:
        DataError: the file is no such image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2 or image.dtype not in _METRES_PER_UNIT:
        got = "nothing that can be decoded" if image is None else f"{image.dtype} {list(image.shape)}"
        raise DataError(f"{path} is {got}: expected a grey PNG of 8 or 16 bits")
    return image.astype(np.float32) * np.float32(_METRES_PER_UNIT[image.dtype])


def _camera(rgb: NDArray[np.uint8]) -> PinholeCamera:
    return CAMERA.resized(rgb.shape[1], rgb.shape[0])


def _opened(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error}): expected the MATLAB 7.3 file of NYU Depth v2") from error
    images, depths = file.get("images"), file.get("depths")
    if not isinstance(images, h5py.Dataset) or not isinstance(depths, h5py.Dataset):
        raise DataError(f"{path} has {', '.join(file) or 'nothing'}: expected `images` and `depths`")
    if images.dtype != np.uint8 or images.shape[1:2] != (3,) or depths.shape != (images.shape[0], *images.shape[2:]):
        shapes = f"images {images.dtype} {list(images.shape)}, depths {list(depths.shape)}"
        raise DataError(f"{path} has {shapes}: expected uint8 [N, 3, W, H] and [N, W, H]")
    return file
