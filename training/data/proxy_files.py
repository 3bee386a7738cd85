"""Proxy depth on disk: KITTI depth PNGs (uint16, metres times 256), one a frame, named by sequence and frame number."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from training.data.depth_files import KITTI_PNG_SCALE, DepthPng
from training.data.proxy import ProxyOptions, motion_depth, stereo_depth
from training.data.records import FrameRecord
from training.errors import DataError

Neighbours = dict[tuple[str, int], FrameRecord]


def proxy_file(folder: Path, record: FrameRecord) -> Path:
    """Where the proxy depth of a frame lies."""
    return folder / f"{record.name}.png"


def with_proxy_depth(records: Sequence[FrameRecord], folder: Path, prefer_proxy: bool) -> list[FrameRecord]:
    """Records whose depth is read from `folder` where they have none; with `prefer_proxy`, wherever there is a file.

    Raises:
        DataError: the folder has no file for any of the records.
    """
    found = {r.name: proxy_file(folder, r) for r in records if proxy_file(folder, r).is_file()}
    if not found:
        raise DataError(f"{folder} has no proxy depth for these frames: write it with `python -m training proxy_depth`")
    return [
        replace(r, depth=DepthPng(found[r.name])) if r.name in found and (prefer_proxy or r.depth is None) else r
        for r in records
    ]


def write_proxy_depth(
    records: Sequence[FrameRecord], folder: Path, offsets: Sequence[int], options: ProxyOptions, workers: int
) -> int:
    """Write proxy depth of every record that has a stereo partner or posed neighbours, and no file yet.

    A stereo partner is used where there is one: its baseline is known and nothing moves between the exposures.

    Returns:
        The number of files written.
    """
    neighbours = {(r.sequence, r.index): r for r in records}
    jobs = [r for r in records if not proxy_file(folder, r).is_file()]
    with ThreadPoolExecutor(workers) as pool:
        write = partial(_write_one, neighbours=neighbours, folder=folder, offsets=offsets, options=options)
        written = track(pool.map(write, jobs), description="proxy depth", total=len(jobs))
        return sum(written)


def _write_one(
    record: FrameRecord, neighbours: Neighbours, folder: Path, offsets: Sequence[int], options: ProxyOptions
) -> bool:
    depth = _proxy_depth(record, neighbours, offsets, options)
    if depth is None:
        return False
    path = proxy_file(folder, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = np.round(depth * KITTI_PNG_SCALE).astype(np.uint16)
    partial_file = path.with_name(f".{path.name}")  # a run that is stopped here leaves no half file behind
    if not cv2.imwrite(str(partial_file), encoded):
        raise DataError(f"{path} could not be written: is the disk full?")
    partial_file.replace(path)
    return True


def _proxy_depth(
    record: FrameRecord, neighbours: Neighbours, offsets: Sequence[int], options: ProxyOptions
) -> NDArray[np.float32] | None:
    if record.intrinsics is None:
        return None
    target = _read_gray(record.image)
    height, width = target.shape
    fx, fy, cx, cy = record.intrinsics
    if record.stereo is not None:
        shift = float(record.stereo.T_other_this[0, 3])  # negative: the partner is the right camera
        partner = _read_gray(record.stereo.image)
        return stereo_depth(target, partner, fx * width * abs(shift), options, right_partner=shift < 0)
    sources = [neighbours.get((record.sequence, record.index + k)) for k in offsets]
    posed = [s for s in sources if s is not None and s.pose is not None]
    if record.pose is None or len(posed) < 2:
        return None
    K = np.array([[fx * width, 0, cx * width - 0.5], [0, fy * height, cy * height - 0.5], [0, 0, 1]])
    relative = [np.linalg.inv(s.pose) @ record.pose for s in posed if s.pose is not None]
    return motion_depth(target, [_read_gray(s.image) for s in posed], K, relative, options)


def _read_gray(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path} cannot be decoded as an image")
    return np.asarray(image, np.uint8)
