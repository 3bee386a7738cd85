"""Proxy depth on disk: KITTI depth PNGs (uint16, metres times 256), one a frame, named by sequence and frame number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from depth_node.camera import PinholeCamera
from training.data.depth_files import KITTI_PNG_SCALE, DepthPng
from training.data.proxy import (
    Depth,
    Flow,
    Gray,
    ProxyOptions,
    consistent_flow,
    motion_depth,
    optical_flow,
    stereo_depth,
)
from training.data.proxy_checks import contradicts_road, has_texture
from training.data.records import FrameRecord
from training.data.road_plane import road_plane
from training.data.video_poses import REACH, ROAD_NEIGHBOURS, Motions, metric_motions
from training.errors import DataError

CAMERA_HEIGHTS = (0.5, 4.0)
"""Metres over the road that cameras are believed to be."""


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
    records: Sequence[FrameRecord],
    folder: Path,
    offsets: Sequence[int],
    options: ProxyOptions,
    workers: int,
    camera_height: float | None = None,
) -> int:
    """Write proxy depth of every record that has none yet and a stereo partner, or neighbours in a video.

    A stereo partner is used where there is one: its baseline is known and nothing moves between the exposures. Video is
    triangulated by its poses; where it has none, by those that it tells itself, if the camera's height in metres over
    the road is known.

    Returns:
        The number of files written.
    """
    sequences: dict[str, dict[int, FrameRecord]] = {}
    for record in records:
        sequences.setdefault(record.sequence, {})[record.index] = record
    written = 0
    with ThreadPoolExecutor(workers) as pool:
        for frames in track(sequences.values(), description="proxy depth"):
            jobs = [r for r in frames.values() if not proxy_file(folder, r).is_file() and r.intrinsics is not None]
            pairs = [r for r in jobs if r.stereo is not None]
            written += sum(pool.map(partial(_write_stereo, folder=folder, options=options), pairs))
            alone = [r for r in jobs if r.stereo is None]
            if alone:
                video = _Video(frames, offsets, workers)
                motions = _motions(video, alone, camera_height, pool)
                write = partial(_write_motion, video=video, motions=motions, folder=folder, options=options)
                written += sum(pool.map(write, alone))
    return written


class _Video:
    """Frames of one sequence; images and flows are computed once as long as frames near them are worked on."""

    def __init__(self, frames: Mapping[int, FrameRecord], offsets: Sequence[int], workers: int) -> None:
        self.frames, self.offsets = frames, offsets
        self.gray = lru_cache(maxsize=4 * REACH + 2 * workers)(self._gray)
        self.flow = lru_cache(maxsize=2 * sum(map(abs, offsets)) + 2 * len(offsets) * workers)(self._flow)

    def camera(self, index: int) -> PinholeCamera:
        height, width = self.gray(index).shape
        intrinsics = self.frames[index].intrinsics
        assert intrinsics is not None
        return PinholeCamera.from_normalized(intrinsics, width, height)

    def _gray(self, index: int) -> Gray:
        return _read_gray(self.frames[index].image)

    def _flow(self, a: int, b: int) -> Flow:
        return optical_flow(self.gray(a), self.gray(b))


def _motions(
    video: _Video, frames: Sequence[FrameRecord], camera_height: float | None, pool: Executor
) -> Mapping[int, Motions]:
    """T_neighbour_frame by offset, of the frames whose motion is known."""
    if camera_height is not None and all(r.pose is None for r in frames):
        indices = sorted(video.frames)
        return metric_motions(indices, video.gray, video.camera(indices[0]).matrix(), camera_height, pool)
    return {r.index: _posed_motion(r, video) for r in frames if r.pose is not None}


def _posed_motion(record: FrameRecord, video: _Video) -> Motions:
    assert record.pose is not None
    near = {k: video.frames[record.index + k].pose for k in video.offsets if record.index + k in video.frames}
    return {k: np.linalg.inv(pose) @ record.pose for k, pose in near.items() if pose is not None}


def _write_motion(
    record: FrameRecord, video: _Video, motions: Mapping[int, Motions], folder: Path, options: ProxyOptions
) -> bool:
    known = motions.get(record.index, {})
    used = [k for k in video.offsets if k in known]
    if len(used) < 2:
        return False
    here = record.index
    matches = [consistent_flow(video.flow(here, here + k), video.flow(here + k, here), options) for k in used]
    camera = video.camera(here)
    depth = motion_depth(matches, camera.matrix(), [known[k] for k in used], options)
    depth[~has_texture(video.gray(here))] = 0
    near = {k: known[k] for k in ROAD_NEIGHBOURS if k in known}
    road = road_plane({k: video.gray(here + k) for k in (0, *near)}, near, camera.matrix(), CAMERA_HEIGHTS)
    if road is not None:
        depth[contradicts_road(depth, camera, road)] = 0
    return _write(record, depth, folder)


def _write_stereo(record: FrameRecord, folder: Path, options: ProxyOptions) -> bool:
    assert record.stereo is not None
    assert record.intrinsics is not None
    target, partner = _read_gray(record.image), _read_gray(record.stereo.image)
    shift = float(record.stereo.T_other_this[0, 3])  # negative: the partner is the right camera
    focal_baseline = record.intrinsics[0] * target.shape[1] * abs(shift)
    return _write(record, stereo_depth(target, partner, focal_baseline, options, right_partner=shift < 0), folder)


def _write(record: FrameRecord, depth: Depth, folder: Path) -> bool:
    path = proxy_file(folder, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(f".{path.name}")  # a run that is stopped here leaves no half file behind
    if not cv2.imwrite(str(partial_file), np.round(depth * KITTI_PNG_SCALE).astype(np.uint16)):
        raise DataError(f"{path} could not be written: is the disk full?")
    partial_file.replace(path)
    return True


def _read_gray(path: Path) -> Gray:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path} cannot be decoded as an image")
    return np.asarray(image, np.uint8)
