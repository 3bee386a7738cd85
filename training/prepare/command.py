"""`python -m training prepare`: any recording as frames at the resolution that is trained at."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from training.command_line import run_function
from training.errors import DataError
from training.prepare.bags import BagOptions
from training.prepare.format import INDEX_FILE, claim_output, write_atomically
from training.prepare.frames import FrameStream, PrepareOptions
from training.prepare.instances import Segmenter, write_instance_masks
from training.prepare.progress import Outcome
from training.prepare.recordings import INTERRUPTED, exit_code, prepare_recordings
from training.prepare.shards import write_shards
from training.prepare.sources import Kind, OpenedSource, SourceOptions, open_source

MISSING_FILE = "missing.txt"

SHOWN = 5

logger = logging.getLogger(__name__)


def prepare(
    sources: list[Path],
    output: Path,
    kind: Kind | None = None,
    width: int = 640,
    height: int = 192,
    format: Literal["jpg", "png"] = "jpg",
    quality: int = 92,
    chroma: Literal["444", "420"] = "444",
    rectify: bool = True,
    keep_still: bool = False,
    max_gap: float = 0.5,
    select: list[str] | None = None,
    cameras: list[str] | None = None,
    split_file: Path | None = None,
    exclude_eigen_test: bool = False,
    depth_path: Path | None = None,
    camera_file: Path | None = None,
    rate: float = 10.0,
    freiburg: Literal[1, 2, 3] = 1,
    stereo: bool = False,
    instances: bool = False,
    instances_weights: Path | None = None,
    image_topic: str | None = None,
    camera_info_topic: str | None = None,
    motion_topic: str | None = None,
    lidar_topic: str | None = None,
    lidar_tolerance: float = 0.05,
    shards: float = 0,
    jobs: int = 0,
    ray: str | None = None,
) -> int:
    """Decode recordings once: rectified, resized, as JPEG or PNG with an index of stamps, cameras, depth and poses.

    Train on them with a source `{kind: prepared, path: OUTPUT}` in a recipe. The same command goes on where it was
    stopped, however it was. Exit code: 0 all is there, 2 something failed, 3 a recording could be read only in part.

    Args:
        sources: folders or files: KITTI raw (all, a day, a drive), KITTI odometry, KITTI 2015, TUM RGB-D, NYU Depth v2,
            synthetic drives, bags, videos, folders of images.
        output: folder to write to; it can be prepared into again, from other sources and with the same options.
        kind: what the sources are, where their files do not tell.
        width: of the prepared frames in pixels.
        height: of the prepared frames in pixels.
        format: jpg, or png for no loss at about four times the size.
        quality: of JPEG, 1 to 100.
        chroma: colour resolution of JPEG: 444 in full, 420 halved both ways.
        rectify: undo lens distortion where the camera is known to have some.
        keep_still: keep frames in which the camera does not move; listed frames are kept in any case.
        max_gap: seconds between frames at which a sequence is split.
        select: drives (kitti_raw, synthetic), sequences (kitti_odometry) or lists (kitti_2015); all by default.
        cameras: image folders (kitti_raw, kitti_odometry).
        split_file: list of frames, `FOLDER INDEX l|r` a line, to be prepared with their neighbours (KITTI).
        exclude_eigen_test: leave out the 28 drives of Eigen's test set, by name.
        depth_path: folder of KITTI depth PNGs, instead of velodyne scans (kitti_raw).
        camera_file: calibration as ROS camera_calibration writes it (folder, video).
        rate: frames a second of folders without stamps.
        freiburg: the Kinect that recorded a TUM sequence.
        stereo: also keep what the other camera of a rectified pair saw (KITTI), as a further source to train with.
        instances: also write masks of persons, vehicles and animals, by Mask R-CNN; masks that are there are kept.
        instances_weights: file of its weights, where they cannot be downloaded.
        image_topic: images of a bag; by default the only one.
        camera_info_topic: by default the one beside the image topic.
        motion_topic: odometry or twist, for speed.
        lidar_topic: PointCloud2, for depth.
        lidar_tolerance: seconds that a scan may lie before or after its image.
        shards: also pack the frames into tar files of about so many megabytes, to be streamed; 0 does not.
        jobs: recordings at a time; 0 for one a core.
        ray: address of a Ray cluster to prepare on, or `local`.
    """
    options = PrepareOptions(width, height, format, quality, chroma, rectify, keep_still or bool(split_file), max_gap)
    source_options = SourceOptions(
        select=select or [],
        cameras=cameras or [],
        split_file=split_file,
        depth_path=depth_path,
        camera_file=camera_file,
        rate=rate,
        freiburg=freiburg,
        stereo=stereo,
        exclude_eigen_test=exclude_eigen_test,
        bag=BagOptions(image_topic, camera_info_topic, motion_topic, lidar_topic, lidar_tolerance),
    )
    opened = [open_source(path, kind, source_options) for path in sources]
    streams = [stream for source in opened for stream in source.streams]
    if not streams:
        excluded = ", ".join(name for source in opened for name in source.excluded)
        raise DataError(f"nothing to prepare: all sequences are of Eigen's test drives ({excluded})")
    _check_names(streams)
    claim_output(output, options)
    segmenter = _mask_rcnn(instances_weights) if instances else None  # without weights, nothing is begun
    _report(opened, output)
    try:
        outcomes = prepare_recordings(streams, output, options, jobs, ray)
        if segmenter is not None:
            print(f"{output}: {write_instance_masks(output, segmenter)} instance masks written")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here")
        return INTERRUPTED
    _report_unreadable(outcomes, output)
    code = exit_code(outcomes)
    if shards and code != 2:
        write_shards(output, shards)
    return code


def main(arguments: Sequence[str]) -> int:
    """Command-line entry."""
    return run_function(prepare, arguments, operand="sources")


def _mask_rcnn(weights: Path | None) -> Segmenter:
    from training.prepare.mask_rcnn import MaskRcnn  # torch and torchvision take seconds to import

    return MaskRcnn(weights)


def _check_names(streams: Sequence[FrameStream]) -> None:
    counts = Counter(stream.name for stream in streams)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(f"several recordings are called {', '.join(twice)}: prepare them into outputs of their own")


def _report(opened: Sequence[OpenedSource], output: Path) -> None:
    """Say what was found, what was left out, and what is missing; all that is missing is listed in a file."""
    lines = []
    for source in opened:
        left_out = f", {len(source.excluded)} of Eigen's test drives left out" if source.excluded else ""
        count = len(source.streams)
        print(f"{source.missing.root}: {source.kind}, {count} sequence{'s' * (count != 1)}{left_out}")
        source.missing.warn(logger)
        lines += [f"{kind}\t{path}" for kind, paths in source.missing.paths.items() for path in paths]
    if lines:
        write_atomically(output / MISSING_FILE, ("\n".join(lines) + "\n").encode())
        logger.warning("all %d missing files are listed in %s", len(lines), output / MISSING_FILE)


def _report_unreadable(outcomes: Sequence[Outcome], output: Path) -> None:
    for outcome in outcomes:
        unreadable = outcome.summary.unreadable if outcome.summary else ()
        for reason in unreadable[:SHOWN]:
            logger.warning("%s: left out: %s", outcome.name, reason)
        if len(unreadable) > SHOWN:
            index = output / outcome.name / INDEX_FILE
            logger.warning("%s: and %d more, listed in %s", outcome.name, len(unreadable) - SHOWN, index)
