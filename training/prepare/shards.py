"""Prepared frames as WebDataset shards: tar files that are streamed, from a disk or over a network.

    OUTPUT/shards/shards.json        what the shards hold
    OUTPUT/shards/000000.tar         clips, each a WebDataset sample:
        SEQUENCE/PART/INDEX.json     the clip's frames and which of them are targets
        SEQUENCE/PART/INDEX.000.jpg  its first frame (or .png), and where there are some, its depth .000.depth.png and
                                     its instance mask .000.instances.png

A clip is a run of targets with the neighbours that they are compared with at both ends, so that a sample needs nothing
from outside of it. Clips of all sequences are mixed, so that a shard looks like the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from training.data.instance_files import SUFFIX as INSTANCES_SUFFIX
from training.data.prepared import read_prepared
from training.data.records import FrameRecord
from training.errors import DataError
from training.prepare.format import depth_file, write_atomically

FORMAT = 1
SHARDS_FOLDER = "shards"
SHARDS_FILE = "shards.json"
PLAN_FILE = ".shards.json.plan"
CLIP_LENGTH = 16
NEIGHBOURS = 1
"""Frames before the first target of a clip, and after its last: as far away as the sources of Monodepth2."""


@dataclass(frozen=True)
class Clip:
    """Successive frames of one sequence, and which of them (by place) are targets; every frame is the target of one."""

    frames: tuple[FrameRecord, ...]
    targets: tuple[int, ...]

    @property
    def key(self) -> str:
        """Unique among all clips."""
        first = self.frames[self.targets[0]]
        return f"{first.sequence}/{first.index:010d}"


def clips(records: Sequence[FrameRecord], length: int = CLIP_LENGTH, neighbours: int = NEIGHBOURS) -> list[Clip]:
    """All targets, in runs of at most `length` of one sequence, with `neighbours` frames around each run."""
    result = []
    for run in _runs(records):
        for start in range(0, len(run), length):
            first, end = max(0, start - neighbours), min(len(run), start + length + neighbours)
            places = range(start - first, min(start + length, len(run)) - first)
            targets = tuple(place for place in places if run[first + place].is_target)
            if targets:
                result.append(Clip(tuple(run[first:end]), targets))
    return result


def write_shards(prepared: Path, megabytes: float) -> Path:
    """Pack all frames of an output of `prepare`; returns the folder of the shards.

    Shards that are there already are kept, so that a stopped run goes on.

    Raises:
        DataError: there are no frames, or the folder holds shards of other frames.
    """
    if not megabytes > 0:
        raise DataError(f"shards of {megabytes} MB: expected more than none")
    found = clips(read_prepared(prepared))
    order = np.random.default_rng(0).permutation(len(found))
    parts = list(_split_by_size([found[i] for i in order], megabytes * 1e6))
    folder = prepared / SHARDS_FOLDER
    folder.mkdir(exist_ok=True)
    content = (json.dumps(_summary(parts), indent=2) + "\n").encode()
    _claim(folder, content)
    for number, part in enumerate(parts):
        path = folder / shard_name(number)
        if not path.is_file():
            _write_shard(path, part)
    if not (folder / SHARDS_FILE).is_file():
        (folder / PLAN_FILE).replace(folder / SHARDS_FILE)
    print(f"{folder}: {len(parts)} shards")
    return folder


def shard_name(number: int) -> str:
    """The name of a shard."""
    return f"{number:06d}.tar"


def _runs(records: Sequence[FrameRecord]) -> Iterator[list[FrameRecord]]:
    """Records in order, cut where a number is missing."""
    run: list[FrameRecord] = []
    for record in sorted(records, key=lambda r: (r.sequence, r.index)):
        if run and (run[-1].sequence, run[-1].index + 1) != (record.sequence, record.index):
            yield run
            run = []
        run.append(record)
    if run:
        yield run


def _files(record: FrameRecord) -> dict[str, Path]:
    """Suffix -> file of a frame."""
    files = {record.image.suffix: record.image}
    if record.depth is not None:
        files[".depth.png"] = depth_file(record.image.parent, record.index)
    if record.instances is not None:
        files[INSTANCES_SUFFIX] = record.instances
    return files


def _split_by_size(found: Sequence[Clip], most: float) -> Iterator[list[Clip]]:
    part: list[Clip] = []
    size = 0
    for clip in found:
        size += sum(path.stat().st_size for frame in clip.frames for path in _files(frame).values())
        part.append(clip)
        if size >= most:
            yield part
            part, size = [], 0
    if part:
        yield part


def _summary(parts: Sequence[Sequence[Clip]]) -> dict[str, Any]:
    targets = [clip.frames[place] for part in parts for clip in part for place in clip.targets]
    known = [record.intrinsics for record in targets if record.intrinsics is not None]
    return {
        "format": FORMAT,
        "neighbours": NEIGHBOURS,
        "targets": len(targets),
        "with_depth": sum(record.depth is not None for record in targets),
        "with_pose": sum(record.pose is not None for record in targets),
        "K": np.median(known, axis=0).tolist() if known else None,
        "shards": {shard_name(i): sum(len(clip.targets) for clip in part) for i, part in enumerate(parts)},
    }


def _claim(folder: Path, content: bytes) -> None:
    """Write down what the shards will hold, or refuse to add to shards of other frames."""
    there = next((path for path in (folder / SHARDS_FILE, folder / PLAN_FILE) if path.is_file()), None)
    if there is None:
        write_atomically(folder / PLAN_FILE, content)
    elif there.read_bytes() != content:
        raise DataError(f"{folder} holds shards of other frames: delete it, or prepare into another output")


def _write_shard(path: Path, part: Sequence[Clip]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0, format="GNU_FORMAT") as tar:
        for clip in part:
            tar.write({"__key__": clip.key, **_members(clip)})
    partial.replace(path)


def _members(clip: Clip) -> dict[str, bytes]:
    members = {"json": json.dumps({"frames": [_described(f) for f in clip.frames], "targets": clip.targets}).encode()}
    for place, frame in enumerate(clip.frames):
        members |= {f"{place:03d}{suffix}": path.read_bytes() for suffix, path in _files(frame).items()}
    return members


def _described(frame: FrameRecord) -> dict[str, Any]:
    return {
        "sequence": frame.sequence,
        "index": frame.index,
        "stamp_ns": frame.stamp_ns,
        "suffix": frame.image.suffix,
        "K": frame.intrinsics,
        "T_world_camera": None if frame.pose is None else frame.pose[:3].ravel().tolist(),
        "depth": frame.depth is not None,
        "speed": None if frame.speed is None else frame.speed.read(),
        "instances": frame.instances is not None,
    }
