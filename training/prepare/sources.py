"""What a path holds, and the streams of frames that are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

from depth_node.calibration_file import read_calibration
from depth_node.camera import PinholeCamera
from training.data.folder import read_folder
from training.data.kitti_2015 import read_kitti_2015
from training.data.kitti_odometry import read_kitti_odometry
from training.data.kitti_raw import read_kitti_raw
from training.data.records import FrameRecord, MissingFiles, image_files
from training.data.splits import EIGEN_TEST_DRIVES, kitti_drive
from training.data.synthetic import INDEX_FILE, read_synthetic
from training.data.tum import CAMERAS, DISTORTION, read_tum
from training.errors import DataError
from training.prepare.bags import BagOptions, bag_streams
from training.prepare.frames import FrameStream
from training.prepare.nyu import LAYOUT, LabeledNyu, NyuFolder, nyu_pairs
from training.prepare.records import RecordStream
from training.prepare.video import VIDEO_SUFFIXES, VideoStream

Kind = Literal["kitti_raw", "kitti_odometry", "kitti_2015", "tum", "synthetic", "nyu", "video", "folder", "bag"]


@dataclass(frozen=True)
class SourceOptions:
    """Which frames of a source are prepared.

    Args:
        select: drives (kitti_raw, synthetic), sequences (kitti_odometry) or lists (kitti_2015); empty takes all.
        cameras: image folders (kitti_raw, kitti_odometry).
        split_file: list of frames, `FOLDER INDEX l|r` a line (kitti_raw, kitti_odometry), with their neighbours.
        depth_path: folder of KITTI depth PNGs (kitti_raw), instead of velodyne scans.
        camera_file: calibration as ROS camera_calibration writes it (folder, video); it may have lens distortion.
        rate: frames a second of a folder without stamps (folder, nyu).
        freiburg: the Kinect that recorded (tum).
        stereo: frames bring what the other camera of their rectified pair saw (kitti_raw, kitti_odometry, kitti_2015).
        exclude_eigen_test: leave out what is of the 28 drives of Eigen's test set, by name.
        bag: topics (bag).
    """

    select: list[str] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    split_file: Path | None = None
    depth_path: Path | None = None
    camera_file: Path | None = None
    rate: float = 10.0
    freiburg: Literal[1, 2, 3] = 1
    stereo: bool = False
    exclude_eigen_test: bool = False
    bag: BagOptions = field(default_factory=BagOptions)


OPTIONS_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "kitti_raw": ("select", "cameras", "split_file", "depth_path", "stereo", "exclude_eigen_test"),
    "kitti_odometry": ("select", "cameras", "split_file", "stereo", "exclude_eigen_test"),
    "kitti_2015": ("select", "stereo"),
    "tum": ("freiburg",),
    "synthetic": ("select",),
    "nyu": ("rate",),
    "video": ("camera_file", "exclude_eigen_test"),
    "folder": ("camera_file", "rate", "exclude_eigen_test"),
    "bag": ("bag", "exclude_eigen_test"),
}


@dataclass(frozen=True)
class OpenedSource:
    """A source's streams, the files that it lacks, and the sequences that were left out by name."""

    kind: Kind
    streams: list[FrameStream]
    missing: MissingFiles
    excluded: list[str]


def open_source(path: Path, kind: Kind | None, options: SourceOptions) -> OpenedSource:
    """The recordings at `path`.

    Args:
        kind: what it is; None to see by the names of its files.

    Raises:
        DataError: there is nothing, nothing that can be told, or an option belongs to another kind.
    """
    if not path.exists():
        raise DataError(f"no {path}: expected a file or folder of frames")
    path = path.resolve()  # an output prepared from here and from elsewhere is the same
    kind = kind or detect_kind(path)
    _check_options(kind, options)
    missing = MissingFiles(kind, path)
    streams: list[FrameStream] = _OPENERS[kind](path, options, missing)
    if not streams:
        raise DataError(f"{path} has no frames of kind {kind}")
    excluded = [stream.name for stream in streams if options.exclude_eigen_test and _is_eigen_test(stream)]
    return OpenedSource(kind, [stream for stream in streams if stream.name not in excluded], missing, excluded)


def detect_kind(path: Path) -> Kind:
    """What `path` is, by the names of what lies there; a folder of images if nothing tells more.

    Raises:
        DataError: nothing tells.
    """
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return "video"
    if path.is_file() and path.suffix.lower() == ".mat":
        return "nyu"
    signs: list[tuple[Kind, Callable[[], bool]]] = [
        ("kitti_raw", lambda: _kitti_raw_root(path) is not None),
        ("kitti_odometry", (path / "sequences").is_dir),
        ("kitti_2015", lambda: any((root / "disp_occ_0").is_dir() for root in (path, path / "training"))),
        ("tum", (path / "associations.txt").is_file),
        ("synthetic", lambda: any(path.glob(f"*/{INDEX_FILE}"))),
        ("bag", lambda: bool(bag_streams(path, BagOptions()))),
        ("nyu", lambda: any(nyu_pairs(folder) for folder in _folders(path))),
        ("folder", lambda: any(image_files(folder) for folder in _folders(path))),
    ]
    for kind, applies in signs:
        if applies():
            return kind
    raise DataError(f"{path} is nothing that frames are known to be in: say with --kind what it is")


def _folders(path: Path) -> list[Path]:
    return [path, *sorted(folder for folder in path.rglob("*") if folder.is_dir())] if path.is_dir() else []


def _kitti_raw(path: Path, options: SourceOptions, missing: MissingFiles) -> list[FrameStream]:
    root, drives = _kitti_raw_root(path) or (path, [])
    cameras = options.cameras or ["image_02"]
    selected = options.select or drives or None
    depth, listed = options.depth_path, options.split_file
    records = read_kitti_raw(root, selected, cameras, depth, listed, neighbours=1, missing=missing)
    stereo = options.stereo

    def stream(name: str, frames: Sequence[FrameRecord]) -> RecordStream:
        source = _described(frames[0].image.parents[1], listed=listed, depth=depth, stereo=stereo or None)
        return RecordStream(name, source, frames, stereo=stereo)

    return _by_sequence(records, stream)


def _kitti_raw_root(path: Path) -> tuple[Path, list[str]] | None:
    """The folder of the days and the drives that are meant, where `path` is that folder, a day's, or a drive's."""
    if path.name.endswith("_sync") and any(path.glob("image_0?")):
        return path.resolve().parents[1], [path.name]
    if any(path.glob("*_sync/image_0?")):
        return path.resolve().parent, sorted(drive.name for drive in path.glob("*_sync"))
    return (path, []) if any(path.glob("*/*_sync/image_0?")) else None


def _kitti_odometry(path: Path, options: SourceOptions, missing: MissingFiles) -> list[FrameStream]:
    cameras = options.cameras or ["image_2", "image_0"]
    selected, listed, stereo = options.select or None, options.split_file, options.stereo
    records = read_kitti_odometry(path, selected, cameras, listed, neighbours=1, missing=missing)

    def stream(name: str, frames: Sequence[FrameRecord]) -> RecordStream:
        source = _described(frames[0].image.parent, listed=listed, stereo=stereo or None)
        return RecordStream(name, source, frames, stereo=stereo)

    return _by_sequence(records, stream)


def _kitti_2015(path: Path, options: SourceOptions, missing: MissingFiles) -> list[FrameStream]:
    lists: list[str | None] = [*options.select] or [None]
    records = [record for name in lists for record in read_kitti_2015(path, name, missing)]
    name = "_".join(["kitti_2015", *options.select])
    source = " ".join([str(path), *options.select, *["stereo"] * options.stereo])
    return [RecordStream(name, source, records, stereo=options.stereo, unrelated=True)]


def _tum(path: Path, options: SourceOptions, _: MissingFiles) -> list[FrameStream]:
    ideal, coefficients = CAMERAS[options.freiburg], DISTORTION[options.freiburg]
    lens = PinholeCamera(ideal.width, ideal.height, ideal.fx, ideal.fy, ideal.cx, ideal.cy, "plumb_bob", coefficients)
    records = read_tum(path, options.freiburg, is_rectified_later=True)
    return _by_sequence(records, lambda name, frames: RecordStream(name, str(path), frames, lens=lens))


def _synthetic(path: Path, options: SourceOptions, _: MissingFiles) -> list[FrameStream]:
    records = read_synthetic(path, options.select or None)
    return _by_sequence(records, lambda name, frames: RecordStream(name, str(path / name), frames))


def _folder(path: Path, options: SourceOptions, _: MissingFiles) -> list[FrameStream]:
    lens = _lens(options)
    records = read_folder(path, rate=options.rate)

    def stream(name: str, frames: Sequence[FrameRecord]) -> RecordStream:
        return RecordStream(name, _described(frames[0].image.parent, rate=options.rate, camera=lens), frames, lens)

    return _by_sequence(records, stream)


def _video(path: Path, options: SourceOptions, _: MissingFiles) -> list[FrameStream]:
    lens = _lens(options)
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.suffix.lower() in VIDEO_SUFFIXES)
    return [VideoStream(file, lens) for file in files]


def _nyu(path: Path, options: SourceOptions, _: MissingFiles) -> list[FrameStream]:
    if path.is_file():
        return [LabeledNyu(path)]
    scenes = [folder for folder in _folders(path) if nyu_pairs(folder)]
    if not scenes:
        raise DataError(f"{path} has no frames of NYU Depth v2: expected {LAYOUT}")
    return [NyuFolder(path, folder, options.rate) for folder in scenes]


def _bag(path: Path, options: SourceOptions, _: MissingFiles) -> list[FrameStream]:
    return list(bag_streams(path, options.bag))


_OPENERS: dict[Kind, Callable[[Path, SourceOptions, MissingFiles], list[FrameStream]]] = {
    "kitti_raw": _kitti_raw,
    "kitti_odometry": _kitti_odometry,
    "kitti_2015": _kitti_2015,
    "tum": _tum,
    "synthetic": _synthetic,
    "nyu": _nyu,
    "video": _video,
    "folder": _folder,
    "bag": _bag,
}


def _described(folder: Path, **parts: object) -> str:
    """A source's name: its folder, and what else decides what comes of it."""
    return " ".join([str(folder), *(f"{name} {value}" for name, value in parts.items() if value is not None)])


def _by_sequence(
    records: Iterable[FrameRecord], stream: Callable[[str, Sequence[FrameRecord]], RecordStream]
) -> list[FrameStream]:
    """A stream for each sequence, its frames in order of their numbers."""
    ordered = sorted(records, key=lambda record: (record.sequence, record.index))
    return [stream(name, tuple(frames)) for name, frames in groupby(ordered, key=lambda record: record.sequence)]


def _lens(options: SourceOptions) -> PinholeCamera | None:
    return None if options.camera_file is None else read_calibration(options.camera_file)


def _is_eigen_test(stream: FrameStream) -> bool:
    return kitti_drive(stream.name, stream.source) in EIGEN_TEST_DRIVES


def _check_options(kind: Kind, options: SourceOptions) -> None:
    default = SourceOptions()
    given = [name for name in vars(default) if getattr(options, name) != getattr(default, name)]
    foreign = sorted(set(given) - set(OPTIONS_OF_KIND[kind]))
    if foreign:
        has = ", ".join(OPTIONS_OF_KIND[kind])
        raise DataError(f"a source of kind {kind} has no {', '.join(foreign)}; it has {has}")
    if options.split_file is not None and (options.select or options.cameras):
        raise DataError(f"split_file {options.split_file} takes the place of select and cameras: leave these out")
