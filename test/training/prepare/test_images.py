"""Prepared pixels against area means, projected points and exact rays in float64."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node.camera import PinholeCamera
from training.prepare.frames import PrepareOptions
from training.prepare.images import encoded_depth, encoded_image, rectified, resized, resized_depth, undistorted

LENS = PinholeCamera(320, 240, 200.0, 210.0, 150.0, 118.0, "plumb_bob", (-0.2, 0.05, 0.001, -0.002))


def area_mean(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Mean over each output pixel's area, shares of pixels included: weights are lengths of overlap."""

    def weights(source: int, target: int) -> np.ndarray:
        edges = np.arange(target + 1) * source / target
        low, high = np.arange(source), np.arange(source) + 1
        overlap = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
        return np.maximum(overlap, 0) * target / source

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("ir,rck,jc->ijk", rows, image.astype(np.float64), columns)


@pytest.mark.parametrize(("width", "height"), [(64, 24), (61, 23), (130, 40)])
def test_shrinking_takes_the_mean_over_areas(width: int, height: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 130, 3), np.uint8)
    assert np.abs(resized(image, width, height) - area_mean(image, width, height)).max() <= 0.51


@given(
    st.lists(
        st.tuples(st.integers(0, 119), st.integers(0, 39), st.floats(0.5, 80)), max_size=40, unique_by=lambda p: p[:2]
    ),
    st.integers(10, 150),
    st.integers(5, 60),
)
def test_depth_goes_where_its_ray_says(points: list[tuple[int, int, float]], width: int, height: int) -> None:
    depth = np.zeros((40, 120), np.float32)
    camera = PinholeCamera(120, 40, 90.0, 70.0, 55.3, 19.2)
    target = camera.resized(width, height)
    expected: dict[tuple[int, int], float] = {}
    for column, row, metres in points:
        depth[row, column] = metres
        x = (column - camera.cx) / camera.fx * target.fx + target.cx
        y = (row - camera.cy) / camera.fy * target.fy + target.cy
        # Halfway between two pixels is either's, as rounding in float64 has it.
        near = [(int(np.floor(y + 0.5 + d)), int(np.floor(x + 0.5 + e))) for d in (-1e-9, 1e-9) for e in (-1e-9, 1e-9)]
        hit = near[-1]
        if len(set(near)) == 1:
            expected[hit] = min(expected.get(hit, np.inf), float(np.float32(metres)))
    result = resized_depth(depth, width, height)
    assert result.shape == (height, width)
    for place, metres in expected.items():
        assert 0 < result[place] <= metres
    assert np.count_nonzero(result) <= len(points)
    assert set(result[result > 0].tolist()) <= {float(np.float32(p[2])) for p in points}


def test_the_nearest_of_two_in_a_pixel_wins() -> None:
    depth = np.array([[7.0, 3.0, 0.0, 0.0]], np.float32)
    assert resized_depth(depth, 2, 1).tolist() == [[3.0, 0.0]]


def test_depth_is_undistorted_with_its_image() -> None:
    """A point in space, through the lens into the depth map, comes out where the ideal camera sees it."""
    points = np.array([[-0.5, -0.4, 1.0], [0.6, 0.3, 1.0], [0.0, 0.0, 1.0], [0.3, -0.5, 1.0]]) * [[4], [9], [2], [30]]
    pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), LENS.matrix(), np.array(LENS.distortion))
    depth = np.zeros((LENS.height, LENS.width), np.float32)
    for (x, y), z in zip(pixels.reshape(-1, 2), points[:, 2], strict=True):
        depth[round(y), round(x)] = z
    result = resized_depth(depth, LENS.width, LENS.height, LENS)
    for x, y, z in points:
        u, v = LENS.fx * x / z + LENS.cx, LENS.fy * y / z + LENS.cy
        near = result[round(v) - 1 : round(v) + 2, round(u) - 1 : round(u) + 2]
        assert near.max() == np.float32(z)  # half a pixel of rounding before, the same after
    assert np.count_nonzero(result) == len(points)


def test_rectified_image_shows_each_ray_where_k_says() -> None:
    """An image whose colours are smooth functions of the ray, seen through the lens, and rectified."""

    def colors(rays: np.ndarray) -> np.ndarray:
        x, y = rays[..., 0], rays[..., 1]
        return np.stack([127 + 100 * np.sin(2 * x), 127 + 100 * np.cos(3 * y), 127 + 60 * x], axis=-1)

    def rays(camera: PinholeCamera) -> np.ndarray:
        return camera.rays().astype(np.float64)

    seen = np.rint(colors(rays(LENS))).astype(np.uint8)
    result = rectified(seen, LENS)
    assert np.abs(result - colors(rays(undistorted(LENS))))[8:-8, 8:-8].max() < 1.6
    assert rectified(seen, undistorted(LENS)) is seen
    assert rectified(seen, None) is seen


def test_depth_file_is_kittis() -> None:
    depth = np.array([[0.0, 1.0, 79.996, 255.99, 300.0, 1 / 256]], np.float32)
    stored = cv2.imdecode(np.frombuffer(encoded_depth(depth), np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert stored.tolist() == [[0, 256, 20479, 65533, 0, 1]]


def sampling(content: bytes) -> tuple[int, int]:
    """Horizontal and vertical sampling factor of the first component, by the frame header (ITU T.81, B.2.2)."""
    start = content.index(b"\xff\xc0")
    factors = content[start + 11]
    return factors >> 4, factors & 15


@pytest.mark.parametrize(("chroma", "factors"), [("444", (1, 1)), ("420", (2, 2))])
def test_chroma_sampling_is_as_asked_for(chroma: str, factors: tuple[int, int]) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    assert sampling(encoded_image(image, replace(PrepareOptions(), chroma=chroma))) == factors


def test_png_is_exact_and_rgb() -> None:
    image = np.random.default_rng(2).integers(0, 256, (8, 9, 3), np.uint8)
    content = encoded_image(image, PrepareOptions(format="png"))
    assert np.array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], image)


def test_less_quality_is_less() -> None:
    image = np.random.default_rng(2).integers(0, 256, (48, 64, 3), np.uint8)
    sizes = [len(encoded_image(image, PrepareOptions(quality=quality))) for quality in (50, 92, 100)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
