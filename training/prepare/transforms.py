"""Poses over time and the tree of frames that /tf and /tf_static tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.frames import stamp_ns
from training.data.records import Matrix

LONGEST_HOLE_NS = 500_000_000
"""Samples further apart are not interpolated between."""


@dataclass(frozen=True)
class Samples:
    """Values over time: stamps int64 [N], ascending; values float64 [N, C]."""

    stamps: NDArray[np.int64]
    values: Matrix

    @classmethod
    def sorted(cls, stamps: Sequence[int], values: Sequence[Sequence[float]]) -> Samples:
        """Of samples in any order; of equal stamps the last counts."""
        unique = dict(sorted(zip(stamps, range(len(stamps)), strict=True)))
        columns = len(values[0]) if values else 0
        rows = np.array([values[row] for row in unique.values()], np.float64).reshape(len(unique), columns)
        return cls(np.fromiter(unique, np.int64), rows)

    def around(self, stamp: int) -> tuple[int, int, float] | None:
        """Samples before and after `stamp` and the share of the second; None outside of all or in a hole."""
        after = int(np.searchsorted(self.stamps, stamp))
        if after < len(self.stamps) and self.stamps[after] == stamp:
            return after, after, 0.0
        if after in (0, len(self.stamps)):
            return None
        length = int(self.stamps[after] - self.stamps[after - 1])
        if length > LONGEST_HOLE_NS:
            return None
        return after - 1, after, (stamp - int(self.stamps[after - 1])) / length

    def at(self, stamp: int) -> Matrix | None:
        """Values [C], linear in time; None outside of the samples or in a hole."""
        found = self.around(stamp)
        if found is None:
            return None
        before, after, share = found
        return np.asarray((1 - share) * self.values[before] + share * self.values[after])


@dataclass(frozen=True)
class Trajectory:
    """Transforms over time: samples of x, y, z (m) and a quaternion x, y, z, w."""

    samples: Samples

    def at(self, stamp: int) -> Matrix | None:
        """Transform [4, 4], translation linear in time, rotation by slerp; None outside or in a hole."""
        found = self.samples.around(stamp)
        values = self.samples.at(stamp)
        if found is None or values is None:
            return None
        before, after, share = found
        quaternion = slerp(self.samples.values[before, 3:], self.samples.values[after, 3:], share)
        return transform(values[:3], quaternion)


def slerp(first: Matrix, second: Matrix, share: float) -> Matrix:
    """Quaternion on the shorter arc between two (Shoemake, SIGGRAPH 1985)."""
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    cosine = float(first @ second)
    second = second if cosine >= 0 else -second
    angle = np.arctan2(np.linalg.norm(second - first * abs(cosine)), abs(cosine))
    if angle < 1e-6:  # the chord is the arc to 1e-12
        return np.asarray((1 - share) * first + share * second)
    return np.asarray((np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle))


def transform(translation: Sequence[float] | Matrix, quaternion: Sequence[float] | Matrix) -> Matrix:
    """[4, 4] of a translation and a quaternion x, y, z, w, of any length but 0."""
    x, y, z, w = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = translation
    return matrix


class TransformTree:
    """Where frames are to each other, from tf messages. A leading `/` of a frame (ROS 1) means nothing."""

    def __init__(self, static: Iterable[Any] = (), moving: Iterable[Any] = ()) -> None:
        """Args: TransformStamped messages of /tf_static and of /tf."""
        self._parents: dict[str, tuple[str, Matrix | Trajectory]] = {}
        stamps: dict[tuple[str, str], list[int]] = defaultdict(list)
        values: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
        for message in moving:
            key = _frame(message.child_frame_id), _frame(message.header.frame_id)
            stamps[key].append(stamp_ns(message))
            values[key].append(_numbers(message.transform))
        for key, rows in values.items():
            self._parents[key[0]] = key[1], Trajectory(Samples.sorted(stamps[key], rows))
        for message in static:
            numbers = _numbers(message.transform)
            pose = transform(numbers[:3], numbers[3:])
            self._parents[_frame(message.child_frame_id)] = _frame(message.header.frame_id), pose

    def lookup(self, target: str, source: str, stamp: int) -> Matrix | None:
        """T_target_source [4, 4] at a time; None where no chain of transforms joins the two then."""
        targets, sources = self._to_root(_frame(target), stamp), self._to_root(_frame(source), stamp)
        common = next((frame for frame in sources if frame in targets), None)
        return None if common is None else np.asarray(np.linalg.inv(targets[common]) @ sources[common])

    def _to_root(self, frame: str, stamp: int) -> dict[str, Matrix]:
        """T_ancestor_frame by ancestor, nearest first, as far as the chain is known at that time."""
        pose = np.eye(4)
        chain = {frame: pose}
        while frame in self._parents:
            frame, link = self._parents[frame]
            step = link.at(stamp) if isinstance(link, Trajectory) else link
            if step is None or frame in chain:
                break
            pose = step @ pose
            chain[frame] = pose
        return chain


def _frame(name: str) -> str:
    return name.lstrip("/")


def _numbers(message: Any) -> list[float]:
    """x, y, z and quaternion of a geometry_msgs/Transform."""
    t, q = message.translation, message.rotation
    return [t.x, t.y, t.z, q.x, q.y, q.z, q.w]
