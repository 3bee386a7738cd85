"""The colour preview against the published colours of its maps, and the promise of one fixed scale."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node.color import COLORMAPS, colorize
from depth_node.errors import DepthNodeError

# First and last entries of the published tables, RGB in 0..255: Mikhailov 2019 (turbo), matplotlib (the others).
ENDS = {
    "turbo": ([48, 18, 59], [122, 4, 3]),
    "viridis": ([68, 1, 84], [253, 231, 37]),
    "magma": ([0, 0, 4], [252, 253, 191]),
    "inferno": ([0, 0, 4], [252, 255, 164]),
    "plasma": ([13, 8, 135], [240, 249, 33]),
}


def color_of(depth: float, **scale: object) -> list[int]:
    limits = {"min_depth": 1.0, "max_depth": 50.0, **scale}
    color: list[int] = colorize(np.full((2, 3), depth, np.float32), **limits)[1, 2].tolist()  # type: ignore[arg-type]
    return color


@pytest.mark.parametrize("colormap", ENDS)
def test_ends_of_the_scale_are_the_ends_of_the_map(colormap: str) -> None:
    farthest, nearest = ENDS[colormap]
    assert np.abs(np.subtract(color_of(50, colormap=colormap), farthest)).max() <= 1
    assert np.abs(np.subtract(color_of(1, colormap=colormap), nearest)).max() <= 1


def test_scale_is_logarithmic() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.8, 70, (40, 50)).astype(np.float32)
    position = np.clip(np.log(50 / depth.astype(np.float64)) / np.log(50 / 1), 0, 1)
    grey = colorize(depth, 1.0, 50.0, "bone").astype(np.float64).mean(axis=-1)
    # The brightness of `bone` rises with its position, from black to white.
    steps = np.linspace(0, 255, 256).astype(np.uint8)[:, None]
    bone = cv2.applyColorMap(steps, cv2.COLORMAP_BONE).astype(np.float64).mean(axis=-1)[:, 0]
    assert grey == pytest.approx(np.interp(position * 255, np.arange(256), bone), abs=2)


@given(st.floats(0.01, 1000), st.lists(st.floats(0.01, 1000), min_size=1, max_size=8))
def test_a_depth_has_the_same_colour_beside_any_others(depth: float, others: list[float]) -> None:
    row = np.array([[depth, *others]], np.float32)
    assert colorize(row, 1.0, 50.0)[0, 0].tolist() == color_of(np.float32(depth))


def test_invalid_is_black_and_nothing_else_is() -> None:
    # More than one SIMD register's width, with NaN at every place in one.
    depth = np.tile(np.geomspace(0.1, 500, 101).astype(np.float32), (67, 1))
    invalid = np.random.default_rng(0).random(depth.shape) < 0.3
    depth[invalid] = np.nan
    picture = colorize(depth, 1.0, 50.0)
    assert picture.dtype == np.uint8
    assert picture.shape == (67, 101, 3)
    assert np.array_equal((picture == 0).all(axis=-1), invalid)


def test_beyond_the_scale_keeps_the_end_colours() -> None:
    assert color_of(np.inf) == color_of(1e6) == color_of(50)
    assert color_of(0.0) == color_of(1e-6) == color_of(1)


def test_every_map_goes_from_far_to_near() -> None:
    for colormap in COLORMAPS:
        assert color_of(50, colormap=colormap) != color_of(1, colormap=colormap)


def test_unknown_maps_and_empty_scales_are_refused() -> None:
    with pytest.raises(DepthNodeError, match="colour map 'rainbow' is unknown; expected one of: turbo, viridis"):
        color_of(5, colormap="rainbow")
    with pytest.raises(DepthNodeError, match=r"from 50.0 m to 50.0 m; expected 0 < min_depth < max_depth"):
        color_of(5, min_depth=50.0)
    with pytest.raises(DepthNodeError, match="expected 0 < min_depth"):
        color_of(5, min_depth=0.0)
