"""How far off metric scale is, per frame, from the camera's height and from odometry, and whether its sigma says so.

What a frame's depth has to be multiplied by, truly, is the median over its pixels of true depth over depth: with that
factor, half of them are too near and half too far. **error_percent**: of the factor in use when the frame came, against
that: median, 5th and 95th percentile; **constant_percent**: the same of the best single factor for the whole drive,
which is the depth's own unsteadiness; **of_medians_percent** and **constant_of_medians_percent**: both against the
median of true depth over the median of depth, by which papers scale depth. That one jumps where few pixels are about as
far as the median. **known**: share of frames for which the scale was known then; **sigma_percent**: median of what the
estimate said of itself; **covered**: share of errors below twice that. Images are shown to odometry at 10 Hz, as in the
node.

Synthetic streets have exact truth; their depth is exact, or with smooth errors, or the model's. KITTI is read from
--data (docs/training.md has the layout); sequences with poses, but no true depth, show how far sources are apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from common import OUTPUT, report
from numpy.typing import NDArray
from scale_drives import KITTI_HEIGHT, Shot, drives, oxts_speeds, raw_drive, shot

from depth_node.backends import create_backend
from depth_node.model import read_model
from depth_node.pipeline import DepthOptions, DepthPipeline
from depth_node.resources import find_model
from depth_node.scale import (
    CameraHeightScale,
    ScaleEstimate,
    ScaleSource,
    VisualOdometryScale,
    create_scale_source,
    ground_plane,
    unknown_scale,
)
from depth_node.scale.filter import NETWORK_SIGMA
from depth_node.scale.pyramid import make_pyramid
from depth_node.scale.visual_motion import visual_motion
from training.data.kitti_2015 import read_kitti_2015

MAX_DEPTH = 80.0
VIEW_RATE = 10.0  # Hz
MIN_DRAWN = 50  # frames
COLORS = {"camera_height": "tab:blue", "odometry": "tab:orange"}


@dataclass(frozen=True)
class Track:
    """What one source said of the frames of a drive: estimates before each, and the true factors (NaN if unknown).

    truth: medians of ratios. of_medians: ratios of medians.
    """

    drive: str
    source: str
    estimates: Sequence[ScaleEstimate]
    truth: NDArray[np.float64]
    of_medians: NDArray[np.float64]
    milliseconds: float

    @classmethod
    def of(cls, drive: str, source: str, estimates: Sequence[ScaleEstimate], shots: Sequence[Shot], ms: float) -> Track:
        truth = np.array([true_factors(shot) for shot in shots])
        return cls(drive, source, estimates, truth[:, 0], truth[:, 1], ms)

    @property
    def factors(self) -> NDArray[np.float64]:
        return np.array([e.factor if e.is_known else np.nan for e in self.estimates])

    @property
    def sigmas(self) -> NDArray[np.float64]:
        return np.array([e.relative_sigma for e in self.estimates])


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="depth-base", help="model file, or the name of a shipped one")
    parser.add_argument("--data", type=Path, help="folder with kitti_raw, kitti_depth and kitti_odometry")
    parser.add_argument(
        "--frames", type=int, default=150, help="of each synthetic street, and of each sequence at most"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=(11, 12), help="of the synthetic streets")
    arguments = parser.parse_args()
    model = read_model(find_model(arguments.model))
    pipeline = DepthPipeline(model, create_backend(model), DepthOptions(output_resolution="model", remove_sky=False))

    tracks = []
    for name, shots, height in drives(pipeline, arguments):
        sources = (
            ("camera_height", "odometry", "auto") if any(s.velocity is not None for s in shots) else ("camera_height",)
        )
        tracks += [follow(name, source, shots, height) for source in sources]
        print(f"{name}: {len(shots)} frames", file=sys.stderr)
    if arguments.data is not None:
        tracks += single_frames(pipeline, arguments.data)
    report("scale", [row(track) for track in tracks], model=str(model.path), options=vars(arguments) | {"data": None})
    drawn = [track for track in tracks if len(track.truth) > MIN_DRAWN]
    if drawn:
        draw(drawn, OUTPUT / "scale.png")
        print(OUTPUT / "scale.png")
    return 0


def single_frames(pipeline: DepthPipeline, data: Path) -> list[Track]:
    """Where frames do not follow each other: each one's own ground, and the median of the few pairs that have oxts."""
    stereo = [shot(pipeline, record, None) for record in read_kitti_2015(data / "kitti_2015", "validation")]
    drive = data / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0001_sync"
    lidar = raw_drive(pipeline, data, "0001", oxts_speeds(drive))
    pairs = [(a, b) for a, b in pairwise(lidar) if a.velocity is not None and b.velocity is not None]
    factor = float(np.median([pair_factor(a, b) for a, b in pairs]))
    seen = [s for s in lidar if s.truth is not None]
    return [
        each_ground("KITTI 2015, stereo and lidar", stereo),
        each_ground("KITTI raw 0001, lidar", seen),
        Track.of(
            "KITTI raw 0001, lidar",
            f"odometry, {len(pairs)} pairs",
            [ScaleEstimate(factor, "odometry", NETWORK_SIGMA)] * len(seen),
            seen,
            float("nan"),
        ),
    ]


def pair_factor(a: Shot, b: Shot) -> float:
    """Distance by odometry over the distance seen, between two frames."""
    assert a.velocity is not None
    assert b.velocity is not None
    views = [make_pyramid(s.image, np.reciprocal(s.depth), s.stamp_ns) for s in (a, b)]
    driven = np.linalg.norm(a.velocity + b.velocity) / 2 * (b.stamp_ns - a.stamp_ns) * 1e-9
    return float(driven / visual_motion(views[0], views[1], a.camera).distance)


def each_ground(name: str, shots: Sequence[Shot]) -> Track:
    """The factor that each frame's own ground gives, without a filter."""
    estimates = []
    started = process_time()
    for s in shots:
        plane = ground_plane(s.depth, s.camera)
        estimates.append(
            unknown_scale("no ground")
            if plane is None
            else ScaleEstimate(KITTI_HEIGHT / plane.height, "ground", NETWORK_SIGMA)
        )
    milliseconds = 1e3 * (process_time() - started) / len(shots)
    return Track.of(name, "ground of each frame", estimates, shots, milliseconds)


def true_factors(shot: Shot) -> tuple[float, float]:
    """Of true depth up to 80 m and depth: median of the ratio, and ratio of the medians; NaN without truth."""
    if shot.truth is None:
        return float("nan"), float("nan")
    inverse = cv2.resize(1 / shot.depth, shot.truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    valid = (shot.truth <= MAX_DEPTH) & np.isfinite(inverse)
    truth, inverse = shot.truth[valid], inverse[valid]
    return float(np.median(truth * inverse)), float(np.median(truth) * np.median(inverse))


def follow(drive: str, name: str, shots: Sequence[Shot], height: float) -> Track:
    """What a source of scale says before each frame, as the node would use it for that."""
    odometry = VisualOdometryScale()
    source: ScaleSource = (
        CameraHeightScale(height)
        if name == "camera_height"
        else create_scale_source(name, odometry, metric=False, camera_height=height)
    )
    estimates, seconds, shown = [], 0.0, 0
    for each in shots:
        started = process_time()
        estimates.append(source.update(each.depth, each.camera))
        seconds += process_time() - started
        if name == "camera_height":
            continue
        if each.velocity is not None:
            odometry.odometry.add_velocity(each.stamp_ns, each.velocity, np.zeros(3))
        if not 0 <= each.stamp_ns - shown < 0.9e9 / VIEW_RATE:
            shown = each.stamp_ns
            started = process_time()
            odometry.add(each.image, np.reciprocal(each.depth), each.camera, each.stamp_ns)
            seconds += process_time() - started
    return Track.of(drive, name, estimates, shots, 1e3 * seconds / len(shots))


def row(track: Track) -> dict[str, Any]:
    """A line of the table."""
    factors, sigmas, truth = track.factors, track.sigmas, track.truth
    errors = off(factors, truth)
    is_comparable = np.isfinite(errors)
    return {
        "drive": track.drive,
        "source": track.source,
        "frames": len(truth),
        "known": float(np.isfinite(factors).mean()),
        "true_factor": percentiles(truth, 1.0),
        "factor": percentiles(factors, 1.0),
        "error_percent": percentiles(errors, 100.0),
        "constant_percent": percentiles(off(best_constant(truth), truth), 100.0),
        "of_medians_percent": percentiles(off(factors, track.of_medians), 100.0),
        "constant_of_medians_percent": percentiles(off(best_constant(track.of_medians), track.of_medians), 100.0),
        "sigma_percent": 100 * float(np.nanmedian(sigmas)) if np.isfinite(sigmas).any() else None,
        "covered": float(np.mean((errors < 2 * sigmas)[is_comparable])) if is_comparable.any() else None,
        "ms_per_frame": track.milliseconds,
    }


def off(factors: NDArray[np.float64] | float, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative errors; NaN where either is unknown."""
    errors: NDArray[np.float64] = np.abs(factors / truth - 1)
    return errors


def best_constant(truth: NDArray[np.float64]) -> float:
    return float(np.nanmedian(truth)) if np.isfinite(truth).any() else float("nan")


def percentiles(values: NDArray[np.float64], times: float) -> tuple[float, ...] | None:
    """Median, 5th and 95th percentile."""
    values = values[np.isfinite(values)]
    return tuple(float(times * v) for v in np.percentile(values, [50, 5, 95])) if len(values) else None


def draw(tracks: Sequence[Track], path: Path) -> None:
    """Factor over frames with twice its sigma, and the true factors."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(track.drive for track in tracks))
    rows = -(-len(names) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12, 2.4 * rows), squeeze=False, constrained_layout=True)
    for axis, name in zip(axes.flat, names, strict=False):
        for track in (t for t in tracks if t.drive == name and t.source in COLORS):
            color = COLORS[track.source]
            x, factor = np.arange(len(track.truth)), track.factors
            axis.plot(x, factor, color=color, label=track.source)
            axis.fill_between(
                x, factor * (1 - 2 * track.sigmas), factor * (1 + 2 * track.sigmas), color=color, alpha=0.15
            )
            axis.plot(
                x, track.truth, "k.", markersize=2, label="true, per frame" if track.source == "odometry" else None
            )
        axis.set_title(name, fontsize=9)
    for axis in list(axes.flat)[len(names) :]:
        axis.set_axis_off()
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("frame")
    figure.supylabel("metres per unit of depth; bands: two sigma")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
