"""What does a motion model know: the focal length of cameras and zooms that it never saw, turns, and is that of use?

Held-out synthetic drives and walks of many cameras, KITTI 0095 and the handheld TUM sequence, each zoomed by crops of
the middle; then the estimator of intrinsics with the model and without. Recordings are those of shared/data beside the
repository, and are left out where it is not there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import matplotlib
import numpy as np
from common import OUTPUT, report
from intrinsics import CROPS, REPOSITORY, SHARED, NetworkDepth, Sample, kitti
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from depth_node.backends import create_motion_backend
from depth_node.backends.interface import MotionBackend, MotionPrediction
from depth_node.camera import PinholeCamera
from depth_node.frames import NetworkView
from depth_node.intrinsics import IntrinsicsEstimator
from depth_node.intrinsics.observation import MotionObserver
from depth_node.model import read_motion_model
from depth_node.model_spec import MotionSpec
from depth_node.shipped_models import MeasuredFacts, write_facts
from depth_node.synthetic import handheld_walk, street_drive, street_world
from training.data.tum import read_tum

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ZOOMS = (0.7, 0.83, 1.0, 1.18, 1.4)  # the first shows whole images, the last half of their width
HELD_OUT = 9000  # seeds from here on: no recipe's
SYNTHETIC_SIZE = (384, 192)


@dataclass(frozen=True)
class Pair:
    """Neighbouring images uint8 [H, W, 3] of one camera; T_b_a: float64 [4, 4], None where nobody measured it."""

    a: NDArray[np.uint8]
    b: NDArray[np.uint8]
    camera: PinholeCamera
    T_b_a: NDArray[np.float64] | None

    def zoomed(self, zoom: float) -> Pair:
        """The middle of it, as a lens with a focal length longer by that factor relative to `ZOOMS` shows it."""
        share = ZOOMS[0] / zoom
        width, height = round(share * self.camera.width), round(share * self.camera.height)
        x, y = (self.camera.width - width) // 2, (self.camera.height - height) // 2
        a, b = (np.ascontiguousarray(image[y : y + height, x : x + width]) for image in (self.a, self.b))
        return Pair(a, b, self.camera.cropped(x, y, width, height), self.T_b_a)


class Model:
    """The model file on the CPU, given images of any size."""

    def __init__(self, path: Path) -> None:
        self.spec: MotionSpec = read_motion_model(path).spec
        self.backend: MotionBackend = create_motion_backend(read_motion_model(path))

    def __call__(self, pair: Pair) -> MotionPrediction:
        size = self.spec.input_width, self.spec.input_height
        a, b = (cv2.resize(image, size, interpolation=cv2.INTER_AREA)[None] for image in (pair.a, pair.b))
        return self.backend.infer(a, b)


def synthetic(walks: bool, cameras: int) -> Iterator[Pair]:
    """One pair of each of so many cameras in worlds of their own."""
    width, height = SYNTHETIC_SIZE
    for seed in range(HELD_OUT, HELD_OUT + cameras):
        fx = width * float(np.exp(np.random.default_rng(seed).uniform(np.log(0.4), np.log(1.1))))
        camera = PinholeCamera(width, height, fx, fx, (width - 1) / 2, (height - 1) / 2)
        world = street_world(seed)
        a, b = handheld_walk(world, camera, 2, seed=seed) if walks else street_drive(world, camera, 2)
        yield Pair(a.rgb, b.rgb, camera, np.linalg.inv(b.T_world_camera) @ a.T_world_camera)


def drive_0095(step: int) -> Iterator[Pair]:
    """Every so many pairs of neighbours of the drive."""
    files, camera = kitti("0095")
    for a, b in islice(pairwise(files), 0, None, step):
        yield Pair(_read(a), _read(b), camera, None)


def tum() -> Iterator[Pair]:
    """The handheld Kinect, as recorded, with motion capture; its lens bends straight lines."""
    for a, b in pairwise(read_tum(SHARED / "tum_fr1_rpy", is_rectified_later=True)):
        if a.pose is None or b.pose is None or b.index - a.index > 1:
            continue
        camera = PinholeCamera(640, 480, 517.3, 516.5, 318.6, 255.3)
        yield Pair(_read(a.image), _read(b.image), camera, np.linalg.inv(b.pose) @ a.pose)


def _read(path: Path) -> NDArray[np.uint8]:
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])


@dataclass(frozen=True)
class Focal:
    """log f of true and predicted cameras, [pairs, zooms], where f = sqrt(fx/W fy/H); and rotations in degrees."""

    true: NDArray[np.float64]
    predicted: NDArray[np.float64]
    turned: NDArray[np.float64]
    turn_error: NDArray[np.float64]

    @property
    def slope(self) -> float:
        """Of predicted over true log f of the same pair, zoomed: 1 where a zoom by s makes the prediction s times as
        long, 0 where it changes nothing."""
        x, y = (values - values.mean(axis=1, keepdims=True) for values in (self.true, self.predicted))
        return float((x * y).sum() / np.square(x).sum())

    def row(self, name: str) -> dict[str, Any]:
        error = self.predicted - self.true
        best_constant = np.abs(self.true - np.median(self.true))
        return {
            "stream": name,
            "pairs": len(self.true),
            **{f"zoom {zoom:g}": 100 * float(np.expm1(np.median(error[:, i]))) for i, zoom in enumerate(ZOOMS)},
            "slope": self.slope,
            "error_percent": 100 * float(np.abs(error).mean()),
            "best_constant_percent": 100 * float(best_constant.mean()),
            "turned_deg": float(np.mean(self.turned)) if self.turned.size else None,
            "turn_error_deg": float(np.mean(self.turn_error)) if self.turn_error.size else None,
        }


def look(model: Model, pairs: Iterator[Pair]) -> Focal:
    """What the model says of pairs and their zooms; turns are compared unzoomed."""
    true, predicted, turned, turn_error = [], [], [], []
    for pair in pairs:
        views = [pair.zoomed(zoom) for zoom in ZOOMS]
        said = [model(view) for view in views]
        true.append([_log_focal(view.camera.normalized()) for view in views])
        predicted.append([_log_focal(answer.intrinsics) for answer in said])
        if pair.T_b_a is not None:
            known = Rotation.from_matrix(pair.T_b_a[:3, :3])
            turned.append(np.degrees(known.magnitude()))
            remaining = known.inv() * Rotation.from_rotvec(said[0].axis_angle)
            turn_error.append(np.degrees(remaining.magnitude()))
    return Focal(*(np.array(values, np.float64) for values in (true, predicted, turned, turn_error)))


def _log_focal(intrinsics: Sequence[float] | NDArray[np.float64]) -> float:
    return 0.5 * float(np.log(intrinsics[0] * intrinsics[1]))


def estimator_rows(model: Model, depth: Path) -> list[dict[str, Any]]:
    """The estimator from 30 % off, alone and with the model's word once a second: error of f over time, in percent."""
    network, rows = NetworkDepth(depth), []
    for drive, crop_name in (("0095", "as recorded"), ("0095", "narrow"), ("9001", "as recorded")):
        files, camera = kitti(drive)
        crop = CROPS[crop_name]
        view = camera if crop is None else camera.cropped(*crop)
        samples = list(network.samples(files, crop))
        for start in (1.3, 0.7):
            for name, observer in (("alone", None), ("with the model", MotionObserver(model.spec, model.backend))):
                errors = _errors(samples, view, start, observer)
                rows.append(
                    {
                        "stream": f"KITTI {drive}, {crop_name}",
                        "start_percent": round(100 * (start - 1)),
                        "estimator": name,
                        **{f"after {s:g} s": float(errors[min(round(10 * s), len(errors) - 1)]) for s in (1, 2, 4)},
                        "at_the_end": float(errors[-1]),
                    }
                )
    return rows


def _errors(
    samples: Sequence[Sample], camera: PinholeCamera, start: float, observer: MotionObserver | None
) -> NDArray[np.float64]:
    fx, fy, _, _ = camera.normalized()
    learner = IntrinsicsEstimator((start * fx, start * fy, 0.5, 0.5), camera.width, camera.height)
    errors = []
    for sample in samples:
        view = NetworkView(sample.stamp_ns, "camera", sample.image, sample.inverse_depth, camera)
        motion = None if observer is None else observer.observe(view)
        estimate = learner.add(sample.image, sample.inverse_depth, sample.stamp_ns, motion)
        errors.append(100 * (estimate.intrinsics[0] / fx - 1))
    return np.array(errors)


def plot(found: dict[str, Focal], path: Path) -> None:
    """Predicted over true f for every stream; each line joins the zooms of one pair."""
    figure, axes = plt.subplots(1, len(found), figsize=(4 * len(found), 4), sharex=True, sharey=True, squeeze=False)
    for axis, (name, focal) in zip(axes[0], found.items(), strict=True):
        for true, predicted in zip(np.exp(focal.true), np.exp(focal.predicted), strict=True):
            axis.plot(true, predicted, linewidth=0.5, alpha=0.4, color="tab:blue")
        span = np.exp([focal.true.min(), focal.true.max()])
        axis.plot(span, span, color="black", linewidth=1)
        axis.set_title(f"{name}: slope {focal.slope:.2f}")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("true f")
    axes[0, 0].set_ylabel("predicted f = sqrt(fx/W · fy/H)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(path)


def keep_facts(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """What the tool `models` says of the file, beside it."""
    model = read_motion_model(path)
    streams = ", ".join(f"{row['error_percent']:.0f} % {row['stream']}" for row in rows)
    facts = MeasuredFacts(
        checksum=model.checksum,
        card=f"{path.stem}.md",
        recipe=model.spec.recipe,
        score=f"focal length: mean error {streams}",
        measured={"streams": rows},
    )
    write_facts(path.with_suffix(".json"), facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "motion.onnx")
    parser.add_argument(
        "--depth", type=Path, default=REPOSITORY / "models" / "depth-base.onnx", help="for the estimator"
    )
    parser.add_argument("--cameras", type=int, default=30, help="synthetic ones, of drives and of walks")
    parser.add_argument("--step", type=int, default=4, help="every so many pairs of KITTI 0095")
    parser.add_argument("--skip-estimator", action="store_true", help="leave out the second table")
    parser.add_argument("--facts", action="store_true", help="write the first table beside the model, for `models`")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    model = Model(options.model)
    streams = {
        "rendered walks": synthetic(True, options.cameras),
        "rendered drives": synthetic(False, options.cameras),
    }
    if SHARED.is_dir():
        streams |= {"KITTI 0095": drive_0095(options.step), "TUM fr1/rpy": tum()}
    found = {name: look(model, pairs) for name, pairs in streams.items()}
    rows = [focal.row(name) for name, focal in found.items()]
    report("motion_model", rows, model=options.model.name)
    if options.facts:
        keep_facts(options.model, rows)
    plot(found, OUTPUT / "motion_model.png")
    if SHARED.is_dir() and not options.skip_estimator:
        report("motion_model_estimator", estimator_rows(model, options.depth), model=options.model.name)


if __name__ == "__main__":
    main()
