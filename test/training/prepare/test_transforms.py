"""Poses over time and chains of frames, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node import bag_messages
from training.prepare.transforms import LONGEST_HOLE_NS, Samples, Trajectory, TransformTree, slerp, transform

MS = 1_000_000


def about_z(angle: float) -> list[float]:
    return [0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2)]


@given(st.floats(-3.1, 3.1), st.floats(0, 1), st.booleans())
def test_slerp_turns_evenly_and_takes_the_shorter_arc(angle: float, share: float, negated: bool) -> None:
    second = np.array(about_z(angle)) * (-1 if negated else 1)  # the same rotation
    rotation = transform([0, 0, 0], slerp(np.array(about_z(0.0)), second, share))
    expected = transform([0, 0, 0], about_z(share * angle))
    np.testing.assert_allclose(rotation, expected, atol=1e-9)


def test_quaternion_of_any_length_is_a_rotation() -> None:
    matrix = transform([1, 2, 3], [0, 0, 5, 5])  # a quarter turn to the left
    np.testing.assert_allclose(matrix, [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12)


def test_samples_come_in_any_order_and_are_not_extrapolated() -> None:
    samples = Samples.sorted([300 * MS, 100 * MS, 100 * MS], [[30.0], [5.0], [10.0]])
    values = {stamp: samples.at(stamp * MS) for stamp in (99, 100, 200, 300, 301)}
    assert values[99] is None
    assert values[301] is None
    assert [float(values[stamp][0]) for stamp in (100, 200, 300)] == [10, 20, 30]  # type: ignore[index]


def test_nothing_is_known_in_a_hole() -> None:
    wide = Samples.sorted([0, LONGEST_HOLE_NS + 1], [[0.0], [1.0]])
    assert wide.at(LONGEST_HOLE_NS // 2) is None
    narrow = Samples.sorted([0, LONGEST_HOLE_NS], [[0.0], [1.0]])
    assert narrow.at(LONGEST_HOLE_NS // 2) == pytest.approx([0.5])


def test_no_samples_tell_nothing() -> None:
    assert Trajectory(Samples.sorted([], [])).at(0) is None


def link(parent: str, child: str, stamp: int, pose: np.ndarray) -> list[object]:
    return list(bag_messages.transforms(stamp, {(parent, child): pose}).transforms)


def test_chain_over_moving_and_static_links_and_slashes() -> None:
    base_camera = transform([1, 0, 0], about_z(0.0))
    base_lidar = transform([0, 0, 2], about_z(math.pi / 2))
    static = [*link("/base", "camera", 0, base_camera), *link("base", "/lidar", 0, base_lidar)]
    moving = [
        *link("odom", "base", 0, transform([0, 0, 0], about_z(0.0))),
        *link("odom", "base", 100 * MS, transform([4, 0, 0], about_z(0.4))),
    ]
    tree = TransformTree(static, moving)
    camera_lidar = tree.lookup("camera", "lidar", 10_000 * MS)  # both hang on base, so its motion does not matter
    assert camera_lidar is not None
    np.testing.assert_allclose(camera_lidar, np.linalg.inv(base_camera) @ base_lidar, atol=1e-12)
    odom_base = tree.lookup("odom", "base", 25 * MS)
    assert odom_base is not None
    np.testing.assert_allclose(odom_base, transform([1, 0, 0], about_z(0.1)), atol=1e-9)
    assert tree.lookup("odom", "camera", 101 * MS) is None
    assert tree.lookup("camera", "elsewhere", 0) is None


def test_a_ring_of_frames_ends() -> None:
    ring = [*link("a", "b", 0, np.eye(4)), *link("b", "a", 0, np.eye(4))]
    assert TransformTree(ring).lookup("a", "c", 0) is None
