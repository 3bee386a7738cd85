"""Frames that `prepare` wrote, as records; see `training.prepare.format` for what lies where."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.depth_files import DepthPng
from training.data.instance_files import instance_file
from training.data.records import FrameRecord, KnownSpeed, Matrix, MissingFiles, StereoView
from training.data.splits import read_split_file, select_listed
from training.errors import DataError
from training.prepare.format import INDEX_FILE, Index, KeptFrame, depth_file, image_file, read_index, stereo_file

logger = logging.getLogger(__name__)


def read_prepared(
    root: Path,
    sequences: Sequence[str] | None = None,
    split_file: Path | None = None,
    neighbours: int = 0,
    missing: MissingFiles | None = None,
) -> list[FrameRecord]:
    """Frames of an output of `prepare`, or of some of its sequences.

    Each part of a sequence that gaps split is a sequence of its own, `NAME/PART`. With a split file, frames keep the
    names that the list knows them by.

    Args:
        root: what was `--output`.
        sequences: names of sequences; all if None.
        split_file: list of the frames to keep, in its order: `FOLDER INDEX l|r` a line.
        neighbours: with a split file, unlisted frames up to so many away from a listed one follow; they are no targets.
        missing: takes the files and listed frames that are missing, which are logged otherwise.

    Raises:
        DataError: nothing was found, there is no such sequence, or an index is damaged.
    """
    is_logged = missing is None
    missing = missing or MissingFiles("prepared frames", root)
    found = {path.parent.relative_to(root).as_posix(): path for path in sorted(root.rglob(INDEX_FILE))}
    unknown = sorted(set(sequences or []) - set(found))
    if unknown:
        raise DataError(f"{root} has no sequence {', '.join(unknown)}; it has {', '.join(found) or 'none'}")
    records: dict[str, FrameRecord] = {}
    for name in sequences or found:
        records |= _read_sequence(name, found[name], missing)
    if split_file is not None:
        chosen = select_listed(records, read_split_file(split_file), missing, neighbours)
    else:
        chosen = list(records.values())
    if is_logged:
        missing.warn(logger)
    if not chosen:
        what = f"of {split_file} " if split_file else ""
        raise DataError(f"no prepared frames {what}in {root}: write some with `python -m training prepare`")
    return chosen


def _read_sequence(name: str, path: Path, missing: MissingFiles) -> dict[str, FrameRecord]:
    index = read_index(path)
    if index is None:
        return {}
    if not index.is_complete:
        logger.warning("%s was not prepared to its end: run the same `prepare` again to go on", path.parent)
    if any(frame.distortion for frame in index.kept):
        logger.warning("%s: lens distortion is left in the images; prepare without it (rectify)", path.parent)
    there = set(os.listdir(path.parent))
    records = {}
    for frame in index.kept:
        record = _record(name, path.parent, index, frame)
        if record.image.name not in there:
            missing.add("image", record.image)
            continue
        depth = depth_file(path.parent, frame.index)
        if frame.depth and depth.name not in there:
            missing.add("depth", depth)
            record = replace(record, depth=None)
        if record.stereo is not None and record.stereo.image.name not in there:
            missing.add("stereo partner", record.stereo.image)
            record = replace(record, stereo=None)
        if instance_file(record.image).name in there:
            record = replace(record, instances=instance_file(record.image))
        records[frame.name or record.name] = record
    return records


def _record(name: str, folder: Path, index: Index, frame: KeptFrame) -> FrameRecord:
    suffix = index.header.suffix
    partner = frame.T_stereo_camera
    return FrameRecord(
        image=image_file(folder, frame.index, suffix),
        intrinsics=frame.K,
        sequence=f"{name}/{frame.part:03d}",
        index=frame.index,
        stamp_ns=frame.stamp_ns,
        pose=None if frame.T_world_camera is None else _transform(frame.T_world_camera),
        depth=DepthPng(depth_file(folder, frame.index)) if frame.depth else None,
        stereo=None if partner is None else StereoView(stereo_file(folder, frame.index, suffix), _transform(partner)),
        speed=None if frame.speed is None else KnownSpeed(frame.speed),
        is_target=frame.is_target,
    )


def _transform(rows: Sequence[float]) -> Matrix:
    """[4, 4] of the first three rows, row by row."""
    return np.vstack([np.reshape(rows, (3, 4)), [0.0, 0.0, 0.0, 1.0]])
