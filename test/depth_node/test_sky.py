"""Sky against synthetic truth and against real frames, whose measured pixels are never sky."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_node.backends import create_backend
from depth_node.camera import PinholeCamera
from depth_node.frames import Frame
from depth_node.model import read_model
from depth_node.pipeline import DepthOptions, DepthPipeline, resize_image
from depth_node.sky import SKY_MASK_SHAPE, SKY_MIN_DEPTH, invalidate_sky, sky_mask
from depth_node.synthetic import Primitive, SyntheticFrame, World, render, street_drive, street_world

MODEL = Path(__file__).resolve().parents[2] / "models" / "depth-base.onnx"
CAMERA = PinholeCamera(640, 192, 372.0, 372.0, 314.0, 88.0)
FAR = 60.0


@pytest.fixture(scope="module")
def street() -> list[SyntheticFrame]:
    """One frame of each of six streets; the sky's depth is NaN."""
    return [next(iter(street_drive(street_world(seed), CAMERA, 1, start=30.0))) for seed in range(100, 106)]


def seen_depth(frame: SyntheticFrame, sky_depth: float = FAR) -> NDArray[np.float32]:
    """Depth as a network has it: something everywhere, sky too."""
    return np.nan_to_num(frame.depth, nan=sky_depth)


def without_sky(image: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    depth = depth.copy()
    invalidate_sky(depth, sky_mask(image, depth))
    return depth


def test_most_of_the_sky_is_found_and_hardly_anything_else(street: list[SyntheticFrame]) -> None:
    removed = np.stack([np.isnan(without_sky(frame.rgb, seen_depth(frame))) for frame in street])
    true_sky = np.stack([np.isnan(frame.depth) for frame in street])
    assert true_sky.mean() > 0.05
    assert (removed & true_sky).sum() > 0.65 * true_sky.sum()
    assert (removed & ~true_sky).sum() < 0.005 * removed.sum()


def test_depth_in_another_unit_gives_the_same_sky(street: list[SyntheticFrame]) -> None:
    for frame in street:
        in_metres = sky_mask(frame.rgb, seen_depth(frame), min_depth=None)
        assert np.array_equal(sky_mask(frame.rgb, np.float32(0.03) * seen_depth(frame), min_depth=None), in_metres)
    assert in_metres.any()


def test_the_size_of_image_and_depth_hardly_matters(street: list[SyntheticFrame]) -> None:
    frame = street[1]
    reference = sky_mask(frame.rgb, seen_depth(frame))
    larger = cv2.resize(frame.rgb, (1242, 375))
    smaller = cv2.resize(seen_depth(frame), (311, 94), interpolation=cv2.INTER_NEAREST)
    other = sky_mask(larger, smaller)  # type: ignore[arg-type]
    assert reference.shape == other.shape == SKY_MASK_SHAPE
    assert (reference & other).sum() > 0.85 * (reference | other).sum()


def test_what_is_near_is_never_sky(street: list[SyntheticFrame]) -> None:
    for frame in street:
        assert not sky_mask(frame.rgb, seen_depth(frame, sky_depth=SKY_MIN_DEPTH - 1)).any()


def test_depth_that_is_invalid_already_does_not_hinder(street: list[SyntheticFrame]) -> None:
    frame = street[1]
    reference = sky_mask(frame.rgb, seen_depth(frame))
    assert reference.any()
    assert np.array_equal(sky_mask(frame.rgb, frame.depth), reference)
    assert not sky_mask(frame.rgb, np.full_like(frame.depth, np.nan), min_depth=None).any()


@pytest.mark.parametrize("name", ["black", "grey", "white", "noise", "half white"])
def test_images_of_nothing_have_no_sky(name: str) -> None:
    rng = np.random.default_rng(3)
    flat = {"black": 0, "grey": 128, "white": 255}
    if name == "noise":
        image = rng.integers(0, 256, (192, 640, 3), dtype=np.uint8)
    elif name == "half white":  # as bright below as above: a wall over a table, or snow
        image = np.full((192, 640, 3), 250, np.uint8)
        image[80:110] = 40
    else:
        image = np.full((192, 640, 3), flat[name], np.uint8)
    assert not sky_mask(image, np.full((192, 640), FAR, np.float32)).any()


def test_a_white_room_has_no_sky() -> None:
    """Bright, smooth and white up to the edge; only its depth tells it from an overcast sky."""

    def box(x: float, y: float, z: float, half: tuple[float, float, float], grey: float) -> Primitive:
        pose = np.eye(4)
        pose[:3, 3] = x, y, z
        return Primitive("box", pose, half, "plain", (grey, grey, grey), seed=7)

    room = World(
        primitives=(
            box(4, 0, 2.2, (8, 3, 0.1), 1.6),
            box(4, 0, -0.1, (8, 3, 0.1), 0.25),
            box(9, 0, 1.1, (0.1, 3, 1.5), 0.3),
            box(4, 1.8, 1.1, (8, 0.1, 1.5), 0.4),
            box(4, -1.8, 1.1, (8, 0.1, 1.5), 0.4),
        ),
        street=None,
        ambient=1.5,
        sunlight=0.0,
    )
    T_world_camera = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.2], [0, 0, 0, 1]])
    rgb, depth = render(room, CAMERA, T_world_camera)
    assert np.isfinite(depth).all()
    assert sky_mask(rgb, np.full_like(depth, FAR)).any()  # so the image alone would do
    assert not sky_mask(rgb, depth).any()
    assert not sky_mask(rgb, depth, min_depth=None).any()


def test_a_near_white_truck_under_a_white_sky_stays() -> None:
    image = np.full((192, 640, 3), 252, np.uint8)
    image[90:] = 60
    depth = np.full((192, 640), FAR, np.float32)
    image[:150, 400:560] = 235
    depth[:150, 400:560] = 8
    result = without_sky(image, depth)
    assert not np.isnan(result[:, 400:560]).any()
    assert np.isnan(result[:80, :380]).mean() > 0.9


@pytest.mark.parametrize(("width", "height"), [(640, 192), (1242, 375), (31, 17), (160, 48)])
def test_exactly_the_cells_of_the_mask_become_invalid(width: int, height: int) -> None:
    sky = np.zeros(SKY_MASK_SHAPE, bool)
    sky[:20, 30:90] = True
    sky[20:31, 40:50] = True
    depth = np.random.default_rng(0).uniform(1, 80, (height, width)).astype(np.float32)
    before = depth.copy()
    invalidate_sky(depth, sky)
    expected = sky[np.ix_(np.arange(height) * 48 // height, np.arange(width) * 160 // width)]
    assert np.array_equal(np.isnan(depth), expected)
    assert np.array_equal(depth[~expected], before[~expected])


def test_no_sky_changes_nothing() -> None:
    depth = np.ones((20, 30), np.float32)
    invalidate_sky(depth, np.zeros(SKY_MASK_SHAPE, bool))
    assert (depth == 1).all()


def test_measured_pixels_of_real_frames_stay(shared_data: Path) -> None:
    """KITTI 2015's disparities are of things; removing one of them would hide an obstacle."""
    model = read_model(MODEL)
    pipeline = DepthPipeline(model, create_backend(model, precision="fp32"), DepthOptions(remove_sky=False))
    names = (shared_data / "kitti_2015" / "validation.txt").read_text().split("\n")
    lost, removed = [], []
    for line in islice(filter(None, names), 0, None, 4):
        name = line.split()[0]
        rgb = read_rgb(next((shared_data / "kitti_2015" / "image_2").glob(f"{name}*")))
        disparity = cv2.imread(
            str(next((shared_data / "kitti_2015" / "disp_occ_0").glob(f"{name}*"))), cv2.IMREAD_UNCHANGED
        )
        assert disparity is not None
        height, width = rgb.shape[:2]
        depth = pipeline.process(
            Frame(0, "", rgb), PinholeCamera(width, height, 721.5377, 721.5377, 609.5593, 172.854)
        ).depth
        small = np.empty((192, 640, 3), np.uint8)
        resize_image(rgb, small)
        sky = np.isnan(without_sky(small, depth))
        lost.append(sky[disparity > 0].mean())
        removed.append(sky.mean())
    assert max(lost) < 0.001
    assert np.mean(removed) > 0.05  # blue sky in nearly all of them


def read_rgb(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
