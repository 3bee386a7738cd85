"""How near does the estimator of intrinsics come to the true focal length, how honest is it, and what does it cost?

Synthetic worlds with exact depth and with errors like a network's; KITTI drives, and crops of them, which are other
cameras, with the network's depth; a handheld camera with measured depth. Recordings are those of shared/data beside the
repository, and are left out where it is not there.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processor time is compared; the matrices are small

import cv2
import matplotlib
import numpy as np
from common import OUTPUT, report
from numpy.typing import NDArray

from depth_node.backends import create_backend
from depth_node.camera import PinholeCamera, backproject
from depth_node.intrinsics import IntrinsicsEstimate, IntrinsicsEstimator
from depth_node.model import read_model
from depth_node.pipeline import resize_image
from depth_node.sky import SKY_MIN_DEPTH, sky_mask
from depth_node.synthetic import SyntheticFrame, handheld_walk, junction_drive, street_drive, street_world

matplotlib.use("Agg")
import matplotlib.pyplot as plt

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
NORMAL_95 = 1.96

# fx/W and the image's size; 320 pixels or so are half of what the network sees, and a quarter of the time to render.
SYNTHETIC_CAMERAS = ((0.4, 320, 160), (0.58, 384, 128), (0.8, 320, 192), (1.1, 256, 192), (1.5, 320, 160))
# Of every three streams, two are handheld; the third is a vehicle, once at a junction and once in bends.
MOTIONS = ("handheld", "vehicle at a junction", "vehicle in gentle bends, never pitching")
WRONG = "depth off by 14 %"
# Crops x, y, width, height of KITTI's images: other focal lengths, shapes and principal points.
CROPS = {
    "as recorded": None,
    "zoom 1.33": (155, 47, 932, 281),
    "narrow": (310, 0, 621, 375),
    "top left": (0, 0, 1000, 340),
}


@dataclass(frozen=True)
class Sample:
    """An image at the size the estimator gets it, and its inverse depth, NaN where unknown."""

    image: NDArray[np.uint8]
    inverse_depth: NDArray[np.float32]
    stamp_ns: int


@dataclass
class Run:
    """One stream through the estimator: the estimate after every image."""

    camera: PinholeCamera
    stamps_ns: list[int] = field(default_factory=list)
    estimates: list[IntrinsicsEstimate] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def error(self) -> float:
        """Of log f, at the end."""
        return float(np.log(self.estimates[-1].intrinsics[0] / self.camera.normalized()[0]))

    @property
    def is_inside(self) -> bool:
        return abs(self.error) <= NORMAL_95 * self.estimates[-1].relative_sigma

    @property
    def converged_s(self) -> float | None:
        for stamp_ns, estimate in zip(self.stamps_ns, self.estimates, strict=True):
            if estimate.state == "converged":
                return (stamp_ns - self.stamps_ns[0]) * 1e-9
        return None

    def row(self, name: str, start: float) -> dict[str, Any]:
        last = self.estimates[-1]
        return {
            "stream": name,
            "images": len(self.estimates),
            "start_percent": 100 * (start - 1),
            "error_percent": 100 * float(np.expm1(self.error)),
            "sigma_percent": 100 * last.relative_sigma,
            "inside_95": "yes" if self.is_inside else "no",
            "state": last.state,
            "converged_s": self.converged_s,
            "turned_deg": float(np.degrees(last.rotation)),
            "cpu_ms_per_image": 1e3 * self.cpu_s / len(self.estimates),
        }


def estimate(samples: Iterator[Sample], camera: PinholeCamera, start: float) -> Run:
    """From a focal length `start` times the true one, and the middle of the image as principal point."""
    fx, fy, _, _ = camera.normalized()
    learner = IntrinsicsEstimator((start * fx, start * fy, 0.5, 0.5), camera.width, camera.height)
    run = Run(camera)
    for sample in samples:
        begun = process_time()
        run.estimates.append(learner.add(sample.image, sample.inverse_depth, sample.stamp_ns))
        run.cpu_s += process_time() - begun
        run.stamps_ns.append(sample.stamp_ns)
    return run


def synthetic_stream(motion: str, seed: int) -> tuple[PinholeCamera, list[SyntheticFrame]]:
    """A short stream of one of `MOTIONS`, or of pure translation, by one of `SYNTHETIC_CAMERAS`."""
    fx, width, height = SYNTHETIC_CAMERAS[seed % len(SYNTHETIC_CAMERAS)]
    camera = PinholeCamera(width, height, fx * width, fx * width, width / 2 - 0.5, height / 2 - 0.5)
    if motion == "vehicle at a junction":
        return camera, list(junction_drive(camera, 80, seed=seed))
    world = street_world(seed)
    if motion == "vehicle in gentle bends, never pitching":
        return camera, list(street_drive(world, camera, 40, speed=8.0, start=10.0))
    turning, speed = (1.0, 0.8) if motion == "handheld" else (0.0, 6.0)
    return camera, list(handheld_walk(world, camera, 26, seed=seed, turning=turning, speed=speed))


def synthetic_run(camera: PinholeCamera, frames: Sequence[SyntheticFrame], seed: int, noise: float) -> Run:
    """A start up to 30 % off. noise: of depth, relative; of what stays the same, and again of what is new each time."""
    rng = np.random.default_rng(seed)
    start = float(np.exp(rng.uniform(np.log(0.7), np.log(1.3))))
    size = camera.width, camera.height
    bias = cv2.resize(rng.normal(0, noise, (3, 4)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)

    def samples() -> Iterator[Sample]:
        for frame in frames:
            fresh = rng.normal(0, noise, (camera.height // 16, camera.width // 16)).astype(np.float32)
            errors = bias + cv2.resize(fresh, size, interpolation=cv2.INTER_CUBIC)
            yield Sample(frame.rgb, (np.exp(errors) / frame.depth).astype(np.float32), frame.stamp_ns)

    return estimate(samples(), camera, start)


def synthetic_rows(runs: int) -> list[dict[str, Any]]:
    rows = []
    for motion in MOTIONS:
        exact, wrong = [], []
        for seed in range(runs):
            if (motion == "handheld") == (seed % 3 != 0):
                camera, frames = synthetic_stream(motion, seed)
                exact.append(synthetic_run(camera, frames, seed, noise=0.0))
                wrong.append(synthetic_run(camera, frames, seed, noise=0.1))
        rows += [_summary(f"{motion}, {name}", done) for name, done in (("true depth", exact), (WRONG, wrong)) if done]
    still = [synthetic_run(*synthetic_stream("", seed), seed, noise=0.0) for seed in range(max(1, runs // 5))]
    rows.append(_summary("pure translation, true depth", still))
    return rows


def _summary(streams: str, runs: Sequence[Run]) -> dict[str, Any]:
    errors = 100 * np.abs([run.error for run in runs])
    converged = np.array([run.estimates[-1].state == "converged" for run in runs])
    sigmas = 100 * np.array([run.estimates[-1].relative_sigma for run in runs])
    return {
        "streams": streams,
        "runs": len(runs),
        "error_percent_median": float(np.median(errors)),
        "p90": float(np.quantile(errors, 0.9)),
        "worst": float(errors.max()),
        "sigma_percent_median": float(np.median(sigmas)),
        "least": float(sigmas.min()),
        "inside_95": sum(run.is_inside for run in runs) / len(runs),
        "converged": float(converged.mean()),
        "worst_error_percent_of_converged": float(errors[converged].max()) if converged.any() else None,
    }


class NetworkDepth:
    """Images of files at the network's input size, with its depth."""

    def __init__(self, model: Path) -> None:
        self._spec = read_model(model).spec
        self._backend = create_backend(read_model(model))

    def samples(
        self, files: Sequence[Path], crop: tuple[int, int, int, int] | None, rate: float = 10.0
    ) -> Iterator[Sample]:
        """Images of files, or a crop of them: x, y, width, height."""
        size = self._spec.input_height, self._spec.input_width
        for number, file in enumerate(files):
            image = np.ascontiguousarray(cv2.imread(str(file))[:, :, ::-1])
            if crop is not None:
                x, y, width, height = crop
                image = np.ascontiguousarray(image[y : y + height, x : x + width])
            resized = np.empty((*size, 3), np.uint8)
            resize_image(image, resized)
            inverse = self._backend.infer(resized[None]).output[0]
            sky = sky_mask(resized, (1 / inverse).astype(np.float32), SKY_MIN_DEPTH).view(np.uint8)
            inverse[cv2.resize(sky, size[::-1], interpolation=cv2.INTER_NEAREST).view(bool)] = np.nan
            yield Sample(resized, inverse, round(number * 1e9 / rate))


def kitti(drive: str, scale: float = 1.0) -> tuple[list[Path], PinholeCamera]:
    """Files and camera of a drive of 2011_09_26, whose images are stored at `scale`."""
    folder = SHARED / "kitti_raw" / "2011_09_26" / f"2011_09_26_drive_{drive}_sync"
    files = sorted((folder / ("image_02" if scale == 1 else "image_00")).rglob("*.jpg"))
    camera = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854)
    return files, camera if scale == 1 else camera.resized(round(1242 * scale), round(375 * scale))


def tum() -> Iterator[Sample]:
    """The handheld Kinect: undistorted images and measured depth. Its camera is `TUM_CAMERA`."""
    folder = SHARED / "tum_fr1_rpy"
    matrix = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1.0]])
    distortion = np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])
    size = TUM_CAMERA.width, TUM_CAMERA.height
    maps = cv2.initUndistortRectifyMap(matrix, distortion, np.eye(3), TUM_CAMERA.matrix(), size, cv2.CV_32FC1)
    for line in (folder / "associations.txt").read_text().splitlines():
        stamp, image_name, _, depth_name = line.split()
        image = cv2.remap(cv2.imread(str(folder / image_name))[:, :, ::-1], *maps, cv2.INTER_LINEAR)
        depth = cv2.remap(cv2.imread(str(folder / depth_name), cv2.IMREAD_UNCHANGED), *maps, cv2.INTER_NEAREST)
        with np.errstate(divide="ignore"):
            inverse = np.where(depth > 0, 5000 / depth.astype(np.float32), np.nan).astype(np.float32)
        yield Sample(np.ascontiguousarray(image), inverse, round(float(stamp) * 1e9))


TUM_CAMERA = PinholeCamera(640, 480, 517.3, 517.3, 319.5, 239.5)


def real_rows(model: Path) -> tuple[list[dict[str, Any]], list[Run], Sample]:
    """Rows, the two runs of the drive of 268 images, and its last image."""
    network = NetworkDepth(model)
    files, camera = kitti("0095")
    rows, whole, last = [], [], None
    for name, crop in CROPS.items():
        view = camera if crop is None else camera.cropped(*crop)
        samples = list(network.samples(files, crop))
        for start in (1.3, 0.7):
            run = estimate(iter(samples), view, start)
            rows.append(run.row(f"KITTI 0095, {name}", start))
            if crop is None:
                whole.append(run)
                last = samples[-1]
    files, camera = kitti("0039", 2 / 3)
    straight = network.samples(files[45:136], None)
    for name, samples_of in (("0039", network.samples(files, None)), ("0039, 91 images nearly straight", straight)):
        rows.append(estimate(samples_of, camera, 1.3).row(f"KITTI {name}", 1.3))
    files, camera = kitti("9001")
    rows.append(estimate(network.samples(files, None), camera, 1.3).row("KITTI 9001, 78 images, queueing", 1.3))
    for start in (1.3, 0.7):
        rows.append(estimate(tum(), TUM_CAMERA, start).row("TUM fr1/rpy, handheld, measured depth", start))
    assert last is not None
    return rows, whole, last


def plot_runs(runs: Sequence[Run], path: Path) -> None:
    """f over time with its band; rotation per window below it."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6), sharex=True, height_ratios=(3, 1))
    for run in runs:
        seconds = (np.array(run.stamps_ns) - run.stamps_ns[0]) * 1e-9
        focal_length = np.array([estimate.intrinsics[0] for estimate in run.estimates]) * run.camera.width
        sigma = np.array([estimate.relative_sigma for estimate in run.estimates])
        (line,) = above.plot(seconds, focal_length)
        band = focal_length * np.exp(-NORMAL_95 * sigma), focal_length * np.exp(NORMAL_95 * sigma)
        above.fill_between(seconds, *band, alpha=0.2, color=line.get_color())
        turned = np.degrees(np.diff([estimate.rotation for estimate in run.estimates], prepend=0))
        below.bar(seconds, turned, width=0.3, color=line.get_color(), alpha=0.5)
    above.axhline(runs[0].camera.fx, color="black", linewidth=1, label="calibration")
    above.set_ylabel("focal length and 95 %, pixels")
    above.set_ylim(0.6 * runs[0].camera.fx, 1.5 * runs[0].camera.fx)
    above.legend()
    below.set_ylabel("rotation per\nwindow, degrees")
    below.set_xlabel("seconds")
    _save(figure, path)


def plot_clouds(run: Run, sample: Sample, path: Path) -> None:
    """The last image's points from above, with the camera as at the start, at the end, and the true one."""
    height, width = sample.inverse_depth.shape
    depth = 1 / sample.inverse_depth
    rows = slice(height // 2, None, 2)
    figure, axes = plt.subplots(1, 3, figsize=(12, 5), sharex=True, sharey=True)
    cameras = {
        "at the start": run.estimates[0].intrinsics,
        "learned": run.estimates[-1].intrinsics,
        "calibration": run.camera.normalized(),
    }
    true_fx = run.camera.normalized()[0]
    for axis, (name, intrinsics) in zip(axes, cameras.items(), strict=True):
        # A metric network's depth grows with the focal length (docs/architecture.md).
        scaled = (depth * (intrinsics[0] / true_fx)).astype(np.float32)
        points = backproject(scaled, PinholeCamera.from_normalized(intrinsics, width, height))[rows, ::2].reshape(-1, 3)
        color = sample.image[rows, ::2].reshape(-1, 3) / 255
        axis.scatter(points[:, 0], points[:, 2], s=0.5, c=color)
        axis.set_facecolor("#7d8794")  # roads are bright
        axis.set_title(f"{name}: f = {intrinsics[0] * run.camera.width:.0f} pixels")
        axis.set_xlabel("x, metres")
    axes[0].set_ylabel("z, metres")
    axes[0].set_xlim(-15, 15)
    axes[0].set_ylim(0, 40)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="synthetic streams; 0 leaves them out")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "depth-base.onnx")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.runs:
        report("intrinsics_synthetic", synthetic_rows(options.runs), runs=options.runs)
    if not SHARED.is_dir():
        print(f"{SHARED} is not there: no recorded streams")
        return
    rows, whole, last = real_rows(options.model)
    report("intrinsics", rows, model=options.model.name)
    plot_runs(whole, OUTPUT / "intrinsics.png")
    plot_clouds(whole[0], last, OUTPUT / "intrinsics_cloud.png")


if __name__ == "__main__":
    main()
