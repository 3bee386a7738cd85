"""The prepared format on disk, and the log by which a killed preparation goes on.

    ROOT/prepared.json                  how the images were made; the same for all sequences
    ROOT/SEQUENCE/index.jsonl           header, then one line for each frame of the recording, as they were read
    ROOT/SEQUENCE/0000000012.jpg        frame 12 (or .png): uint8 RGB at the size that prepared.json and the header name
    ROOT/SEQUENCE/0000000012.depth.png  uint16, metres times 256, 0 = none; where there is depth
    ROOT/SEQUENCE/0000000012.stereo.jpg what the other camera of a rectified pair saw; where there is one
    ROOT/SEQUENCE/0000000012.instances.png  instance mask, see `training.data.instance_files`; where one was made

A line of the index is written after the files it speaks of, each of which appears in one step: what a killed run left
is a prefix of what a finished one leaves, and the last line `{"end": true}` tells the two apart.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from training.errors import DataError
from training.prepare.frames import PrepareOptions, PrepareSummary

FORMAT = 1
OPTIONS_FILE = "prepared.json"
INDEX_FILE = "index.jsonl"

_OPTIONS_OF_IMAGES = ("width", "height", "format", "quality", "chroma", "rectify")


@dataclass(frozen=True)
class KeptFrame:
    """A frame in the output.

    Args:
        position: in the recording, counting from 0.
        index: in the sequence, and the name of its files.
        part: of the sequence; frames are neighbours only within one part.
        stamp_ns: nanoseconds, the recording's.
        name: what the recording calls the frame, or empty.
        K: (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H) of the prepared image, None where the camera is unknown.
        distortion: `[MODEL, k1, ...]` where lens distortion was left in the image.
        T_world_camera: first three rows, row by row, metres.
        speed: m/s.
        T_stereo_camera: first three rows, row by row, metres: from this camera's frame to its stereo partner's.
        depth: whether there is a depth file.
        is_target: False for a frame that is there only as a neighbour of listed ones.
    """

    position: int
    index: int
    part: int
    stamp_ns: int
    name: str = ""
    K: tuple[float, float, float, float] | None = None
    distortion: tuple[str | float, ...] | None = None
    T_world_camera: tuple[float, ...] | None = None
    speed: float | None = None
    T_stereo_camera: tuple[float, ...] | None = None
    depth: bool = False
    is_target: bool = True


@dataclass(frozen=True)
class Header:
    """First line of an index.

    Args:
        source: what the sequence is made from.
        width: of its images in pixels, which K belongs to.
        height: of its images in pixels.
        suffix: of its images' names.
        keep_still: frames were kept in which the camera did not move.
        max_gap: seconds at which the sequence was split.
    """

    source: str
    width: int
    height: int
    suffix: str
    keep_still: bool
    max_gap: float


@dataclass(frozen=True)
class Index:
    """A sequence's index as far as it was written.

    Args:
        kept: frames in the output.
        positions: frames of the recording that were read.
        skipped_still: how many of these were left out since the camera stood still.
        unreadable: `NAME: REASON` of those that could not be decoded.
        is_complete: whether the recording was read to its end.
    """

    header: Header
    kept: tuple[KeptFrame, ...] = ()
    positions: int = 0
    skipped_still: int = 0
    unreadable: tuple[str, ...] = ()
    is_complete: bool = False

    def summary(self) -> PrepareSummary:
        """The numbers that a user is told."""
        gaps = self.kept[-1].part if self.kept else 0
        return PrepareSummary(len(self.kept), self.skipped_still, gaps, self.unreadable)


def read_index(path: Path) -> Index | None:
    """The index in a file; None where there is none or it was cut off in its first line.

    Raises:
        DataError: it is damaged, or of another version.
    """
    lines = list(_whole_lines(path))
    if not lines:
        return None
    try:
        header = json.loads(lines[0])
        if header.pop("format") != FORMAT:
            raise DataError(f"{path} is of another format than {FORMAT}: prepare it again in a new folder")
        return _parse(Header(**header), [json.loads(line) for line in lines[1:]])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): delete its folder and prepare it again") from error


class IndexWriter:
    """Appends to a sequence's index; a context manager.

    Raises:
        DataError: the folder holds a sequence that was made from something else.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / INDEX_FILE
        self.index = read_index(self.path) or Index(header)
        if self.index.header != header:
            raise DataError(
                f"{folder} was prepared with {_differences(self.index.header, header)}:"
                " choose another output, or delete that folder"
            )

    def __enter__(self) -> IndexWriter:
        """Cut off half a line of a killed run, and open for more."""
        whole = sum(len(line) for line in _whole_lines(self.path))
        self._file = self.path.open("ab")
        self._file.truncate(whole)
        if not whole:
            self._append({"format": FORMAT, **asdict(self.index.header)})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def kept(self, frame: KeptFrame) -> None:
        """Its files are in place."""
        self._append({"frame": {key: value for key, value in asdict(frame).items() if value is not None}})

    def still(self, position: int) -> None:
        """The camera had not moved."""
        self._append({"still": position})

    def unreadable(self, position: int, reason: str) -> None:
        """The frame could not be decoded."""
        self._append({"unreadable": position, "reason": reason})

    def end(self) -> None:
        """The recording has been read to its end."""
        self._append({"end": True})

    def _append(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        self._file.flush()  # a line that a killed process wrote stays


def claim_output(output: Path, options: PrepareOptions) -> None:
    """Write down how the images of `output` are made, or check that it is as before.

    Raises:
        DataError: the folder holds frames that were made otherwise.
    """
    path = output / OPTIONS_FILE
    wanted = {"version": FORMAT, **{name: getattr(options, name) for name in _OPTIONS_OF_IMAGES}}
    if not path.is_file():
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(wanted, indent=2) + "\n").encode(), is_shared=True)
    there = json.loads(path.read_text())
    differing = [f"{key} {there.get(key)}, not {value}" for key, value in wanted.items() if there.get(key) != value]
    if differing:
        raise DataError(f"{output} holds frames prepared with {', '.join(differing)}: choose another output")


def write_atomically(path: Path, content: bytes, is_shared: bool = False) -> None:
    """Write a file that is there in whole or not at all.

    Args:
        is_shared: other processes may write the same file at the same time; the last one's stays.

    Raises:
        DataError: it cannot be written.
    """
    # What a killed run left of a file that is not shared is written over by the next.
    writer = f".{uuid.uuid4().hex}" if is_shared else ""
    partial = path.with_name(f".{path.name}{writer}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}): make room or choose another output, then run the same"
            " command again; it goes on where it stopped"
        ) from error


def _differences(there: Header, wanted: Header) -> str:
    """What of two headers is not the same."""
    before, after = asdict(there), asdict(wanted)
    return ", ".join(f"{name} {before[name]}, not {after[name]}" for name in before if before[name] != after[name])


def image_file(folder: Path, index: int, suffix: str) -> Path:
    """Where a frame's image lies."""
    return folder / f"{index:010d}{suffix}"


def depth_file(folder: Path, index: int) -> Path:
    """Where a frame's depth lies."""
    return folder / f"{index:010d}.depth.png"


def stereo_file(folder: Path, index: int, suffix: str) -> Path:
    """Where the image of a frame's stereo partner lies."""
    return folder / f"{index:010d}.stereo{suffix}"


def _whole_lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def _parse(header: Header, rows: list[dict[str, Any]]) -> Index:
    kept = tuple(_kept_frame(row["frame"]) for row in rows if "frame" in row)
    unreadable = tuple(row["reason"] for row in rows if "unreadable" in row)
    still = sum("still" in row for row in rows)
    return Index(header, kept, len(kept) + len(unreadable) + still, still, unreadable, bool(rows) and "end" in rows[-1])


def _kept_frame(values: dict[str, Any]) -> KeptFrame:
    fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return KeptFrame(**fields)
